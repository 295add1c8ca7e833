#include "train/evaluation.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "parallel/gather_in_turn.h"
#include "train/micro_batch.h"

namespace lathe {

Evaluator::Evaluator(Backend& backend, const Tokenizer& tokenizer, int64_t batch,
                     int64_t sequence_length)
    : backend_(backend),
      bytes_of_token_(tokenizer.text_bytes()),
      batch_(batch),
      sequence_length_(sequence_length) {}

Evaluation Evaluator::run(Transformer& model, ParamAccess& params, const Loader& loader,
                          int64_t max_sequences, Communicator& world) {
    const int64_t available = loader.num_samples();
    const int64_t sequences = max_sequences == 0 ? available : std::min(max_sequences, available);
    const int64_t num_batches = (sequences + batch_ - 1) / batch_;
    MicroBatch batch(backend_, std::min(batch_, sequences), sequence_length_);
    std::vector<double> losses;
    std::vector<double> bytes;
    for (int64_t round = 0; round < num_batches; round += world.size()) {
        const int64_t mine = round + world.rank();
        if (mine >= num_batches) {
            model.follow_evaluate(params);
            continue;
        }
        batch.load(loader, mine * batch_, std::min(batch_, sequences - mine * batch_));
        model.evaluate(params, batch.tokens(), batch.targets(), batch.losses());
        losses.push_back(batch.sum_losses());
        bytes.push_back(static_cast<double>(text_bytes(batch.host_targets())));
    }
    const CollectiveLabel label = {.tensor = "validation losses", .step = 0};
    const std::vector<double> all_losses = gather_in_turn(world, losses, num_batches, label);
    const std::vector<double> all_bytes = gather_in_turn(world, bytes, num_batches, label);
    const double sum = std::accumulate(all_losses.begin(), all_losses.end(), 0.0);
    const double num_bytes = std::accumulate(all_bytes.begin(), all_bytes.end(), 0.0);
    const int64_t tokens = sequences * sequence_length_;
    return {.loss = sum / static_cast<double>(tokens),
            .bits_per_byte = sum / (std::numbers::ln2 * std::max(num_bytes, 1.0)),
            .tokens = tokens};
}

int64_t Evaluator::text_bytes(std::span<const int32_t> tokens) const {
    int64_t bytes = 0;
    for (const int32_t token : tokens) {
        bytes += bytes_of_token_.at(static_cast<size_t>(token));
    }
    return bytes;
}

}  // namespace lathe
