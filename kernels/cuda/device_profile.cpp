#include "kernels/cuda/device_profile.h"

#include <array>
#include <utility>

#include "kernels/error.h"

namespace lathe::cuda {

DeviceProfile profile_of(std::string_view device) {
    // CUDA C++ Programming Guide, "Compute Capabilities", and the devices' data sheets.
    static constexpr std::array<std::pair<std::string_view, DeviceProfile>, 4> kKnown = {{
        {"a100", {80, 108, 166912, 167936}},
        {"h100", {90, 132, 232448, 233472}},
        {"rtx4090", {89, 128, 101376, 102400}},
        {"rtx5090", {120, 170, 101376, 102400}},
    }};
    std::string names;
    for (const auto& [name, profile] : kKnown) {
        if (name == device) {
            return profile;
        }
        names += names.empty() ? "" : ", ";
        names += name;
    }
    fail_usage("CUDA device \"{}\" is not known; known are {}", device, names);
}

}  // namespace lathe::cuda
