// What ptxas gave a kernel: from machine code in the program, or by running ptxas on the PTX when
// somebody asks.
#pragma once
#include <optional>

#include "kernels/ptxemu/runtime/runtime.h"

namespace ptxemu {

struct MachineResources {
    int registers = 0;       // a thread's
    size_t stack_bytes = 0;  // a thread's local memory
};

// Nothing where the program has no machine code for this device and there is no ptxas
// (PTXEMU_PTXAS, or the toolkit's).
std::optional<MachineResources> machine_resources(KernelRec& k);

}  // namespace ptxemu
