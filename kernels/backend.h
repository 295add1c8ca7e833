// Backend: one device. Memory, streams, events, and every operation of kernels/operations.h.
//
// The trainer is written once against this class and runs on `reference` (naive, exact, the
// specification), `cpu` (fast), and later on CUDA and dry backends. Everything issued to one stream
// happens in the order of issue; different streams are ordered only by events. On the CPU a stream
// runs at once, in the calling thread.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/buffer.h"
#include "kernels/operations.h"
#include "kernels/work_recorder.h"

namespace lathe {

/// Operations run on `compute`; collectives, and what prepares or consumes their data, on
/// `communication`.
enum class Stream { compute, communication };

/// A point in a stream, made by Backend::record.
struct Event {
    int64_t ticket = 0;
};

/// What memory a device has beside its own (Backend::allocate_offloaded).
enum class OffloadMemory { none, files, pinned };

/// What a device is and what it does well.
struct DeviceInfo {
    std::string kind;     ///< "reference", "cpu", "cuda"
    std::string name;     ///< e.g. the processor's name and its widest instruction set
    int num_threads = 1;  ///< host threads that operations use
    DType preferred_dtype =
        DType::f32;  ///< what `--dtype auto` means: bf16 only where it is faster
    OffloadMemory offload = OffloadMemory::none;
    bool computes =
        true;  ///< false in a dry run: what is written is not kept, and what is read back is 0
    /// Streams that run beside the host thread that issues to them, rather than in it.
    bool compute_runs_beside = false;
    bool communication_runs_beside = false;
};

/// Bytes in use now and at most so far, by category; a total's peak is the peak of the sum, not the
/// sum of peaks. Totals are of the device's memory, without what is offloaded.
struct MemoryUsage {
    std::array<int64_t, kNumMemoryCategories> current_bytes{};
    std::array<int64_t, kNumMemoryCategories> peak_bytes{};
    int64_t total_bytes = 0;
    int64_t total_peak_bytes = 0;
};

/// What an open part of offloaded memory is for. Change: read and written.
enum class OffloadUse { read, change };

/// A part of offloaded memory within reach of operations, from Backend::open_offloaded to
/// close_offloaded.
struct OffloadWindow {
    Tensor part;  ///< in offloaded memory
    OffloadUse use = OffloadUse::read;
    Tensor tensor;   ///< what operations take: `part` itself, or the staging memory
    Buffer staging;  ///< where operations cannot reach `part`
};

/// Abstract device. Not thread-safe: one thread drives a backend.
class Backend {
  public:
    Backend() = default;
    Backend(const Backend&) = delete;
    Backend& operator=(const Backend&) = delete;
    virtual ~Backend() = default;

    virtual const DeviceInfo& device() const = 0;

    // Memory. Host pointers are ordinary memory; device pointers live in Tensors.

    /// Memory of undefined content, aligned to 256 bytes; throws Error naming the category and the
    /// size when there is none. It comes and goes in the compute stream's order: the communication
    /// stream uses it only after it has waited for an event recorded there since, and it is given
    /// back only after the compute stream has waited for an event of that use.
    Buffer allocate(Shape shape, DType dtype, MemoryCategory category);
    MemoryUsage memory() const { return usage_; }
    /// Gives memory that was freed and is kept for the next allocations back to the system, which
    /// then has to be asked again: before something else on this machine takes much.
    virtual void release_free_memory() {}
    /// Forgets peaks so far: they become the present usage.
    void reset_peaks();

    // Offloaded memory: beside the device's own, for rows that are walked through once a step.
    // Files that the CPU maps; on a GPU pinned host memory, parts of which pass through staging
    // buffers.

    /// Offloaded memory of undefined content, whole and reserved, so that no later write can find
    /// the disk full. On a CPU it is a nameless file in `folder`: throws UsageError where no file
    /// can be made there, Error naming the folder and the size where there is no room. On a GPU it
    /// is pinned host memory: throws Error naming the size where it cannot be had.
    Buffer allocate_offloaded(Shape shape, DType dtype, const std::filesystem::path& folder);
    /// Opens a part of offloaded memory: only within a window do operations and copies reach it,
    /// and only what is open takes memory. In order with the compute stream, as is closing. Several
    /// windows may be open at once.
    OffloadWindow open_offloaded(const Tensor& part, OffloadUse use);
    void close_offloaded(OffloadWindow window);
    /// Begins to bring a part within reach, beside whatever the compute stream does, for a window
    /// of exactly that part to open without waiting. A hint, which changes no content; may be
    /// repeated. False where nothing more can be held ready.
    virtual bool prefetch_offloaded(const Tensor& part);

    /// Copies between tensors of equal type and size on this device, in order on `stream`.
    void copy(const Tensor& destination, const Tensor& source, Stream stream);
    /// Copies `source.bytes()` of host memory; the host memory may be reused on return.
    void copy_from_host(const Tensor& destination, const void* source);
    /// Waits for the compute stream, then copies to the host.
    void copy_to_host(void* destination, const Tensor& source);
    /// Sets every byte to 0.
    void fill_zero(const Tensor& tensor, Stream stream);

    // Streams.

    virtual Event record(Stream stream) = 0;
    /// Work issued to `stream` from now on waits for the event.
    void wait(Stream stream, Event event);
    /// Blocks the host until everything issued to `stream` is done.
    void synchronize(Stream stream);
    /// Runs a host function in order with what else is issued to `stream` (a collective of host
    /// memory, say). An exception it throws reaches the next wait for the stream. Here, streams run
    /// at once: so does the function.
    virtual void run_on_host(Stream stream, std::function<void()> function);
    /// Seconds that what `issue` issues to the compute stream takes on the device, from when its
    /// turn comes; blocks the host until it is done.
    virtual double seconds_of(const std::function<void()>& issue);
    /// Seconds that computing has stood still for communication so far: in its host functions, or
    /// blocked by them or by events of its stream.
    virtual double exposed_communication_s() const { return exposed_communication_s_; }

    /// Says what the work issued from now on is for ("backward", "blocks.3"), to those that keep a
    /// record of it. `phase` must be a literal.
    virtual void label(const char* phase, std::string_view unit);

    // Profiles.

    /// From now on all work is told to `recorder`; to nobody with nullptr, which costs nothing. The
    /// recorder keeps being written to until read_stamps.
    void set_recorder(std::shared_ptr<WorkRecorder> recorder);
    /// Waits for all streams: the times of all that was recorded are then known.
    virtual void read_stamps();
    /// Calls `issue`, which gives work to the stream past this class (a collective), and tells the
    /// recorder, if there is one, that it is what `describe` returns.
    template <typename Describe, typename Issue>
    void recorded(Stream stream, const Describe& describe, const Issue& issue) {
        if (recorder_ == nullptr) {
            issue();
        } else {
            record_work(stream, describe(), issue);
        }
    }
    /// The same of what keeps the host's thread busy, or waiting.
    template <typename Describe, typename Issue>
    void recorded_on_host(const Describe& describe, const Issue& issue) {
        if (recorder_ == nullptr) {
            issue();
        } else {
            record_host_work(describe(), issue);
        }
    }

    // Operations: run(op) checks the arguments and issues the operation; workspace_bytes(op) is
    // what its `workspace` must hold, and depends on shapes and types only.

#define LATHE_DECLARE_OPERATION(Operation)                              \
    void run(const Operation& op, Stream stream = Stream::compute) {    \
        check(op);                                                      \
        check_workspace(workspace_bytes(op), op.workspace, #Operation); \
        if (recorder_ == nullptr) {                                     \
            execute(op, stream);                                        \
        } else {                                                        \
            run_recorded(op, stream);                                   \
        }                                                               \
    }                                                                   \
    virtual int64_t workspace_bytes(const Operation& op) const = 0;
    LATHE_OPERATIONS(LATHE_DECLARE_OPERATION)
#undef LATHE_DECLARE_OPERATION

  protected:
    /// Device memory of at least `bytes` (> 0), or nullptr when there is none.
    virtual void* allocate_bytes(int64_t bytes) = 0;
    virtual void free_bytes(void* data, int64_t bytes) noexcept = 0;
    /// The same of offloaded memory; throws what allocate_offloaded does. Only where the device
    /// offloads.
    virtual void* allocate_offloaded_bytes(int64_t bytes, const std::filesystem::path& folder);
    virtual void free_offloaded_bytes(void* data, int64_t bytes) noexcept;

    // What the functions of the same names do.
    virtual void execute_copy(const Tensor& destination, const Tensor& source, Stream stream) = 0;
    virtual void execute_copy_from_host(const Tensor& destination, const void* source) = 0;
    virtual void execute_copy_to_host(void* destination, const Tensor& source) = 0;
    virtual void execute_fill_zero(const Tensor& tensor, Stream stream) = 0;
    virtual void execute_wait(Stream stream, Event event) = 0;
    virtual void execute_synchronize(Stream stream) = 0;
    virtual OffloadWindow execute_open_offloaded(const Tensor& part, OffloadUse use);
    virtual void execute_close_offloaded(OffloadWindow window);

    /// Writes WorkRecorder::now_s of when the stream comes to this point, at the latest in
    /// read_stamps.
    virtual void stamp(Stream stream, std::shared_ptr<double> seconds);
    WorkRecorder* recorder() const { return recorder_.get(); }

    /// Called after each allocation (`bytes` > 0) and each release (< 0).
    virtual void memory_changed(MemoryCategory category, int64_t bytes) noexcept;

#define LATHE_DECLARE_EXECUTE(Operation) \
    virtual void execute(const Operation& op, Stream stream) = 0;
    LATHE_OPERATIONS(LATHE_DECLARE_EXECUTE)
#undef LATHE_DECLARE_EXECUTE

  private:
    friend class Buffer;
    void count_allocated(int64_t bytes, MemoryCategory category);
    void release(const Tensor& tensor, MemoryCategory category) noexcept;
    static void check_workspace(int64_t needed_bytes, const Tensor& workspace,
                                const char* operation);

#define LATHE_DECLARE_RECORDED(Operation) void run_recorded(const Operation& op, Stream stream);
    LATHE_OPERATIONS(LATHE_DECLARE_RECORDED)
#undef LATHE_DECLARE_RECORDED
    bool runs_beside(Stream stream) const;
    void record_work(Stream stream, Work work, const std::function<void()>& issue);
    void record_host_work(Work work, const std::function<void()>& issue);

    MemoryUsage usage_;
    std::shared_ptr<WorkRecorder> recorder_;  ///< null: nobody listens
    double exposed_communication_s_ = 0;
};

/// Runs `op` with workspace taken from a buffer that grows on first use and is then kept: nothing
/// is allocated in a steady state. One Workspace serves one stream.
class Workspace {
  public:
    explicit Workspace(Backend& backend) : backend_(backend) {}

    template <typename Operation>
    void run(Operation op, Stream stream = Stream::compute) {
        op.workspace = reserve(backend_.workspace_bytes(op), stream);
        backend_.run(op, stream);
    }
    Backend& backend() const { return backend_; }

  private:
    Tensor reserve(int64_t bytes, Stream stream);

    Backend& backend_;
    Buffer buffer_;
};

}  // namespace lathe
