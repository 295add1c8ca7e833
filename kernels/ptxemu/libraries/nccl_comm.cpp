#include "kernels/ptxemu/libraries/nccl_comm.h"

#include <unistd.h>

#include <cstdio>

namespace ptxemu {

void Comm::run(std::function<void()> task) {
    std::lock_guard l(mutex_);
    tasks_.push_back(std::move(task));
    if (!started_) std::thread([self = shared_from_this()] { self->loop(); }).detach();
    started_ = true;
    changed_.notify_all();
}

void Comm::run_and_wait(std::function<void()> task) {
    run(std::move(task));
    std::unique_lock l(mutex_);
    changed_.wait(l, [&] { return tasks_.empty() && !busy_; });
}

void Comm::loop() {
    std::unique_lock l(mutex_);
    for (;;) {
        changed_.wait(l, [&] { return stopped_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        auto task = std::move(tasks_.front());
        tasks_.pop_front();
        busy_ = true;
        l.unlock();
        try {
            task();
        } catch (NcclFailure& f) {
            fail(f);
        } catch (NcclAborted&) {
        }
        task = nullptr;
        l.lock();
        busy_ = false;
        changed_.notify_all();
    }
}

void Comm::stop() {
    std::lock_guard l(mutex_);
    stopped_ = true;
    changed_.notify_all();
}

void Comm::abort() {
    aborted = true;
    segment.abort();
    stop();
    std::unique_lock l(mutex_);
    changed_.wait(l, [&] { return tasks_.empty() && !busy_; });
}

void Comm::fail(const NcclFailure& f) {
    std::string text = "NCCL, rank " + std::to_string(rank) + ": " + f.why;
    if (f.program_error)
        ptxemu_fault(text.c_str());
    else
        fprintf(stderr, "ptxemu-nccl: %s\n", text.c_str());
    state = f.result;
}

void GroupWork::start() {
    if (comm->aborted) {
        ended = true;
        return;
    }
    comm->run([self = shared_from_this()] {
        Comm& c = *self->comm;
        try {
            std::vector<NcclOp*> messages;
            for (NcclOp& op : self->ops)
                if (op.point_to_point)
                    messages.push_back(&op);
                else
                    run_collective(c, op);
            run_messages(c, messages);
        } catch (NcclFailure& f) {
            c.fail(f);
            // As on a GPU, the kernel of a call that lost a rank spins until the communicator is
            // aborted.
            while (!f.program_error && !c.aborted) usleep(1000);
        } catch (NcclAborted&) {
        }
        self->ended = true;
        ptxemu_progress();
    });
}

}  // namespace ptxemu
