// Streams as queues. Normally work runs at once; with PTXEMU_ASYNC=1 it runs as late as the rules
// of CUDA allow, so a program that forgets to wait sees it.
#pragma once
#include <cuda_runtime_api.h>

#include <functional>

namespace ptxemu {

void enqueue(cudaStream_t s, std::function<void()> work);
void drain(cudaStream_t s);  // runs what is queued there, and what that depends on
void drain_all();
bool step_queued(cudaStream_t s);  // runs one piece; true if more is queued
cudaStream_t new_stream(unsigned flags, int priority);
void free_stream(cudaStream_t s);
struct StreamInfo {
    unsigned flags;
    int priority;
    unsigned long long id;
};
StreamInfo stream_info(cudaStream_t s);

struct Event;  // recorded by a queued piece of work
void record_event(Event* e, cudaStream_t s);
void wait_event(cudaStream_t s, Event* e);
void finish_event(Event* e);  // runs everything before its last record
bool event_done(Event* e);

}  // namespace ptxemu
