// Queues behind the streams, streams and events of the API.
#include "kernels/ptxemu/runtime/stream.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <vector>

#include "kernels/ptxemu/runtime/runtime.h"

namespace ptxemu {

namespace {
struct Piece {
    u64 seq;
    std::function<void()> run;
};
struct Stream {
    StreamInfo info;
    std::deque<Piece> q;
    bool blocking() const { return !(info.flags & cudaStreamNonBlocking); }
};
u64 seq = 0;
Stream legacy{{0, 0, 1}, {}};
auto& streams = *new std::vector<Stream*>;

Stream* of(cudaStream_t s) {
    return (u64)s > 2 ? (Stream*)s : &legacy;
}  // the per-thread default counts as legacy

void run_until(Stream* s, u64 limit);
// The legacy stream and the blocking streams wait for each other.
void dependencies(Stream* s, u64 before) {
    if (s == &legacy) {
        for (Stream* o : streams)
            if (o->blocking()) run_until(o, before);
    } else if (s->blocking())
        run_until(&legacy, before);
}
void run_until(Stream* s, u64 limit) {  // everything with seq < limit
    while (!s->q.empty() && s->q.front().seq < limit) {
        Piece p = std::move(s->q.front());
        s->q.pop_front();
        dependencies(s, p.seq);
        p.run();
    }
}
}  // namespace

struct Event {
    std::chrono::steady_clock::time_point t;
    bool recorded = false;
    unsigned flags = 0;
    Stream* stream = nullptr;
    u64 seq = 0;   // of the last record, 0: none
    u64 done = 0;  // seq of the last record that ran
};

void enqueue(cudaStream_t st, std::function<void()> work) {
    if (!opt().async) {
        work();
        return;
    }
    of(st)->q.push_back({++seq, std::move(work)});
}
void drain(cudaStream_t st) {
    Stream* s = of(st);
    dependencies(s, ~0ull);
    run_until(s, ~0ull);
}
void drain_all() {  // newest stream first: whoever needs an order must have asked for it
    for (size_t k = streams.size(); k-- > 0;) run_until(streams[k], ~0ull);
    run_until(&legacy, ~0ull);
}
bool step_queued(cudaStream_t st) {
    Stream* s = of(st);
    if (!s->q.empty()) run_until(s, s->q.front().seq + 1);
    return !s->q.empty();
}
cudaStream_t new_stream(unsigned flags, int priority) {
    static u64 n = 2;
    streams.push_back(new Stream{{flags, priority, ++n}, {}});
    return (cudaStream_t)streams.back();
}
void free_stream(cudaStream_t st) {
    if ((u64)st <= 2) return;
    drain(st);
    Stream* s = of(st);
    streams.erase(std::remove(streams.begin(), streams.end(), s), streams.end());
    delete s;
}
StreamInfo stream_info(cudaStream_t s) { return of(s)->info; }

void record_event(Event* e, cudaStream_t s) {
    e->stream = of(s);
    u64 mine = e->seq = seq + 1;
    enqueue(s, [e, mine] {
        e->t = std::chrono::steady_clock::now();
        e->done = mine;
    });
    e->recorded = true;
}
void finish_event(Event* e) {
    if (!e->recorded || e->done == e->seq) return;
    if (std::find(streams.begin(), streams.end(), e->stream) == streams.end() &&
        e->stream != &legacy)
        return;
    run_until(e->stream, e->seq + 1);
}
bool event_done(Event* e) { return !e->recorded || e->done == e->seq; }
void wait_event(cudaStream_t s, Event* e) {
    if (!opt().async || !e->recorded) return;
    Stream* from = e->stream;
    u64 at = e->seq;
    enqueue(s, [from, at] {
        if (from == &legacy || std::find(streams.begin(), streams.end(), from) != streams.end())
            run_until(from, at + 1);
    });
}

}  // namespace ptxemu

using namespace ptxemu;

extern "C" {
void ptxemu_drain(cudaStream_t s) {
    std::lock_guard<std::recursive_mutex> l(api_lock());
    drain(s);
}

cudaError_t cudaDeviceSynchronize() {
    PTXEMU_API_BEGIN;
    drain_all();
    fflush(stdout);
    return set_error(sticky_error());
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned f, int p) {
    PTXEMU_API_BEGIN;
    *s = new_stream(f, p);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* s) { return cudaStreamCreateWithPriority(s, 0, 0); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned f) {
    return cudaStreamCreateWithPriority(s, f, 0);
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    std::lock_guard<std::recursive_mutex> l(api_lock());
    free_stream(s);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    PTXEMU_API_BEGIN;
    drain(s);
    fflush(stdout);
    return set_error(sticky_error());
}
cudaError_t cudaStreamQuery(cudaStream_t s) {
    PTXEMU_API_BEGIN;
    return step_queued(s) ? cudaErrorNotReady : set_error(sticky_error());
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
    PTXEMU_API_BEGIN;
    if (e) wait_event(s, (Event*)e);
    return cudaSuccess;
}
cudaError_t cudaStreamGetPriority(cudaStream_t s, int* p) {
    *p = stream_info(s).priority;
    return cudaSuccess;
}
cudaError_t cudaStreamGetFlags(cudaStream_t s, unsigned* f) {
    *f = stream_info(s).flags;
    return cudaSuccess;
}
cudaError_t cudaStreamGetId(cudaStream_t s, unsigned long long* i) {
    *i = stream_info(s).id;
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
cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t fn, void* d) {
    PTXEMU_API_BEGIN;
    enqueue(s, [fn, d] { fn(d); });
    return cudaSuccess;
}
cudaError_t cudaStreamAddCallback(cudaStream_t s, cudaStreamCallback_t fn, void* d, unsigned) {
    PTXEMU_API_BEGIN;
    enqueue(s, [s, fn, d] { fn(s, sticky_error(), d); });
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned f) {
    PTXEMU_API_BEGIN;
    auto* x = new Event;
    x->flags = f;
    *e = (cudaEvent_t)x;
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    std::lock_guard<std::recursive_mutex> l(api_lock());
    if (e) {
        finish_event((Event*)e);
        delete (Event*)e;
    }
    return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t s, unsigned) {
    PTXEMU_API_BEGIN;
    if (!e) return set_error(cudaErrorInvalidResourceHandle);
    record_event((Event*)e, s);
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    return cudaEventRecordWithFlags(e, s, 0);
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    PTXEMU_API_BEGIN;
    finish_event((Event*)e);
    return set_error(sticky_error());
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    PTXEMU_API_BEGIN;
    Event* x = (Event*)e;
    if (!event_done(x)) step_queued(x->stream == &legacy ? nullptr : (cudaStream_t)x->stream);
    return event_done(x) ? set_error(sticky_error()) : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) {
    PTXEMU_API_BEGIN;
    Event *x = (Event*)a, *y = (Event*)b;
    if (!x || !y || !x->recorded || !y->recorded ||
        ((x->flags | y->flags) & cudaEventDisableTiming))
        return set_error(cudaErrorInvalidResourceHandle);
    if (!event_done(x) || !event_done(y)) return cudaErrorNotReady;
    *ms = std::chrono::duration<float, std::milli>(y->t - x->t).count();
    return set_error(sticky_error());
}
}

// Programs built with --default-stream per-thread call these names.
#define ALIAS(name) extern "C" decltype(name) name##_ptsz __attribute__((alias(#name)));

ALIAS(cudaEventRecord);
ALIAS(cudaEventRecordWithFlags);
ALIAS(cudaStreamWaitEvent);
ALIAS(cudaStreamQuery);
ALIAS(cudaStreamGetPriority);
ALIAS(cudaStreamGetFlags);
ALIAS(cudaStreamGetId);
ALIAS(cudaStreamIsCapturing);
ALIAS(cudaStreamSynchronize);
ALIAS(cudaLaunchHostFunc);
ALIAS(cudaStreamAddCallback);
