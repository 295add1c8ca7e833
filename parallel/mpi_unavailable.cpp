// Stands in for mpi_launch.cpp in a build without MPI.
#include "parallel/launch.h"

namespace lathe {

std::unique_ptr<Launch> join_mpi_launch(int launched) {
    fail_usage(
        "started as one of {} ranks, but this lathe was built without MPI: install libopenmpi-dev "
        "and openmpi-bin, then build again",
        launched);
}

}  // namespace lathe
