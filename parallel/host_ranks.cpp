#include "parallel/host_ranks.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

namespace lathe {
namespace {

constexpr size_t kSharedBytes = sizeof(std::atomic<int>);

struct ProcessState {
    char letter = 'X';  ///< as ps shows it; X: there is no such process
    uint64_t start_time = 0;
};

/// From /proc/ID/stat, whose second field, the name in parentheses, may hold anything.
ProcessState read_state(pid_t id) {
    std::ifstream file(fmt::format("/proc/{}/stat", id));
    std::string line;
    std::getline(file, line);
    const size_t name_end = line.rfind(')');
    ProcessState state;
    if (name_end == std::string::npos) {
        return state;
    }
    constexpr int kFieldsBeforeStartTime = 18;  // between the state and the start time
    std::istringstream fields(line.substr(name_end + 1));
    fields >> state.letter;
    std::string skipped;
    for (int i = 0; i < kFieldsBeforeStartTime; ++i) {
        fields >> skipped;
    }
    fields >> state.start_time;
    return state;
}

}  // namespace

HostRanks::Process HostRanks::this_process(int world_rank) {
    return {
        .world_rank = world_rank, .id = getpid(), .start_time = read_state(getpid()).start_time};
}

HostRanks::HostRanks() = default;

HostRanks::~HostRanks() {
    if (told_ != &own_told_) {
        munmap(told_, kSharedBytes);
    }
}

void HostRanks::map(int descriptor) {
    void* const memory =
        mmap(nullptr, kSharedBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (memory != MAP_FAILED) {
        told_ = static_cast<std::atomic<int>*>(memory);  // new memory is 0: not told
    }
}

int HostRanks::share() {
    const int descriptor = memfd_create("lathe", MFD_CLOEXEC);
    if (descriptor >= 0 && ftruncate(descriptor, kSharedBytes) == 0) {
        map(descriptor);
    }
    return descriptor;
}

void HostRanks::open_shared(int maker_rank, int descriptor) {
    const Process* const maker = find(maker_rank);
    if (maker == nullptr || descriptor < 0) {
        return;
    }
    const int opened =
        open(fmt::format("/proc/{}/fd/{}", maker->id, descriptor).c_str(), O_RDWR | O_CLOEXEC);
    if (opened >= 0) {
        map(opened);
        close(opened);
    }
}

void HostRanks::set_processes(const std::vector<Process>& processes) {
    processes_.clear();
    for (const Process& process : processes) {
        if (read_state(process.id).start_time == process.start_time) {
            processes_.push_back(process);
        }
    }
}

const HostRanks::Process* HostRanks::find(int world_rank) const {
    const auto found =
        std::find_if(processes_.begin(), processes_.end(),
                     [&](const Process& process) { return process.world_rank == world_rank; });
    return found == processes_.end() ? nullptr : &*found;
}

HostRanks::State HostRanks::state_of(int world_rank) const {
    const Process* const process = find(world_rank);
    if (process == nullptr) {
        return State::unknown;
    }
    const ProcessState state = read_state(process->id);
    if (state.letter == 'X' || state.letter == 'Z' || state.start_time != process->start_time) {
        return State::ended;
    }
    return state.letter == 'T' || state.letter == 't' ? State::stopped : State::runs;
}

bool HostRanks::claim_telling() {
    int expected = 0;
    return told_->compare_exchange_strong(expected, 1);
}

}  // namespace lathe
