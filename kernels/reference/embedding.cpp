// Embedding of tokens and learned positions.
#include <vector>

#include "kernels/reference/compute.h"
#include "kernels/reference/values.h"

namespace lathe::reference {
namespace {

std::vector<int32_t> load_tokens(const char* operation, const Tensor& tokens, int64_t vocabulary) {
    std::vector<int32_t> values = load_integers(tokens);
    for (const int32_t token : values) {
        LATHE_CHECK(0 <= token && token < vocabulary, "{}: token {} is outside of [0, {})",
                    operation, token, vocabulary);
    }
    return values;
}

}  // namespace

void compute(const Embedding& op) {
    const auto tokens = load_tokens("Embedding", op.tokens, op.token_table.rows());
    const auto time = static_cast<size_t>(op.tokens.columns());
    const auto channels = static_cast<size_t>(op.token_table.columns());
    const std::vector<double> token_table = load(op.token_table);
    const std::vector<double> position_table = load(op.position_table);
    std::vector<double> y(tokens.size() * channels);
    for (size_t row = 0; row < tokens.size(); ++row) {
        const auto token = static_cast<size_t>(tokens[row]);
        const size_t position = static_cast<size_t>(op.first_position) + row % time;
        for (size_t c = 0; c < channels; ++c) {
            y[row * channels + c] = token_table[token * channels + c];
            if (op.position_table) {
                y[row * channels + c] += position_table[position * channels + c];
            }
        }
    }
    store(op.y, y);
}

void compute(const EmbeddingBackward& op) {
    const auto tokens = load_tokens("EmbeddingBackward", op.tokens, op.d_token_table.rows());
    const auto time = static_cast<size_t>(op.tokens.columns());
    const auto channels = static_cast<size_t>(op.d_token_table.columns());
    const std::vector<double> d_y = load(op.d_y);
    std::vector<double> d_token_table(static_cast<size_t>(op.d_token_table.size()));
    if (op.accumulate_tokens) {
        d_token_table = load(op.d_token_table);
    }
    std::vector<double> d_position_table(static_cast<size_t>(op.d_position_table.size()));
    for (size_t row = 0; row < tokens.size(); ++row) {
        const auto token = static_cast<size_t>(tokens[row]);
        for (size_t c = 0; c < channels; ++c) {
            d_token_table[token * channels + c] += d_y[row * channels + c];
            if (op.d_position_table) {
                d_position_table[row % time * channels + c] += d_y[row * channels + c];
            }
        }
    }
    store(op.d_token_table, d_token_table);
    if (op.d_position_table) {
        store(op.d_position_table, d_position_table);
    }
}

}  // namespace lathe::reference
