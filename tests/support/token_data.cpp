#include "tests/support/token_data.h"

#include <random>
#include <vector>

namespace lathe::testing {

void write_token_data(const std::filesystem::path& folder, int64_t vocabulary, int64_t num_tokens) {
    std::minstd_rand random(7);
    std::vector<int32_t> tokens(static_cast<size_t>(num_tokens));
    int64_t token = 0;
    for (int32_t& slot : tokens) {
        token = (token + 1 + static_cast<int64_t>(random() % 4 == 0)) % vocabulary;
        slot = static_cast<int32_t>(token);
    }
    TokenShardWriter writer(folder, "train", vocabulary, num_tokens);
    writer.append(tokens);
    DatasetInfo info;
    info.vocabulary_size = vocabulary;
    info.recipe = "{}";
    info.splits["train"] = {.num_documents = 1,
                            .num_bytes = num_tokens,
                            .num_tokens = num_tokens,
                            .shards = writer.finish()};
    write_dataset_info(folder, info);
}

}  // namespace lathe::testing
