// Counts what a program takes from the heap and from the system: for tests that a steady state
// takes nothing. Linking it replaces malloc and its kin, operator new and mmap: not with
// sanitizers.
#pragma once

#include <cstdint>

namespace lathe::testing {

struct Allocations {
    int64_t heap = 0;    ///< calls of malloc, new and the like
    int64_t onednn = 0;  ///< those of them that oneDNN makes
    int64_t system =
        0;  ///< calls of mmap and aligned_alloc, with which the CPU backend's pool grows
};

/// Of all threads, so far.
Allocations allocations();

}  // namespace lathe::testing
