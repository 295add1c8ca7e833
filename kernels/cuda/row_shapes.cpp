#include "kernels/cuda/device_profile.h"

namespace lathe::cuda {

int64_t workspace_bytes(const Gelu&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const GeluBackward&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const Swiglu&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const SwigluBackward&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const BiasBackward&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const Cast&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const CrossEntropy&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const Embedding&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const EmbeddingBackward&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const Norm&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const NormBackward&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const AdamW&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const Accumulate&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const SquaredNorm&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const Rotary&, const DeviceProfile&) { return 0; }

}  // namespace lathe::cuda
