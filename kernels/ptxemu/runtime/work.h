// What streams hold: pieces of work that start in order and may end later, elsewhere (NCCL, host
// functions).
#pragma once
#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "kernels/ptxemu/interpreter/order.h"

namespace ptxemu {

// Memory that a piece of work outside the kernels touches.
struct MemoryUse {
    const void* at;
    size_t bytes;
    bool write;
    const char* what;  // words for a report
};

class Work {
  public:
    virtual ~Work() = default;
    // Once, when everything before it is done, with the API lock held.
    virtual void start() = 0;
    // Asked until it says true, with the API lock held.
    virtual bool done() { return true; }
    // Ends outside the API: queued streams must move on even when the program calls nothing.
    virtual bool remote() const { return false; }
    // Instead of start() once the device has failed.
    virtual void abandon() {}

    const char* label = "";  // words for a report
    std::vector<MemoryUse> uses;
    std::shared_ptr<Work> previous;  // must have started before, whatever its stream

    // Kept by the streams.
    u64 seq = 0;
    std::vector<struct Stream*> streams;
    OrderedOp order;
    bool started = false, abandoned = false;
};

}  // namespace ptxemu

// For the library stand-ins. Work on several streams starts when all have come to it, and all wait
// for its end.
extern "C" {
void ptxemu_submit(const cudaStream_t* streams, int n, const std::shared_ptr<ptxemu::Work>& work);
void ptxemu_progress();                                     // some remote work has ended
void ptxemu_created(const void* object, const char* what);  // a leak unless it is destroyed
void ptxemu_destroyed(const void* object);
void ptxemu_finish(const std::shared_ptr<ptxemu::Work>& work);  // waits for its end
// Where the emulator may touch n bytes of device memory; null and a report where that is none.
void* ptxemu_range(const void* p, size_t n, const char* what);
void ptxemu_fault(const char* text);  // a report: the program will fail
}
