// The container that nvcc embeds: finds the PTX texts in it.
#pragma once
#include "kernels/ptxemu/interpreter/types.h"

namespace ptxemu {
struct FatEntry {
    bool ptx = false;
    int arch = 0;
    const u8* data = nullptr;
    u64 stored = 0, size = 0, flags = 0;
};
std::vector<FatEntry> fat_entries(const void* wrapper);  // the __fatBinC_Wrapper_t
std::string fat_bytes(const FatEntry& e);                // decompressed
std::string fat_text(const FatEntry& e);  // PTX: the same without what follows its end
}  // namespace ptxemu
