// A stable sort of token positions by token: the same order on every run.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace lathe::cuda {

/// Positions in the order of their tokens, equal tokens in the order of their positions.
struct SortedTokens {
    const int32_t* tokens;
    const int32_t* positions;
};

/// Sorts `count` (> 0, < 2^31) tokens of [0, vocabulary). `workspace` holds sort_workspace_bytes.
SortedTokens sort_tokens(const char* name, const int32_t* tokens, int64_t count, int64_t vocabulary,
                         void* workspace, cudaStream_t stream);

}  // namespace lathe::cuda
