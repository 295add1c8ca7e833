// The hardware descriptions of configs/hardware, built into the program.
#pragma once

#include <span>
#include <string_view>

namespace lathe {

struct ShippedHardware {
    std::string_view name;  ///< the file's, without .toml
    std::string_view text;
};

std::span<const ShippedHardware> shipped_hardware();

}  // namespace lathe
