// Stands in for the NCCL communicator in a build without NCCL.
#include "parallel/nccl_communicator.h"

namespace lathe {

std::unique_ptr<Communicator> make_nccl_communicator(Backend&, std::unique_ptr<Transport>,
                                                     std::vector<int>, const std::string&, double) {
    fail_usage(
        "several ranks on GPUs need NCCL, and this lathe was built without it: install libnccl2 "
        "and libnccl-dev from NVIDIA's CUDA repository and build again, or use --device cpu");
}

}  // namespace lathe
