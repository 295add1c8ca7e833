#include "kernels/ptxemu/runtime/stream.h"

#include <algorithm>
#include <thread>

#include "kernels/ptxemu/runtime/runtime.h"

namespace ptxemu {

namespace {

u64 issued = 0;
auto& streams = *new std::vector<Stream*>;  // also destroyed ones that still hold work

// The legacy stream and the blocking streams wait for each other.
bool default_stream_rules(Stream& s, u64 seq) {
    if (&s != &legacy_stream()) return !s.blocking() || advance(legacy_stream(), seq);
    bool all = true;
    for (size_t k = 0; k < streams.size(); ++k)
        if (streams[k]->blocking()) all &= advance(*streams[k], seq);
    return all;
}

// Can it start? Brings on what it waits for.
bool ready(Stream& s, u64 seq, Work& w) {
    if (!default_stream_rules(s, seq)) return false;
    for (Stream* other : w.streams)
        if (other != &s && (!advance(*other, seq) || !default_stream_rules(*other, seq)))
            return false;
    if (!w.previous) return true;
    if (!w.previous->started)
        for (Stream* other : w.previous->streams) advance(*other, w.previous->seq + 1);
    if (!w.previous->started) return false;
    w.previous.reset();
    return true;
}

// True when the work has ended.
bool step(Stream& s, u64 seq, Work& w) {
    if (!w.started) {
        if (!ready(s, seq, w)) return false;
        w.started = true;
        w.abandoned = sticky_error() != cudaSuccess;
        if (w.abandoned) {
            w.abandon();
        } else {
            for (auto& use : w.uses) check_use(use, w);
            w.start();
        }
    }
    return w.abandoned || w.done();
}

void advance_all() {  // newest stream first: whoever needs an order must have asked for it
    for (size_t k = streams.size(); k-- > 0;)
        if (k < streams.size()) advance(*streams[k]);
    advance(legacy_stream());
    std::erase_if(streams, [](Stream* s) {
        bool gone = s->destroyed && s->queue.empty();
        if (gone) delete s;
        return gone;
    });
}

bool remote_work_queued() {
    auto has = [](Stream* s) {
        return std::any_of(s->queue.begin(), s->queue.end(),
                           [](auto& p) { return p.work->remote(); });
    };
    return has(&legacy_stream()) || std::any_of(streams.begin(), streams.end(), has);
}

// Streams move on while the host does other things. As late as CUDA allows still means: some day.
void run_in_background() {
    constexpr std::chrono::milliseconds kPoll{5}, kLate{50};
    ApiLock& lock = api_lock();
    lock.lock();
    lock.this_thread_is_background();
    for (;;) {
        lock.wait(kPoll);
        if (remote_work_queued() && (!opt().async || lock.idle() > kLate)) advance_all();
    }
}

struct Lambda : Work {
    std::function<void()> run;
    void start() override { run(); }
};

}  // namespace

Stream& legacy_stream() {
    static Stream& s = *new Stream;
    return s;
}

std::vector<Stream*> live_streams() {
    std::vector<Stream*> v;
    std::copy_if(streams.begin(), streams.end(), std::back_inserter(v),
                 [](Stream* s) { return !s->destroyed; });
    return v;
}

Stream* create_stream(unsigned flags, int priority) {
    static unsigned long long n = 2;
    auto* s = new Stream;
    s->flags = flags;
    s->priority = priority;
    s->id = ++n;
    s->order_slot = order().open_stream(s->blocking());
    streams.push_back(s);
    return s;
}

void destroy_stream(Stream& s) {
    s.destroyed = true;
    order().close_stream(s.order_slot);
    if (s.queue.empty()) {
        std::erase(streams, &s);
        delete &s;
    }
}

Stream* stream_of(cudaStream_t handle) {
    if ((u64)handle <= 2) return &legacy_stream();
    for (Stream* s : streams)
        if (s == (Stream*)handle && !s->destroyed) return s;
    report(Fault::Other, nullptr, (const Ins*)handle, 0, 0, false,
           "use of a stream that does not exist: it was never created, or destroyed");
    return nullptr;
}

void submit(const std::vector<Stream*>& on, std::shared_ptr<Work> work) {
    static std::once_flag background;
    if (work->remote()) std::call_once(background, [] { std::thread(run_in_background).detach(); });
    work->seq = ++issued;
    work->streams = on;
    std::vector<u32> slots;
    for (Stream* s : on) slots.push_back(s->order_slot);
    work->order = order().begin(slots, work->label);
    for (Stream* s : on) s->queue.push_back({work->seq, work});
    if (!opt().async)
        for (Stream* s : on) advance(*s);
}

void submit(Stream& s, const char* label, std::function<void()> run, std::vector<MemoryUse> uses) {
    auto w = std::make_shared<Lambda>();
    w->label = label;
    w->run = std::move(run);
    w->uses = std::move(uses);
    submit({&s}, std::move(w));
}

bool runs_at_once(Stream& s) {
    return !opt().async && advance(s) && default_stream_rules(s, issued + 1);
}

bool advance(Stream& s, u64 limit) {
    while (!s.queue.empty() && s.queue.front().seq < limit) {
        std::shared_ptr<Work> w = s.queue.front().work;
        if (!step(s, s.queue.front().seq, *w)) return false;
        s.queue.pop_front();
    }
    return true;
}

bool advance_one(Stream& s) {
    if (!s.queue.empty()) advance(s, s.queue.front().seq + 1);
    return s.queue.empty();
}

void wait_until(const std::function<bool()>& ended) {
    constexpr std::chrono::milliseconds kPoll{1}, kPatience{2};
    auto start = ApiLock::Clock::now();
    while (!ended() && sticky_error() == cudaSuccess) {
        // What it waits for may depend, in another process, on what this one has queued elsewhere.
        if (ApiLock::Clock::now() - start > kPatience) advance_all();
        api_lock().wait(kPoll);
    }
}

void wait(Stream& s) {
    u64 seq = issued + 1;
    wait_until([&] { return default_stream_rules(s, seq) && advance(s, seq); });
}

void wait_all() {
    auto idle = [](Stream* s) { return s->queue.empty(); };
    wait_until([&] {
        advance_all();
        return idle(&legacy_stream()) && std::all_of(streams.begin(), streams.end(), idle);
    });
}

}  // namespace ptxemu
