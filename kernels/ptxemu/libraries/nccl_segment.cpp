#include "kernels/ptxemu/libraries/nccl_segment.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace ptxemu {

namespace {

constexpr char kPrefix[] = "ptxemu-nccl-";

// Returns after a wake, a change of *a, or 20 ms.
void futex_wait(std::atomic<u32>* a, u32 value) {
    timespec limit{0, 20'000'000};
    syscall(SYS_futex, a, FUTEX_WAIT, value, &limit, nullptr, 0);
}
void futex_wake(std::atomic<u32>* a) {
    syscall(SYS_futex, a, FUTEX_WAKE, 1 << 30, nullptr, nullptr, 0);
}

}  // namespace

Segment::Segment(const std::string& name, int ranks, int rank)
    : ranks_(ranks), rank_(rank), pidfd_(ranks, -1) {
    size_t head = (sizeof(SegmentHead) + 4095) / 4096 * 4096, slots = (size_t)ranks * kSlotBytes;
    bytes_ = head + slots + (size_t)ranks * (size_t)ranks * sizeof(Mailbox);
    int fd = shm_open(name.c_str(), O_RDWR | O_CREAT, 0600);
    if (fd < 0) throw NcclFailure{ncclSystemError, "cannot open shared memory " + name};
    void* p = ftruncate(fd, (off_t)bytes_)
                  ? MAP_FAILED
                  : mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED) throw NcclFailure{ncclSystemError, "cannot map shared memory " + name};
    head_ = (SegmentHead*)p;
    slots_ = (u8*)p + head;
    boxes_ = (Mailbox*)(slots_ + slots);
    head_->pid[rank] = getpid();
    if (head_->attached.fetch_add(1) + 1 == (u32)ranks) shm_unlink(name.c_str());
    futex_wake(&head_->attached);
}

Segment::~Segment() {
    munmap(head_, bytes_);
    for (int fd : pidfd_)
        if (fd >= 0) close(fd);
}

// A dead process whose parent has not asked for its status still has its number, but its descriptor
// is readable.
bool Segment::dead(int rank) {
    i32 pid = head_->pid[rank];
    if (pid <= 0 || pid == getpid()) return false;
    if (pidfd_[rank] < 0) pidfd_[rank] = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd_[rank] < 0) return kill(pid, 0) != 0;
    pollfd p{pidfd_[rank], POLLIN, 0};
    return poll(&p, 1, 0) == 1;
}

void Segment::check_peers(const std::atomic<bool>& aborted, u64 needed) {
    if (aborted) throw NcclAborted{};
    if (head_->aborted)
        throw NcclFailure{ncclRemoteError, "another rank has aborted the communicator"};
    for (int r = 0; r < ranks_; ++r) {
        if (dead(r)) throw NcclFailure{ncclRemoteError, "rank " + std::to_string(r) + " has died"};
        if (r != rank_ && (needed >> r & 1) && head_->pid[r] == kLeft)
            throw NcclFailure{ncclRemoteError,
                              "rank " + std::to_string(r) + " has destroyed its communicator"};
    }
}

void Segment::meet(Meeting& m, const std::atomic<bool>& aborted) {
    u32 g = m.generation;
    if (m.arrived.fetch_add(1) + 1 == (u32)ranks_) {
        m.arrived = 0;
        m.generation.fetch_add(1);
        futex_wake(&m.generation);
        return;
    }
    while (m.generation == g) {
        futex_wait(&m.generation, g);
        if (m.generation == g) check_peers(aborted);
    }
}

void Segment::wait_for_all(const std::atomic<bool>& aborted) {
    for (u32 n; (n = head_->attached) != (u32)ranks_;) {
        futex_wait(&head_->attached, n);
        if (head_->attached == n) check_peers(aborted);
    }
}

void Segment::nap() { usleep(50); }

void Segment::abort() {
    head_->aborted = 1;
    futex_wake(&head_->device.generation);
    futex_wake(&head_->host.generation);
    futex_wake(&head_->attached);
}

std::string new_segment_name() {
    if (DIR* d = opendir("/dev/shm")) {
        while (dirent* e = readdir(d)) {
            if (strncmp(e->d_name, kPrefix, sizeof kPrefix - 1)) continue;
            int pid = atoi(e->d_name + sizeof kPrefix - 1);
            if (pid > 0 && kill(pid, 0) != 0) shm_unlink((std::string("/") + e->d_name).c_str());
        }
        closedir(d);
    }
    static std::atomic<int> count{0};
    timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    char name[80];
    snprintf(name, sizeof name, "/%s%d-%lx-%d", kPrefix, getpid(), (unsigned long)t.tv_nsec,
             count++);
    return name;
}

}  // namespace ptxemu
