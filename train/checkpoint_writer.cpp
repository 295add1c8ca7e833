#include "train/checkpoint_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>
#include <utility>

#include "model/hugging_face_folder.h"
#include "model/safetensors.h"

namespace lathe {
namespace fs = std::filesystem;
namespace {

// What a rank says of its part: the first letter of its message.
constexpr char kWriting = 'w';
constexpr char kDone = 'd';
constexpr char kFailed = 'f';

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string text_of(const std::vector<std::byte>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A file's line of checksums, as the ranks tell them.
std::string checksum_line(const fs::path& file) {
    return fmt::format("{} {} {}\n", file.filename().string(), fs::file_size(file),
                       checksum_file(file));
}

/// One unit's optimizer file, which its rows reach one after another.
class OptimizerFile {
  public:
    OptimizerFile(fs::path path, std::span<const ParamTensor> tensors,
                  std::vector<OptimizerRow> rows)
        : path_(std::move(path)), tensors_(tensors), rows_(std::move(rows)) {}

    const fs::path& path() const { return path_; }
    /// Whether this was the last row, which completes the file.
    bool append(std::span<const float> row) {
        if (!writer_) {
            writer_.emplace(path_, declared());
        }
        for (const ParamTensor& tensor : tensors_) {
            const auto values = row.subspan(static_cast<size_t>(tensor.offset),
                                            static_cast<size_t>(tensor.shape.size()));
            writer_->write(next_++, 0, std::as_bytes(values));
        }
        const bool last = next_ == tensors_.size() * rows_.size();
        if (last) {
            writer_->finish();
        }
        return last;
    }

  private:
    std::vector<SafetensorsTensor> declared() const {
        std::vector<SafetensorsTensor> tensors;
        for (const OptimizerRow& row : rows_) {
            for (const ParamTensor& tensor : tensors_) {
                tensors.push_back({.name = tensor.name + row.ending,
                                   .dtype = "F32",
                                   .shape = extents_of(tensor.shape)});
            }
        }
        return tensors;
    }

    fs::path path_;
    std::span<const ParamTensor> tensors_;
    std::vector<OptimizerRow> rows_;
    std::optional<SafetensorsWriter> writer_;
    size_t next_ = 0;
};

}  // namespace

CheckpointWriter::CheckpointWriter(Trainer& trainer, const RunConfig& config,
                                   CheckpointSurroundings surroundings)
    : trainer_(trainer),
      world_(trainer.world()),
      config_(config),
      surroundings_(std::move(surroundings)),
      mapping_(config.model, trainer.layout()),
      background_(config.checkpoint.checkpoint_async) {}

CheckpointWriter::~CheckpointWriter() {
    // A checkpoint whose begin() threw is in no phase.
    if (phase_ == Phase::none || world_.size() > 1) {
        cancelled_ = true;
        thread_.reset();  // after the job under way
        // While rank 0 removes the folder another may make a file in it: the last to end leaves
        // nothing.
        std::error_code ignored;
        fs::remove_all(partial_, ignored);
        return;
    }
    try {
        settle();
    } catch (const std::exception& error) {
        surroundings_.log->error("{}", error.what());
    }
}

std::string CheckpointWriter::not_written(int rank, const std::string& reason) const {
    // A lone rank has no name.
    return fmt::format("{} was not written: {}{}", folder_.string(),
                       world_.size() == 1 ? "" : fmt::format("rank {}: ", rank), reason);
}

void CheckpointWriter::begin(const fs::path& folder, const CheckpointState& state) {
    settle();
    folder_ = folder;
    state_ = state;
    start_ = std::chrono::steady_clock::now();
    open_folder();
    if (!failure_.empty()) {
        return;
    }
    reports_.assign(static_cast<size_t>(world_.size()), std::nullopt);
    job_failure_.clear();
    checksums_.clear();
    cancelled_ = false;
    thread_.emplace();
    const int num_units = trainer_.layout().num_units();
    for (int first = 0; first < num_units; first += world_.size()) {
        snapshot(first, std::min(world_.size(), num_units - first));
    }
    phase_ = Phase::writing;
}

/// Rank 0 makes the folder, and all learn its name, or that there is none.
void CheckpointWriter::open_folder() {
    std::string mine;
    if (leads()) {
        try {
            output_.emplace(folder_);
            mine = kDone + output_->path().string();
        } catch (const std::exception& error) {
            mine = kFailed + std::string(error.what());
        }
    }
    const auto all = world_.all_gather_bytes(std::as_bytes(std::span(mine)),
                                             {.tensor = "a checkpoint", .step = state_.train.step});
    const std::string text = text_of(all[0]);
    if (text.front() == kFailed) {
        failure_ = not_written(0, text.substr(1));
    } else {
        partial_ = text.substr(1);
    }
}

/// Gathers the rows of `num_units` units, each on another rank, and has them written there.
void CheckpointWriter::snapshot(int first_unit, int num_units) {
    const ParamStore& params = trainer_.params();
    const int unit = first_unit + world_.rank();
    const bool has_unit = world_.rank() < num_units;
    Row row = gather(first_unit, num_units, ParamState::parameters);
    std::shared_ptr<OptimizerFile> file;
    if (has_unit) {
        hand_over(std::move(row), [this, unit](const Row& values) {
            write_unit_file(partial_, mapping_, unit, values, state_.compute);
            checksums_ += checksum_line(partial_ / unit_file_name(unit, mapping_.num_units()));
        });
        file = std::make_shared<OptimizerFile>(
            partial_ / optimizer_file_name(unit, mapping_.num_units()),
            trainer_.layout().tensors_of(unit), optimizer_rows(params));
    }
    for (const auto& [ending, state] : optimizer_rows(params)) {
        row = gather(first_unit, num_units, state);
        if (has_unit) {
            hand_over(std::move(row), [this, file](const Row& values) {
                if (file->append(values)) {
                    checksums_ += checksum_line(file->path());
                }
            });
        }
    }
}

/// The row of this rank's unit.
CheckpointWriter::Row CheckpointWriter::gather(int first_unit, int num_units, ParamState state) {
    Row mine;
    for (int root = 0; root < num_units; ++root) {
        Row row = trainer_.params().gather(first_unit + root, state, root);
        if (root == world_.rank()) {
            mine = std::move(row);
        }
    }
    return mine;
}

void CheckpointWriter::hand_over(Row row, std::function<void(const Row&)> write) {
    const auto bytes = static_cast<int64_t>(row.size() * sizeof(float));
    peak_bytes_ = std::max(peak_bytes_, held_bytes_ += bytes);
    thread_->run([this, bytes, row = std::move(row), write = std::move(write)]() mutable {
        run_job([&] { write(row); });
        row = Row();
        held_bytes_ -= bytes;
    });
    if (!background_) {
        thread_->synchronize();
    }
}

/// In the writing thread: the first failure is kept and ends the writing.
void CheckpointWriter::run_job(const std::function<void()>& job) {
    if (cancelled_ || !job_failure_.empty()) {
        return;
    }
    try {
        job();
    } catch (const std::exception& error) {
        job_failure_ = error.what();
    }
}

bool CheckpointWriter::is_writing() { return thread_ && thread_->num_done() < thread_->ticket(); }

void CheckpointWriter::poll(std::span<const std::string> messages) {
    take(messages);
    if (phase_ == Phase::none) {
        warn_of_failure();
    }
}

void CheckpointWriter::settle() {
    drive_to_the_end();
    warn_of_failure();
}

void CheckpointWriter::wait() {
    drive_to_the_end();
    if (!failure_.empty()) {
        fail("{}; earlier checkpoints are good", std::exchange(failure_, {}));
    }
}

void CheckpointWriter::drive_to_the_end() {
    while (phase_ != Phase::none) {
        // At most one job lies between two exchanges: the collectives' timeout bounds each job, not
        // the whole checkpoint.
        if (is_writing()) {
            thread_->wait(thread_->num_done() + 1);
        }
        const std::string mine = message();
        std::vector<std::string> messages;
        for (const auto& bytes :
             world_.all_gather_bytes(std::as_bytes(std::span(mine)),
                                     {.tensor = "a checkpoint's end", .step = state_.train.step})) {
            messages.push_back(text_of(bytes));
        }
        take(messages);
    }
}

/// How this rank's part of the phase stands; the text of its end goes out once.
std::string CheckpointWriter::message() {
    if (phase_ == Phase::none || is_writing()) {
        return {kWriting};
    }
    if (!job_failure_.empty()) {
        return kFailed + job_failure_;
    }
    const bool told = reports_[static_cast<size_t>(world_.rank())].has_value();
    return kDone + (told ? "" : checksums_);
}

void CheckpointWriter::take(std::span<const std::string> messages) {
    for (size_t rank = 0; rank < messages.size(); ++rank) {
        const std::string& text = messages[rank];
        if (text.front() != kWriting && !reports_[rank]) {
            reports_[rank] = Report{.failed = text.front() == kFailed, .text = text.substr(1)};
        }
    }
    advance();
}

/// From what the ranks reported; the same on all of them.
void CheckpointWriter::advance() {
    if (phase_ == Phase::ending && reports_[0]) {
        conclude();
    } else if (phase_ == Phase::writing) {
        if (std::any_of(reports_.begin(), reports_.end(),
                        [](const auto& report) { return report && report->failed; })) {
            cancelled_ = true;
        }
        if (std::all_of(reports_.begin(), reports_.end(),
                        [](const auto& report) { return report.has_value(); })) {
            begin_ending();
        }
    }
}

/// All parts are written, or all writing has stopped: the rest is rank 0's.
void CheckpointWriter::begin_ending() {
    std::string checksums;
    for (int rank = 0; rank < world_.size(); ++rank) {
        const Report& report = *reports_[static_cast<size_t>(rank)];
        if (!report.failed) {
            checksums += report.text;
        } else if (failure_.empty()) {
            failure_ = not_written(rank, report.text);
        }
    }
    phase_ = Phase::ending;
    reports_.assign(reports_.size(), std::nullopt);
    job_failure_.clear();
    checksums_.clear();
    cancelled_ = false;
    if (leads() && !failure_.empty()) {
        thread_->run([this] { output_.reset(); });
    } else if (leads()) {
        thread_->run([this, checksums = std::move(checksums)] {
            run_job([&] { complete(checksums); });
            if (!job_failure_.empty()) {
                job_failure_ = not_written(0, job_failure_);
            }
            output_.reset();
        });
        thread_->run([this] { run_job([this] { after_completion(); }); });
    }
}

void CheckpointWriter::after_completion() {
    try {
        if (surroundings_.after_completion) {
            surroundings_.after_completion();
        }
    } catch (const std::exception& error) {
        fail("{} is written, but: {}", folder_.string(), error.what());
    }
}

void CheckpointWriter::complete(const std::string& checksums) {
    if (surroundings_.before_completion) {
        surroundings_.before_completion();
    }
    write_index_file(partial_, mapping_, state_.compute);
    write_config_file(partial_, config_.model, state_.compute, surroundings_.end_of_text);
    write_file(partial_ / "tokenizer.json", read_file(surroundings_.tokenizer));
    write_file(partial_ / "run.toml", to_toml(config_));
    write_file(partial_ / kStateFile, state_text(state_));
    nlohmann::json listed = nlohmann::json::object();
    std::istringstream lines(checksums);
    int64_t bytes = 0;
    for (std::string name, sum; lines >> name >> bytes >> sum;) {
        const fs::path file = partial_ / name;
        LATHE_CHECK(fs::exists(file) && static_cast<int64_t>(fs::file_size(file)) == bytes,
                    "{}: another rank wrote it, but rank 0 does not see it: all hosts must share "
                    "the file system of the run folder",
                    file.string());
        listed[name] = {{"bytes", bytes}, {"xxh3", sum}};
    }
    LATHE_CHECK(std::ssize(listed) == 2 * mapping_.num_units(), "{} of {} files were written",
                listed.size(), 2 * mapping_.num_units());
    for (const fs::directory_entry& entry : fs::directory_iterator(partial_)) {
        const std::string name = entry.path().filename().string();
        if (!listed.contains(name)) {
            listed[name] = {{"bytes", entry.file_size()}, {"xxh3", checksum_file(entry.path())}};
        }
    }
    write_file(partial_ / kChecksumsFile, listed.dump(1) + "\n");
    output_->finish();
}

void CheckpointWriter::conclude() {
    if (failure_.empty() && reports_[0]->failed) {
        failure_ = reports_[0]->text;
    }
    phase_ = Phase::none;
    thread_.reset();
    if (failure_.empty()) {
        surroundings_.log->info("wrote {} in {:.2f} s", folder_.string(), seconds_since(start_));
    }
}

void CheckpointWriter::warn_of_failure() {
    if (failure_.empty()) {
        return;
    }
    const std::string text = fmt::format("{}; training goes on, the next checkpoint tries again",
                                         std::exchange(failure_, {}));
    surroundings_.log->log(leads() ? spdlog::level::warn : spdlog::level::info, text);
}

}  // namespace lathe
