// A job of MPI ranks.
#include <mpi.h>

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

#include "parallel/launch.h"
#include "parallel/message_communicator.h"
#include "parallel/mpi_check.h"
#include "parallel/mpi_transport.h"

namespace lathe {
namespace {

using std::chrono::milliseconds;

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
    }
    MpiLaunch(const MpiLaunch&) = delete;
    MpiLaunch& operator=(const MpiLaunch&) = delete;

    /// Where this rank fails, or another stays away, MPI_Finalize would wait for ever: then the
    /// process ends without it, and the launcher ends the others.
    ~MpiLaunch() override {
        if (std::uncaught_exceptions() == exceptions_at_start_ && all_ranks_leave()) {
            MPI_Finalize();
        }
    }

    const RankPlace& place() const override { return place_; }

    std::unique_ptr<Communicator> make_world(Backend& backend, double timeout_s) override {
        timeout_s_ = timeout_s;
        std::vector<int> ranks(static_cast<size_t>(place_.size));
        std::iota(ranks.begin(), ranks.end(), 0);
        auto transport = make_mpi_transport(
            [this](int, const std::string& reason, int code) { abort(reason, code); });
        return std::make_unique<MessageCommunicator>(backend, std::move(transport),
                                                     std::move(ranks), timeout_s);
    }

    void abort(const std::string& reason, int exit_code) noexcept override {
        if (aborting_.exchange(true)) {
            std::this_thread::sleep_for(std::chrono::hours(1));  // another thread is ending it
        }
        // What has gone wrong on one rank soon goes wrong on all. Rank 0 speaks first; the others
        // speak only if nobody has ended the job by then, and let it end them.
        std::signal(SIGTERM, SIG_DFL);
        if (place_.rank > 0) {
            std::this_thread::sleep_for(milliseconds(500) +
                                        milliseconds(250) * std::min(place_.rank - 1, 8));
        }
        std::fprintf(stderr, "lathe: rank %d: %s\n", place_.rank, reason.c_str());
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
        MPI_CHECK(MPI_Comm_free(&host));
        std::array<char, MPI_MAX_PROCESSOR_NAME> name{};
        int length = 0;
        MPI_CHECK(MPI_Get_processor_name(name.data(), &length));
        place_.host.assign(name.data(), static_cast<size_t>(length));
    }

    /// Whether every rank has come to the end within the timeout, and a bit: those that wait in a
    /// collective shall tell first.
    bool all_ranks_leave() const {
        const auto deadline = std::chrono::steady_clock::now() +
                              std::chrono::duration<double>(timeout_s_ + kLeaveLater_s);
        MPI_Request request = MPI_REQUEST_NULL;
        int done = 0;
        if (MPI_Ibarrier(MPI_COMM_WORLD, &request) != MPI_SUCCESS) {
            return false;
        }
        while (MPI_Test(&request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done == 0 &&
               std::chrono::steady_clock::now() < deadline) {
            std::this_thread::sleep_for(milliseconds(1));
        }
        if (done == 0) {
            std::fprintf(stderr, "lathe: rank %d: another rank has not ended within %g s\n",
                         place_.rank, timeout_s_);
        }
        return done != 0;
    }

    static constexpr double kLeaveLater_s = 5;

    RankPlace place_;
    double timeout_s_ = 300;
    int exceptions_at_start_ = std::uncaught_exceptions();
    std::atomic<bool> aborting_ = false;
};

}  // namespace

std::unique_ptr<Launch> join_mpi_launch(int launched) {
    return std::make_unique<MpiLaunch>(launched);
}

}  // namespace lathe
