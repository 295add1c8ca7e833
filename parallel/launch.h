// Launch: this process's part in the job that a launcher (mpirun, srun) started, or the whole job
// where nobody else takes part.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace lathe {

/// Where a rank runs. Devices are chosen by the rank within the host, never by the global one.
struct RankPlace {
    int rank = 0;
    int size = 1;
    int local_rank = 0;  ///< among the job's ranks on this host
    int local_size = 1;
    std::string host;
};

/// Outlives the backend and the communicators made from it. When destroyed it leaves the job in
/// good order, together with the other ranks; while an exception is under way it leaves at once.
class Launch {
  public:
    virtual ~Launch() = default;

    virtual const RankPlace& place() const = 0;
    /// The world, over `backend`'s memory: by MPI where that is the host's, by NCCL between GPUs.
    /// Every rank calls it.
    virtual std::unique_ptr<Communicator> make_world(Backend& backend, double timeout_s) = 0;
    /// Ends the whole job on every rank, as Communicator::abort does, also before there is a world:
    /// prints the reason once, and does not return where there are other ranks.
    virtual void abort(const std::string& reason, int exit_code) noexcept = 0;
};

/// Ranks that a launcher's variables in the environment speak of; 0 where no launcher started this
/// process. Throws UsageError where Slurm started several copies that cannot find each other.
int launched_ranks();

/// Joins the job. A process that was started alone uses no MPI.
std::unique_ptr<Launch> join_launch();

/// Runs `body` as a rank's part and returns its exit code. Where it throws and there are other
/// ranks, ends the job with 2 for a UsageError and 1 for the rest; a lone process lets the
/// exception pass.
int run_in_job(Launch& launch, const std::function<int()>& body);

/// Joins a job of MPI ranks, `launched` by the launcher's word. Built without MPI: throws
/// UsageError that says what to install.
std::unique_ptr<Launch> join_mpi_launch(int launched);

}  // namespace lathe
