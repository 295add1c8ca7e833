// Times the communicator's collectives beside MPI's own blocking ones, alternating, and prints
// medians: scripts/mpirun.sh -n 4 build/release/communicator_bench [REPETITIONS]
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "parallel/launch.h"

namespace lathe {
namespace {

struct Contender {
    std::string name;
    std::function<void()> run;
    std::vector<double> seconds;

    double median_ms() {
        std::sort(seconds.begin(), seconds.end());
        return 1e3 * seconds[seconds.size() / 2];
    }
};

/// A row of `size` floats, its equal parts, and room for every rank's copy of one part.
class Row {
  public:
    Row(Backend& backend, Communicator& world, int64_t size)
        : backend_(backend),
          world_(world),
          size_(size / world.size() * world.size()),
          row_(backend.allocate({size_}, DType::f32, MemoryCategory::communication)),
          result_(backend.allocate({size_}, DType::f32, MemoryCategory::communication)),
          sum_(backend.allocate({part()}, DType::f32, MemoryCategory::communication)) {
        backend.fill_zero(row_, Stream::compute);
        backend.fill_zero(result_, Stream::compute);
        for (int rank = 0; rank < world.size(); ++rank) {
            parts_.push_back(row_.tensor().slice(rank * part(), (rank + 1) * part()));
            staging_.push_back(result_.tensor().slice(rank * part(), (rank + 1) * part()));
        }
    }

    std::vector<Contender> contenders() {
        const int count = static_cast<int>(part());
        auto* const row = row_.tensor().as<float>();
        auto* const result = result_.tensor().as<float>();
        const auto add = [this] {
            backend_.run(Accumulate{.sum = sum_, .contributions = staging_, .assign = true});
        };
        return {
            {"all_to_all + ordered sum",
             [=, this] {
                 world_.all_to_all(parts_, staging_, {.tensor = "row", .step = 1});
                 add();
             },
             {}},
            {"  MPI_Alltoall + ordered sum",
             [=] {
                 MPI_Alltoall(row, count, MPI_FLOAT, result, count, MPI_FLOAT, MPI_COMM_WORLD);
                 add();
             },
             {}},
            {"reduce_scatter",
             [this] { world_.reduce_scatter(parts_, {.tensor = "row", .step = 1}); },
             {}},
            {"  MPI_Reduce_scatter_block",
             [=] {
                 MPI_Reduce_scatter_block(row, result, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
             },
             {}},
            {"all_reduce", [this] { world_.all_reduce(row_, {.tensor = "row", .step = 1}); }, {}},
            {"  MPI_Allreduce",
             [=, this] {
                 MPI_Allreduce(MPI_IN_PLACE, row, static_cast<int>(size_), MPI_FLOAT, MPI_SUM,
                               MPI_COMM_WORLD);
             },
             {}},
            {"all_gather", [this] { world_.all_gather(parts_, {.tensor = "row", .step = 1}); }, {}},
            {"  MPI_Allgather",
             [=] {
                 MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, row, count, MPI_FLOAT,
                               MPI_COMM_WORLD);
             },
             {}},
            {"broadcast", [this] { world_.broadcast(row_, 0, {.tensor = "row", .step = 1}); }, {}},
            {"  MPI_Bcast",
             [=, this] { MPI_Bcast(row, static_cast<int>(size_), MPI_FLOAT, 0, MPI_COMM_WORLD); },
             {}},
            {"barrier", [this] { world_.barrier({.tensor = "row", .step = 1}); }, {}},
            {"  MPI_Barrier", [] { MPI_Barrier(MPI_COMM_WORLD); }, {}},
        };
    }

  private:
    int64_t part() const { return size_ / world_.size(); }

    Backend& backend_;
    Communicator& world_;
    int64_t size_;
    Buffer row_;
    Buffer result_;
    Buffer sum_;
    std::vector<Tensor> parts_;
    std::vector<Tensor> staging_;
};

void measure(Backend& backend, Communicator& world, int64_t bytes, int repetitions) {
    Row row(backend, world, bytes / size_of(DType::f32));
    std::vector<Contender> contenders = row.contenders();
    for (int repetition = 0; repetition < repetitions + 1; ++repetition) {
        for (Contender& contender : contenders) {
            world.barrier({.tensor = "start", .step = repetition});
            const auto start = std::chrono::steady_clock::now();
            contender.run();
            if (repetition > 0) {  // the first one touches memory
                contender.seconds.push_back(
                    std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
                        .count());
            }
        }
    }
    for (Contender& contender : contenders) {
        if (world.rank() == 0) {
            fmt::print("{:>12} bytes  {:<30} {:>10.3f} ms\n", bytes, contender.name,
                       contender.median_ms());
        }
    }
}

int run(int repetitions) {
    const auto launch = join_launch();
    const auto backend = make_cpu_backend(1);
    const auto world = launch->make_world(*backend, 60);
    if (world->rank() == 0) {
        fmt::print("{} ranks, {} a host\n", launch->place().size, launch->place().local_size);
    }
    for (const int64_t bytes :
         {int64_t{1} << 12, int64_t{1} << 20, int64_t{1} << 24, int64_t{1} << 27}) {
        measure(*backend, *world, bytes, repetitions);
    }
    return 0;
}

}  // namespace
}  // namespace lathe

int main(int argc, char** argv) { return lathe::run(argc > 1 ? std::atoi(argv[1]) : 7); }
