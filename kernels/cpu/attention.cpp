// Attention forward: one thread takes one block of queries of one head through all keys it sees,
// with the online softmax of FlashAttention-2 (arXiv 2307.08691).
#include <algorithm>

#include "kernels/cpu/attention_blocks.h"
#include "kernels/cpu/cpu_backend_impl.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/threads.h"

namespace lathe::cpu {
namespace {

class ForwardAttention {
  public:
    ForwardAttention(const Attention& op, const AttentionGeometry& geometry, TileMatmul& tiles)
        : op_(op), g_(geometry), tiles_(tiles) {
        Scratch workspace(op.workspace.data());
        const int64_t blocks = g_.batch * g_.kv_heads * g_.num_blocks();
        keys_ = workspace.take(blocks * g_.by_keys_bytes());
        values_ = workspace.take(blocks * g_.by_head_bytes());
        // Primitives are made before threads start: every (rows, keys) that occurs.
        for_each_product([&](int64_t rows, int64_t keys) {
            score_product(rows, keys);
            value_product(rows, keys, false);
            value_product(rows, keys, true);
        });
    }

    static int64_t workspace_bytes(const AttentionGeometry& g) {
        const int64_t blocks = g.batch * g.kv_heads * g.num_blocks();
        return blocks * (g.by_keys_bytes() + g.by_head_bytes()) + 64;
    }

    /// To be called by every thread of a team.
    void run(TeamThread& thread, std::byte* scratch) {
        const int64_t blocks = g_.num_blocks();
        team_for(thread, g_.batch * g_.kv_heads * blocks, [&](int64_t i) { pack_block(i); });
        const int64_t heads = g_.batch * g_.heads;
        team_for(thread, heads * blocks, [&](int64_t i) {
            // The longest first, so that threads end together.
            attend(thread, scratch, i % heads / g_.heads, i % heads % g_.heads,
                   blocks - 1 - i / heads);
        });
    }

  private:
    template <typename Body>
    void for_each_product(const Body& body) const {
        for (int64_t block = 0; block < g_.num_blocks(); ++block) {
            const int64_t rows = g_.block_rows(block);
            const int64_t keys = block * kBlock + rows;
            if (keys >= g_.grouped_keys) {
                body(rows, g_.grouped_keys);
            }
            if (keys % g_.grouped_keys != 0) {
                body(rows, keys % g_.grouped_keys);
            }
        }
    }
    TileMatmul::Primitive score_product(int64_t rows, int64_t keys) {
        return tiles_.get({rows, keys, g_.head_size, g_.operand, g_.by_keys.width, false});
    }
    TileMatmul::Primitive value_product(int64_t rows, int64_t keys, bool accumulate) {
        return tiles_.get({rows, g_.head_size, keys, g_.operand, g_.by_head.width, accumulate});
    }

    void pack_block(int64_t i) {
        const int64_t block = i % g_.num_blocks();
        const int64_t b = i / g_.num_blocks() / g_.kv_heads;
        const int64_t head = i / g_.num_blocks() % g_.kv_heads;
        const int64_t t = block * kBlock;
        const int64_t rows = g_.block_rows(block);
        pack_right(keys_ + i * g_.by_keys_bytes(), g_.operand, g_.by_keys,
                   transposed(g_.rows(op_.qkv, b, t, g_.key_column(head))), g_.head_size, rows);
        pack_right(values_ + i * g_.by_head_bytes(), g_.operand, g_.by_head,
                   g_.rows(op_.qkv, b, t, g_.value_column(head)), rows, g_.head_size);
    }

    void attend(int thread, std::byte* memory, int64_t b, int64_t head, int64_t block) {
        Scratch scratch(memory);
        const int64_t rows = g_.block_rows(block);
        const int64_t query = block * kBlock;
        std::byte* queries = scratch.take(g_.dense_bytes());
        SoftmaxBlock softmax{};
        softmax.scores = scratch.take_floats(kBlock * g_.grouped_keys);
        softmax.rows = rows;
        softmax.query = query;
        softmax.scale = g_.scale;
        softmax.slope = op_.slopes ? static_cast<const float*>(op_.slopes.data())[head] : 0.0F;
        softmax.operand = g_.operand;
        softmax.probabilities = scratch.take(kBlock * g_.grouped_keys * size_of(g_.operand));
        softmax.maximum = scratch.take_floats(kBlock);
        softmax.sum = scratch.take_floats(kBlock);
        softmax.y = scratch.take_floats(kBlock * g_.head_size);
        softmax.head_size = g_.head_size;
        pack_left(queries, g_.operand, g_.rows(op_.qkv, b, query, head * g_.head_size), rows,
                  g_.head_size);
        const int64_t first_block = (b * g_.kv_heads + head / g_.group) * g_.num_blocks();
        for (int64_t key = 0; key < query + rows; key += g_.grouped_keys) {
            softmax.key = key;
            softmax.keys = std::min(g_.grouped_keys, query + rows - key);
            const int64_t packed = first_block + key / kBlock;
            tiles_.run(score_product(rows, softmax.keys), thread, queries,
                       keys_ + packed * g_.by_keys_bytes(), softmax.scores);
            softmax_block(softmax, key == 0);
            tiles_.run(value_product(rows, softmax.keys, key > 0), thread, softmax.probabilities,
                       values_ + packed * g_.by_head_bytes(), softmax.y);
        }
        const int64_t columns = g_.heads * g_.head_size;
        const MatrixView y = g_.rows(op_.y, b, query, head * g_.head_size);
        float* log_sum_exp =
            static_cast<float*>(op_.log_sum_exp.data()) + (b * g_.heads + head) * g_.time + query;
        finish_softmax(softmax, const_cast<void*>(y.data), g_.dtype, columns, log_sum_exp);
    }

    const Attention& op_;
    const AttentionGeometry& g_;
    TileMatmul& tiles_;
    std::byte* keys_;
    std::byte* values_;
};

}  // namespace

int64_t CpuBackend::workspace_bytes(const Attention& op) const {
    return ForwardAttention::workspace_bytes(AttentionGeometry(op.heads, op.qkv, support_));
}

void CpuBackend::execute(const Attention& op, Stream) {
    const AttentionGeometry geometry(op.heads, op.qkv, support_);
    if (op.qkv.size() == 0) {
        return;
    }
    ForwardAttention attention(op, geometry, tiles_);
    run_team(team(), [&](TeamThread& thread) { attention.run(thread, thread_scratch(thread)); });
}

}  // namespace lathe::cpu
