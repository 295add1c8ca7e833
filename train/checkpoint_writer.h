// CheckpointWriter: writes checkpoints under a temporary name, every rank its part, while training
// goes on or not.
//
//   begin   all ranks gather the rows, unit by unit; each unit's rows reach the rank that writes
//           its files. A thread of that rank writes and syncs them. In the background, begin()
//           returns as soon as the rows are copied; else it hands on a row when the one before is
//           written, so that one row is all that it keeps.
//   poll    at each step's end the ranks tell each other who has written. When all have, a thread
//           of rank 0 adds state.json and, last, checksums.json, syncs, and renames the folder.
//
// Where any rank fails, nothing of the checkpoint remains, and earlier ones are untouched.
#pragma once

#include <spdlog/logger.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/files.h"
#include "kernels/host_stream.h"
#include "model/hugging_face.h"
#include "train/checkpoint_files.h"

namespace lathe {

/// What a checkpoint needs besides the trainer's rows.
struct CheckpointSurroundings {
    std::filesystem::path tokenizer;  ///< copied
    std::optional<int64_t> end_of_text = std::nullopt;
    std::shared_ptr<spdlog::logger> log;
    /// On rank 0, in the writing thread: before the checkpoint is completed, and after it.
    std::function<void()> before_completion = {};
    std::function<void()> after_completion = {};
};

class CheckpointWriter {
  public:
    /// In the background with config.checkpoint.checkpoint_async.
    CheckpointWriter(Trainer& trainer, const RunConfig& config,
                     CheckpointSurroundings surroundings);
    CheckpointWriter(const CheckpointWriter&) = delete;
    CheckpointWriter& operator=(const CheckpointWriter&) = delete;
    /// A lone rank completes what is under way. One of several cannot, as the others may have gone:
    /// it stops writing.
    ~CheckpointWriter();

    /// All ranks: begins the checkpoint `folder` (which must not exist) of the trainer's rows,
    /// after one that is under way has ended. What goes wrong is told by the next poll() or wait().
    void begin(const std::filesystem::path& folder, const CheckpointState& state);
    /// All ranks, at each step's end: message() of every rank, by rank, brings what is under way
    /// forward; where it failed, the run is warned.
    std::string message();
    void poll(std::span<const std::string> messages);
    /// All ranks: waits for the end of what is under way, and warns where it failed.
    void settle();
    /// The same; throws Error where it failed, naming the rank, the file and the reason.
    void wait();

    /// Bytes of rows that this rank has held at most so far: host memory, beside the backend's.
    int64_t peak_snapshot_bytes() const { return peak_bytes_; }

  private:
    enum class Phase { none, writing, ending };
    /// How a rank's part of the phase ended; `text` is the failure, or the checksums of its files.
    struct Report {
        bool failed = false;
        std::string text;
    };
    using Row = std::vector<float>;

    bool leads() const { return world_.rank() == 0; }
    void open_folder();
    void snapshot(int first_unit, int num_units);
    Row gather(int first_unit, int num_units, ParamState state);
    void hand_over(Row row, std::function<void(const Row&)> write);
    void run_job(const std::function<void()>& job);

    bool is_writing();
    void drive_to_the_end();
    void take(std::span<const std::string> messages);
    void advance();
    void begin_ending();
    void complete(const std::string& checksums);
    void after_completion();
    void conclude();
    std::string not_written(int rank, const std::string& reason) const;
    void warn_of_failure();

    Trainer& trainer_;
    Communicator& world_;
    const RunConfig& config_;
    CheckpointSurroundings surroundings_;
    HuggingFaceMapping mapping_;
    bool background_;

    // The checkpoint under way.
    Phase phase_ = Phase::none;
    std::filesystem::path folder_;
    std::filesystem::path partial_;  ///< its temporary name
    CheckpointState state_;
    std::chrono::steady_clock::time_point start_;
    std::optional<FolderWriter> output_;  ///< rank 0 only
    std::vector<std::optional<Report>> reports_;
    std::string failure_;  ///< the same on all ranks, until it is told

    // The writing thread's, while it is busy.
    std::string job_failure_;
    std::string checksums_;  ///< of the files written here, a line each: name, bytes, XXH3

    std::atomic<bool> cancelled_ = false;
    std::atomic<int64_t> held_bytes_ = 0;
    int64_t peak_bytes_ = 0;
    std::optional<HostStream> thread_;  ///< last: it uses all of the above
};

}  // namespace lathe
