#include "tests/support/ranks.h"

#include <exception>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "parallel/local_communicator.h"

namespace lathe::testing {

void run_ranks(int num_ranks, const RankBody& body, const RankOptions& options) {
    std::vector<std::unique_ptr<Backend>> backends;
    std::vector<Backend*> pointers;
    for (int rank = 0; rank < num_ranks; ++rank) {
        backends.push_back(options.overlap ? make_overlapping_cpu_backend(options.threads)
                                           : make_cpu_backend(options.threads));
        pointers.push_back(backends.back().get());
    }
    const auto world = make_local_communicators(pointers, options.timeout_s);
    std::vector<std::exception_ptr> failures(world.size());
    std::vector<std::thread> ranks;
    for (size_t rank = 0; rank < world.size(); ++rank) {
        ranks.emplace_back([&, rank] {
            try {
                body(*backends[rank], *world[rank]);
            } catch (const std::exception& error) {
                failures[rank] = std::current_exception();
                world[rank]->abort(error.what(), 1);
            }
        });
    }
    for (std::thread& rank : ranks) {
        rank.join();
    }
    for (const std::exception_ptr& failure : failures) {
        if (failure) {
            std::rethrow_exception(failure);
        }
    }
}

}  // namespace lathe::testing
