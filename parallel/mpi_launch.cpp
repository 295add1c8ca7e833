// A job of MPI ranks.
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "parallel/host_ranks.h"
#include "parallel/launch.h"
#include "parallel/message_communicator.h"
#include "parallel/mpi_check.h"
#include "parallel/mpi_transport.h"
#include "parallel/nccl_communicator.h"

namespace lathe {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// A signal handler can reach nothing but static storage.
volatile std::sig_atomic_t told_to_end = 0;

class MpiLaunch final : public Launch {
  public:
    explicit MpiLaunch(int launched) {
        int provided = MPI_THREAD_SINGLE;
        MPI_CHECK(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided));
        MPI_CHECK(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
        LATHE_CHECK(provided == MPI_THREAD_MULTIPLE,
                    "MPI was built without support of threads: use Debian's OpenMPI");
        MPI_CHECK(MPI_Comm_rank(MPI_COMM_WORLD, &place_.rank));
        MPI_CHECK(MPI_Comm_size(MPI_COMM_WORLD, &place_.size));
        LATHE_CHECK_USAGE(
            place_.size > 1 || launched <= 1,
            "started as one of {} ranks, but MPI finds no other: use the mpirun of the "
            "OpenMPI that lathe was built with",
            launched);
        find_place_on_host();
        MPI_CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &telling_));
        MPI_CHECK(MPI_Comm_set_errhandler(telling_, MPI_ERRORS_RETURN));
    }
    MpiLaunch(const MpiLaunch&) = delete;
    MpiLaunch& operator=(const MpiLaunch&) = delete;

    /// Where this rank fails, or another stays away, MPI_Finalize would wait for ever: then the
    /// process ends without it, and the launcher ends the others.
    ~MpiLaunch() override {
        if (std::uncaught_exceptions() == exceptions_at_start_ && all_ranks_leave()) {
            MPI_Comm_free(&telling_);
            MPI_Finalize();
        }
    }

    const RankPlace& place() const override { return place_; }

    std::unique_ptr<Communicator> make_world(Backend& backend, double timeout_s) override {
        timeout_s_ = timeout_s;
        std::vector<int> ranks(static_cast<size_t>(place_.size));
        std::iota(ranks.begin(), ranks.end(), 0);
        auto transport = make_mpi_transport(
            [this](int, const std::string& reason, int code) { abort(reason, code); },
            [this](int rank) { return has_ended(rank); });
        if (backend.device().kind == "cuda") {
            return make_nccl_communicator(backend, std::move(transport), std::move(ranks),
                                          place_.host, timeout_s);
        }
        return std::make_unique<MessageCommunicator>(std::make_shared<BackendQueue>(backend),
                                                     std::move(transport), std::move(ranks),
                                                     timeout_s);
    }

    void abort(const std::string& reason, int exit_code) noexcept override {
        if (aborting_.exchange(true)) {
            std::this_thread::sleep_for(std::chrono::hours(1));  // another thread is ending it
        }
        // The launcher may have seen a rank die, and end the others meanwhile: what is to be told
        // comes first.
        std::signal(SIGTERM, [](int) { told_to_end = 1; });
        if (may_tell()) {
            std::fprintf(stderr, "lathe: rank %d: %s\n", place_.rank, reason.c_str());
            tell_other_hosts();
        } else {
            // Whoever told ends the job, and with it this process.
            const auto deadline = Clock::now() + kEndedWithin;
            while (told_to_end == 0 && Clock::now() < deadline) {
                std::this_thread::sleep_for(milliseconds(5));
            }
            std::_Exit(exit_code);
        }
        std::signal(SIGTERM, SIG_DFL);
        MPI_Abort(MPI_COMM_WORLD, exit_code);
        std::_Exit(exit_code);
    }

  private:
    void find_place_on_host() {
        MPI_Comm host = MPI_COMM_NULL;
        MPI_CHECK(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, place_.rank,
                                      MPI_INFO_NULL, &host));
        MPI_CHECK(MPI_Comm_rank(host, &place_.local_rank));
        MPI_CHECK(MPI_Comm_size(host, &place_.local_size));
        meet_ranks_on_host(host);
        MPI_CHECK(MPI_Comm_free(&host));
        std::array<char, MPI_MAX_PROCESSOR_NAME> name{};
        int length = 0;
        MPI_CHECK(MPI_Get_processor_name(name.data(), &length));
        place_.host.assign(name.data(), static_cast<size_t>(length));
    }

    void meet_ranks_on_host(MPI_Comm host) {
        const HostRanks::Process mine = HostRanks::this_process(place_.rank);
        std::vector<HostRanks::Process> all(static_cast<size_t>(place_.local_size));
        MPI_CHECK(
            MPI_Allgather(&mine, sizeof(mine), MPI_BYTE, all.data(), sizeof(mine), MPI_BYTE, host));
        host_ranks_.set_processes(all);
        const bool makes = place_.local_rank == 0;
        int descriptor = makes ? host_ranks_.share() : -1;
        MPI_CHECK(MPI_Bcast(&descriptor, 1, MPI_INT, 0, host));
        if (!makes) {
            host_ranks_.open_shared(all[0].world_rank, descriptor);
        }
        MPI_CHECK(MPI_Barrier(host));
        if (makes && descriptor >= 0) {
            close(descriptor);
        }
    }

    bool has_ended(int rank) const { return host_ranks_.state_of(rank) == HostRanks::State::ended; }

    /// What has gone wrong on one rank soon goes wrong on all, and shall be told once, by the
    /// lowest rank that can. True where this rank is the one. On a host exactly one rank is, ever;
    /// hosts learn of each other by a message, which has the time of the wait.
    bool may_tell() {
        int lower_ranks = 0;
        for (int rank = 0; rank < place_.rank; ++rank) {
            lower_ranks += can_tell(rank) ? 1 : 0;
        }
        const auto deadline = Clock::now() + kTurn * std::min(lower_ranks, kMostTurns);
        while (lower_ranks > 0 && Clock::now() < deadline && !is_told()) {
            std::this_thread::sleep_for(milliseconds(5));
        }
        return !is_told() && host_ranks_.claim_telling();
    }
    bool can_tell(int rank) const {
        const HostRanks::State state = host_ranks_.state_of(rank);
        return state != HostRanks::State::ended && state != HostRanks::State::stopped;
    }
    bool is_told() const {
        int arrived = 0;
        return host_ranks_.is_told() || (MPI_Iprobe(MPI_ANY_SOURCE, 0, telling_, &arrived,
                                                    MPI_STATUS_IGNORE) == MPI_SUCCESS &&
                                         arrived != 0);
    }

    /// Waits for no answer: a host may be gone.
    void tell_other_hosts() const {
        std::vector<MPI_Request> requests;
        for (int rank = 0; rank < place_.size; ++rank) {
            if (host_ranks_.state_of(rank) == HostRanks::State::unknown) {
                requests.push_back(MPI_REQUEST_NULL);
                MPI_Isend(nullptr, 0, MPI_BYTE, rank, 0, telling_, &requests.back());
            }
        }
        const auto deadline = Clock::now() + kNoticeTakes;
        int done = 0;
        while (done == 0 && Clock::now() < deadline &&
               MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done,
                           MPI_STATUSES_IGNORE) == MPI_SUCCESS) {
            std::this_thread::sleep_for(milliseconds(1));
        }
    }

    /// Whether every rank has come to the end within the timeout, and a bit: those that wait in a
    /// collective shall tell first.
    bool all_ranks_leave() {
        const auto deadline =
            Clock::now() + std::chrono::duration<double>(timeout_s_) + kLeaveLater;
        MPI_Request request = MPI_REQUEST_NULL;
        int done = 0;
        if (MPI_Ibarrier(MPI_COMM_WORLD, &request) != MPI_SUCCESS) {
            return false;
        }
        while (MPI_Test(&request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done == 0 &&
               Clock::now() < deadline) {
            std::this_thread::sleep_for(milliseconds(1));
        }
        if (done == 0 && may_tell()) {
            std::fprintf(stderr, "lathe: rank %d: another rank has not ended within %g s\n",
                         place_.rank, timeout_s_);
        }
        return done != 0;
    }

    static constexpr std::chrono::seconds kLeaveLater{5};
    static constexpr std::chrono::seconds kTurn{1};  ///< that each lower rank has to tell
    static constexpr int kMostTurns = 5;
    static constexpr milliseconds kNoticeTakes{200};
    static constexpr std::chrono::seconds kEndedWithin{10};

    RankPlace place_;
    HostRanks host_ranks_;
    MPI_Comm telling_ = MPI_COMM_NULL;  ///< carries the notice that a rank has told
    double timeout_s_ = 300;
    int exceptions_at_start_ = std::uncaught_exceptions();
    std::atomic<bool> aborting_ = false;
};

}  // namespace

std::unique_ptr<Launch> join_mpi_launch(int launched) {
    return std::make_unique<MpiLaunch>(launched);
}

}  // namespace lathe
