// HostRanks: the job's ranks on this host, as processes: which of them still live, and which one
// tells why the job ends.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <vector>

namespace lathe {

class HostRanks {
  public:
    /// A process, and when it began: its number may serve another one later.
    struct Process {
        int32_t world_rank = 0;
        pid_t id = 0;
        uint64_t start_time = 0;  ///< in clock ticks since the machine's start
    };
    enum class State { unknown, runs, stopped, ended };

    static Process this_process(int world_rank);

    HostRanks();
    HostRanks(const HostRanks&) = delete;
    HostRanks& operator=(const HostRanks&) = delete;
    ~HostRanks();

    /// Memory that lives as long as any rank uses it, without a name in any file system: one rank
    /// makes it, the others open it by the maker and this number, while the maker keeps it open.
    /// Where that cannot be done, a rank goes on with memory of its own.
    int share();
    void open_shared(int maker_rank, int descriptor);

    /// Takes the ranks of this host. Those whose process is not visible from here are left out.
    void set_processes(const std::vector<Process>& processes);

    /// Unknown for the ranks of other hosts.
    State state_of(int world_rank) const;

    /// True on one rank of this host, once, however many ask, and whoever of them is stopped or
    /// killed.
    bool claim_telling();
    bool is_told() const { return told_->load() != 0; }

  private:
    static_assert(std::atomic<int>::is_always_lock_free);

    void map(int descriptor);
    const Process* find(int world_rank) const;

    std::vector<Process> processes_;
    std::atomic<int> own_told_ = 0;
    std::atomic<int>* told_ = &own_told_;
};

}  // namespace lathe
