// Streams as queues. Work runs as soon as nothing stands before it; with PTXEMU_ASYNC=1 as late as
// the rules of CUDA allow, so that a program that forgets to wait sees it.
#pragma once
#include <cuda_runtime_api.h>

#include <deque>
#include <functional>

#include "kernels/ptxemu/runtime/work.h"

namespace ptxemu {

struct Stream {
    struct Piece {
        u64 seq;
        std::shared_ptr<Work> work;
    };
    unsigned flags = 0;
    int priority = 0;
    unsigned long long id = 1;
    u32 order_slot = 0;
    bool destroyed = false;
    std::deque<Piece> queue;

    bool blocking() const { return !(flags & cudaStreamNonBlocking); }
};

Stream& legacy_stream();
Stream* create_stream(unsigned flags, int priority);
void destroy_stream(Stream& s);       // at once; what is queued there still runs
std::vector<Stream*> live_streams();  // created and not destroyed
// Null and a report where there is no such stream. The per-thread default stream counts as the
// legacy one.
Stream* stream_of(cudaStream_t s);

void submit(const std::vector<Stream*>& on, std::shared_ptr<Work> work);
void submit(Stream& s, const char* label, std::function<void()> run, std::vector<MemoryUse> uses);
bool runs_at_once(Stream& s);  // new work on s would
// Runs what is queued in s before `seq`, as far as it can: true when all of it has ended.
bool advance(Stream& s, u64 seq = ~0ull);
bool advance_one(Stream& s);  // tries one more piece; true when the stream is empty
// The host waits: for a stream, for all, for something that queued work brings about. A failed
// device ends every wait.
void wait(Stream& s);
void wait_all();
void wait_until(const std::function<bool()>& ended);

}  // namespace ptxemu
