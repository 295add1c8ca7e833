#include "model/kv_cache.h"

namespace lathe {

KvCache::KvCache(const ModelConfig& config, Backend& backend, DType compute, int64_t batch,
                 int64_t positions)
    : batch_(batch), positions_(positions) {
    LATHE_CHECK_USAGE(batch >= 1, "a key/value cache for {} sequences: at least 1 is needed",
                      batch);
    LATHE_CHECK_USAGE(positions >= 1 && positions <= config.sequence_length,
                      "a context of {} tokens: the model takes from 1 to {} (prompt and new tokens "
                      "together)",
                      positions, config.sequence_length);
    const Shape shape = {batch, config.kv_heads, positions, config.head_size()};
    for (int64_t layer = 0; layer < config.layers; ++layer) {
        keys_.push_back(backend.allocate(shape, compute, MemoryCategory::activations));
        values_.push_back(backend.allocate(shape, compute, MemoryCategory::activations));
    }
}

}  // namespace lathe
