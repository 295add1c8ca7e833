// Softmax cross-entropy and its gradient.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/compute.h"
#include "kernels/reference/values.h"

namespace lathe::reference {

void compute(const CrossEntropy& op) {
    const auto columns = static_cast<size_t>(op.logits.columns());
    const auto vocabulary = static_cast<size_t>(op.vocabulary);
    const std::vector<double> logits = load(op.logits);
    const std::vector<int32_t> targets = load_integers(op.targets);
    std::vector<double> losses(targets.size());
    std::vector<double> d_logits(logits.size());
    for (size_t n = 0; n < targets.size(); ++n) {
        LATHE_CHECK(targets[n] < op.vocabulary, "CrossEntropy: target {} is outside of [0, {})",
                    targets[n], op.vocabulary);
        if (targets[n] < 0) {
            continue;
        }
        const auto target = static_cast<size_t>(targets[n]);
        const double* row = logits.data() + n * columns;
        const double maximum = *std::max_element(row, row + vocabulary);
        double denominator = 0;
        for (size_t v = 0; v < vocabulary; ++v) {
            denominator += std::exp(row[v] - maximum);
        }
        losses[n] = std::log(denominator) + maximum - row[target];
        for (size_t v = 0; v < vocabulary; ++v) {
            const double probability = std::exp(row[v] - maximum) / denominator;
            d_logits[n * columns + v] =
                static_cast<double>(op.scale) * (probability - (v == target ? 1 : 0));
        }
    }
    store(op.losses, losses);
    if (op.d_logits) {
        store(op.d_logits, d_logits);
    }
}

}  // namespace lathe::reference
