// One rank of a small job in which rank FAULTY does FAULT in the middle of its collectives; for
// mpi_fault_test and nccl_fault_test. Usage: mpi_faulty_rank FAULT FAULTY TIMEOUT_S
// at_once|overlapping|cuda
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "parallel/launch.h"

namespace lathe {
namespace {

void do_fault(const std::string& fault, Communicator& world) {
    if (fault == "exit") {
        std::_Exit(0);
    } else if (fault == "fail") {
        fail("the disk is full");
    } else if (fault == "refuse") {
        fail_usage("steps = -1: must be positive");
    } else if (fault == "stop") {
        std::raise(SIGSTOP);
    } else if (fault == "kill") {
        std::raise(SIGKILL);
    } else if (fault == "hang") {
        sleep(3600);
    } else if (fault == "mismatch") {
        world.barrier({.tensor = "elsewhere", .step = 3});
    }
}

int run(Launch& launch, Backend& backend, Communicator& world, const std::string& fault,
        int faulty_rank) {
    return run_in_job(launch, [&] {
        const Buffer row = backend.allocate({1000}, DType::f32, MemoryCategory::communication);
        backend.fill_zero(row, Stream::compute);
        for (int step = 1; step <= 5; ++step) {
            const bool is_faulty = step == 3 && (world.rank() == faulty_rank || faulty_rank < 0);
            if (is_faulty && fault == "return") {
                return 0;
            }
            if (is_faulty) {
                do_fault(fault, world);
            }
            backend.wait(Stream::communication, backend.record(Stream::compute));
            world.all_reduce(row, {.tensor = "gradients of head", .step = step});
            backend.wait(Stream::compute, backend.record(Stream::communication));
        }
        backend.synchronize(Stream::compute);
        return 0;
    });
}

std::unique_ptr<Backend> make_backend(const std::string& kind, const RankPlace& place) {
    if (kind == "cuda") {
        return make_cuda_backend({.device = place.local_rank});
    }
    return kind == "overlapping" ? make_overlapping_cpu_backend(1) : make_cpu_backend(1);
}

}  // namespace
}  // namespace lathe

int main(int argc, char** argv) {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    // As training does, which ends at a step's boundary.
    std::signal(SIGTERM, [](int) {});
    const auto launch = lathe::join_launch();
    const auto backend = lathe::make_backend(arguments.at(3), launch->place());
    // However long the start takes, the short timeout counts from here.
    launch->make_world(*backend, 120)->barrier({.tensor = "start", .step = 0});
    const auto world = launch->make_world(*backend, std::stod(arguments.at(2)));
    return lathe::run(*launch, *backend, *world, arguments.at(0), std::stoi(arguments.at(1)));
}
