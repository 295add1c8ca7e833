#include "parallel/launch.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>

#include "parallel/single_communicator.h"

namespace lathe {
namespace {

int number_in_environment(const char* name) {
    const char* text = std::getenv(name);
    return text == nullptr ? 0 : std::atoi(text);
}

std::string host_name() {
    std::array<char, 256> name{};
    return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

class SingleLaunch final : public Launch {
  public:
    SingleLaunch() { place_.host = host_name(); }

    const RankPlace& place() const override { return place_; }
    std::unique_ptr<Communicator> make_world(Backend&, double) override {
        return make_single_communicator();
    }
    void abort(const std::string& reason, int exit_code) noexcept override {
        make_single_communicator()->abort(reason, exit_code);
    }

  private:
    RankPlace place_;
};

}  // namespace

int launched_ranks() {
    // OpenMPI's mpirun; launchers that speak PMI (srun --mpi=pmi2, MPICH's mpirun).
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
        if (const int size = number_in_environment(name); size > 0) {
            return size;
        }
    }
    const int in_step = number_in_environment("SLURM_STEP_NUM_TASKS");
    if (std::getenv("PMIX_NAMESPACE") != nullptr) {  // srun --mpi=pmix
        return in_step > 0 ? in_step : 1;
    }
    LATHE_CHECK_USAGE(in_step <= 1,
                      "srun started {} copies that cannot find each other: use srun --mpi=pmix, or "
                      "mpirun inside the allocation",
                      in_step);
    return 0;
}

std::unique_ptr<Launch> join_launch() {
    const int launched = launched_ranks();
    if (launched == 0) {
        return std::make_unique<SingleLaunch>();
    }
    return join_mpi_launch(launched);
}

int run_in_job(Launch& launch, const std::function<int()>& body) {
    if (launch.place().size == 1) {
        return body();
    }
    try {
        return body();
    } catch (const UsageError& error) {
        launch.abort(error.what(), 2);
    } catch (const std::bad_alloc&) {
        launch.abort("out of memory", 1);
    } catch (const std::exception& error) {
        launch.abort(error.what(), 1);
    }
    return 1;
}

}  // namespace lathe
