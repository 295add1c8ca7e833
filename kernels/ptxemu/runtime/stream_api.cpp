// Streams, events and host functions of the run-time API.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <map>
#include <thread>

#include "kernels/ptxemu/runtime/runtime.h"

using namespace ptxemu;

namespace {

// One cudaEventRecord. Those who wait for it keep it when the event is recorded again or destroyed.
struct Record : Work {
    Stream* stream = nullptr;
    Knowledge covers;
    bool reached = false;
    std::chrono::steady_clock::time_point time;

    Record() { label = "event"; }
    void start() override {
        time = std::chrono::steady_clock::now();
        reached = true;
    }
    void abandon() override { reached = true; }
    bool bring_on() { return reached || (advance(*stream, seq + 1), reached); }
};
struct Event {
    unsigned flags = 0;
    std::shared_ptr<Record> last;
    bool reached() const { return !last || last->reached; }
};
struct EventWait : Work {
    std::shared_ptr<Record> record;
    EventWait() { label = "wait for an event"; }
    void start() override {}
    bool done() override { return record->bring_on(); }
};

// Host functions have a thread of their own: a function that waits for the program's own threads
// holds nobody up.
class HostFunctions {
  public:
    void run(std::function<void()> f) {
        std::lock_guard l(mutex_);
        queue_.push_back(std::move(f));
        if (!started_) std::thread([this] { loop(); }).detach();
        started_ = true;
        changed_.notify_one();
    }

  private:
    void loop() {
        inside_host_function() = true;
        std::unique_lock l(mutex_);
        for (;;) {
            changed_.wait(l, [&] { return !queue_.empty(); });
            auto f = std::move(queue_.front());
            queue_.pop_front();
            l.unlock();
            f();
            l.lock();
        }
    }
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> queue_;
    bool started_ = false;
};
HostFunctions& host_functions() {
    static HostFunctions& h = *new HostFunctions;
    return h;
}

struct HostFunction : Work, std::enable_shared_from_this<HostFunction> {
    std::function<void()> call;
    std::atomic<bool> returned{false};

    HostFunction() { label = "host function"; }
    bool remote() const override { return true; }
    void start() override {
        host_functions().run([self = shared_from_this()] {
            self->call();
            self->returned = true;
            ptxemu_progress();
        });
    }
    bool done() override { return returned; }
};

cudaError_t host_function(cudaStream_t s, std::function<void()> call) {
    Stream* stream = stream_of(s);
    if (!stream) return set_error(cudaErrorInvalidResourceHandle);
    auto w = std::make_shared<HostFunction>();
    w->call = std::move(call);
    submit({stream}, w);
    return cudaSuccess;
}

cudaError_t elapsed(float* ms, const Event* a, const Event* b) {
    if (!a || !b || !a->last || !b->last || ((a->flags | b->flags) & cudaEventDisableTiming))
        return set_error(cudaErrorInvalidResourceHandle);
    if (!a->reached() || !b->reached()) return cudaErrorNotReady;
    *ms = std::chrono::duration<float, std::milli>(b->last->time - a->last->time).count();
    return set_error(sticky_error());
}

}  // namespace

namespace ptxemu {

bool& inside_host_function() {
    thread_local bool inside = false;
    return inside;
}

std::set<cudaEvent_t>& live_events() {
    static auto& events = *new std::set<cudaEvent_t>;
    return events;
}

// Objects that are to be destroyed, and what they are.
static std::map<const void*, std::string>& live_objects() {
    static auto& objects = *new std::map<const void*, std::string>;
    return objects;
}

void report_leaks() {
    std::lock_guard l(api_lock());
    mem_report_leaks();
    for (auto& [object, what] : live_objects())
        report(Fault::Leak, nullptr, (const Ins*)object, 0, 0, false,
               what + " was never destroyed");
    for (Stream* s : live_streams())
        report(Fault::Leak, nullptr, (const Ins*)s, 0, 0, false,
               "stream " + std::to_string(s->id) + " was never destroyed");
    for (cudaEvent_t e : live_events())
        report(Fault::Leak, nullptr, (const Ins*)e, 0, 0, false, "an event was never destroyed");
}

}  // namespace ptxemu

extern "C" {

void ptxemu_submit(const cudaStream_t* handles, int n, const std::shared_ptr<Work>& work) {
    std::lock_guard l(api_lock());
    std::vector<Stream*> on;
    for (int k = 0; k < n; ++k)
        if (Stream* s = stream_of(handles[k]); s && std::find(on.begin(), on.end(), s) == on.end())
            on.push_back(s);
    if (!on.empty()) submit(on, work);
}
void ptxemu_fault(const char* text) {
    report(Fault::Other, nullptr, (const Ins*)std::hash<std::string>{}(text), 0, 0, false, text);
}
void ptxemu_created(const void* object, const char* what) {
    std::lock_guard l(api_lock());
    live_objects()[object] = what;
}
void ptxemu_destroyed(const void* object) {
    std::lock_guard l(api_lock());
    live_objects().erase(object);
}
void ptxemu_progress() { api_lock().progress(); }
void ptxemu_finish(const std::shared_ptr<Work>& work) {
    std::lock_guard l(api_lock());
    wait_until([&] {
        for (Stream* s : work->streams)
            if (!work->started && !advance(*s, work->seq + 1)) return false;
        return work->started && (work->abandoned || work->done());
    });
}

cudaError_t cudaDeviceSynchronize() {
    PTXEMU_API_BEGIN;
    wait_all();
    order().host_waited_for_all();
    fflush(stdout);
    return set_error(sticky_error());
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned flags, int priority) {
    PTXEMU_API_BEGIN;
    if (!s || (flags & ~(unsigned)cudaStreamNonBlocking)) return set_error(cudaErrorInvalidValue);
    *s = (cudaStream_t)create_stream(flags, priority);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* s) { return cudaStreamCreateWithPriority(s, 0, 0); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned flags) {
    return cudaStreamCreateWithPriority(s, flags, 0);
}
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
    std::lock_guard l(api_lock());
    Stream* s = stream_of(handle);
    if (!s || s == &legacy_stream()) return set_error(cudaErrorInvalidResourceHandle);
    destroy_stream(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
    PTXEMU_STREAM(s, handle);
    wait(*s);
    order().host_waited(order().issued(s->order_slot));
    fflush(stdout);
    return set_error(sticky_error());
}
cudaError_t cudaStreamQuery(cudaStream_t handle) {
    PTXEMU_STREAM(s, handle);
    if (!advance_one(*s)) return cudaErrorNotReady;
    order().host_waited(order().issued(s->order_slot));
    return set_error(sticky_error());
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
    PTXEMU_STREAM(s, handle);
    if (!event) return set_error(cudaErrorInvalidResourceHandle);
    auto& record = ((Event*)event)->last;
    if (!record) return cudaSuccess;
    order().wait(s->order_slot, record->covers);
    if (record->reached) return cudaSuccess;
    auto w = std::make_shared<EventWait>();
    w->record = record;
    submit({s}, w);
    return cudaSuccess;
}
cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* p) {
    PTXEMU_STREAM(s, handle);
    *p = s->priority;
    return cudaSuccess;
}
cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned* f) {
    PTXEMU_STREAM(s, handle);
    *f = s->flags;
    return cudaSuccess;
}
cudaError_t cudaStreamGetId(cudaStream_t handle, unsigned long long* id) {
    PTXEMU_STREAM(s, handle);
    *id = s->id;
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* s) {
    *s = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
    return set_error(cudaErrorNotSupported);
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t*) {
    return set_error(cudaErrorNotSupported);
}
cudaError_t cudaStreamSetAttribute(cudaStream_t, cudaLaunchAttributeID,
                                   const cudaLaunchAttributeValue*) {
    return cudaSuccess;
}
cudaError_t cudaStreamAttachMemAsync(cudaStream_t, void*, size_t, unsigned) { return cudaSuccess; }
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t fn, void* data) {
    PTXEMU_API_BEGIN;
    return host_function(s, [fn, data] { fn(data); });
}
cudaError_t cudaStreamAddCallback(cudaStream_t s, cudaStreamCallback_t fn, void* data, unsigned) {
    PTXEMU_API_BEGIN;
    return host_function(s, [s, fn, data] { fn(s, sticky_error(), data); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned flags) {
    PTXEMU_API_BEGIN;
    if (!e) return set_error(cudaErrorInvalidValue);
    *e = (cudaEvent_t) new Event{flags, nullptr};
    live_events().insert(*e);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    std::lock_guard l(api_lock());
    if (!live_events().erase(e)) return set_error(cudaErrorInvalidResourceHandle);
    delete (Event*)e;
    return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t handle, unsigned) {
    PTXEMU_STREAM(s, handle);
    if (!live_events().count(e)) return set_error(cudaErrorInvalidResourceHandle);
    auto r = std::make_shared<Record>();
    r->stream = s;
    r->covers = order().issued(s->order_slot);
    ((Event*)e)->last = r;
    submit({s}, r);
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    return cudaEventRecordWithFlags(e, s, 0);
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    PTXEMU_API_BEGIN;
    if (!live_events().count(e)) return set_error(cudaErrorInvalidResourceHandle);
    if (auto r = ((Event*)e)->last) {
        wait_until([&] { return r->bring_on(); });
        order().host_waited(r->covers);
    }
    return set_error(sticky_error());
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    PTXEMU_API_BEGIN;
    if (!live_events().count(e)) return set_error(cudaErrorInvalidResourceHandle);
    auto r = ((Event*)e)->last;
    if (!r) return set_error(sticky_error());
    if (!r->reached) advance_one(*r->stream);
    if (!r->reached) return cudaErrorNotReady;
    order().host_waited(r->covers);
    return set_error(sticky_error());
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) {
    PTXEMU_API_BEGIN;
    return elapsed(ms, (Event*)a, (Event*)b);
}

PTXEMU_ALIAS(cudaEventRecord, ptsz)
PTXEMU_ALIAS(cudaEventRecordWithFlags, ptsz)
PTXEMU_ALIAS(cudaStreamWaitEvent, ptsz)
PTXEMU_ALIAS(cudaStreamQuery, ptsz)
PTXEMU_ALIAS(cudaStreamGetPriority, ptsz)
PTXEMU_ALIAS(cudaStreamGetFlags, ptsz)
PTXEMU_ALIAS(cudaStreamGetId, ptsz)
PTXEMU_ALIAS(cudaStreamIsCapturing, ptsz)
PTXEMU_ALIAS(cudaStreamSynchronize, ptsz)
PTXEMU_ALIAS(cudaLaunchHostFunc, ptsz)
PTXEMU_ALIAS(cudaStreamAddCallback, ptsz)
}
