// How Matmul is cut on a CUDA device: plain numbers, so that a dry run knows the workspace.
#pragma once

#include <cstdint>

#include "kernels/cuda/device_profile.h"

namespace lathe::cuda {

/// The part of the output that one block makes, and the stages of operands that it holds meanwhile.
struct MatmulTile {
    int rows;     ///< of the output
    int columns;  ///< of the output
    int depth;    ///< of K', a stage
    int stages;

    /// Shared memory of the stages.
    constexpr int64_t stage_bytes(int64_t element_bytes) const {
        return element_bytes * stages * depth * (rows + columns);
    }
};

inline constexpr MatmulTile kBf16Small = {64, 64, 64, 3};
inline constexpr MatmulTile kBf16Medium = {128, 128, 64, 3};
inline constexpr MatmulTile kBf16Wide = {128, 256, 32, 3};
inline constexpr MatmulTile kF32Small = {64, 64, 16, 2};
inline constexpr MatmulTile kF32Medium = {128, 128, 16, 2};

/// few_rows: bound by reading b, as in generation.
enum class MatmulKernel { few_rows, small, medium, wide };

/// A function of shapes, types and the device alone.
struct MatmulPlan {
    int64_t m = 0;
    int64_t n = 0;
    int64_t k = 0;
    MatmulKernel kernel = MatmulKernel::small;
    int64_t splits = 1;         ///< parts of the sum over K', added in order afterwards
    int64_t split_depth = 0;    ///< K' of each part but the last, a multiple of every tile's depth
    int64_t partial_bytes = 0;  ///< f32 sums of the parts, where there are several
};

inline constexpr int64_t kMostFewRows = 16;

MatmulPlan plan_matmul(const Matmul& op, const DeviceProfile& device);

/// What cuBLASLt may use for itself.
int64_t cublas_workspace_bytes(const DeviceProfile& device);
/// Whether the product is first rounded to compute in workspace, since nobody keeps the value
/// before the activation.
bool needs_cublas_pre_activation(const Matmul& op);

}  // namespace lathe::cuda
