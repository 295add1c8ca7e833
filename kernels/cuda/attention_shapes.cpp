#include "kernels/cuda/device_profile.h"

namespace lathe::cuda {

int64_t workspace_bytes(const Attention&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const AttentionBackward&, const DeviceProfile&) { return 0; }
int64_t workspace_bytes(const CachedAttention&, const DeviceProfile&) { return 0; }

}  // namespace lathe::cuda
