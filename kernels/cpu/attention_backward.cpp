// Attention backward. A unit is one head of one sequence, or, where those are few, one of several
// ranges of its query blocks. A unit owns d_q of its queries and a private f32 sum of d_k and d_v;
// the private sums are then added in a fixed order. Scores are kept transposed, keys by queries, so
// that the statistics of queries lie along the lanes.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/attention_blocks.h"
#include "kernels/cpu/cpu_backend_impl.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/threads.h"

namespace lathe::cpu {
namespace {

constexpr int64_t kWantedUnits = 16;

int64_t num_parts(const AttentionGeometry& g) {
    const int64_t heads = g.batch * g.heads;
    const int64_t wanted = (kWantedUnits + heads - 1) / std::max<int64_t>(heads, 1);
    return std::clamp<int64_t>(wanted, 1, std::max<int64_t>(g.num_blocks(), 1));
}

/// First query block of a part: parts cost about the same, as block i costs i + 1. None is empty,
/// for its sums would stay undefined: one block at least is left to each part from this one on.
int64_t part_begin(const AttentionGeometry& g, int64_t part) {
    const int64_t parts = num_parts(g);
    const double share = static_cast<double>(part) / static_cast<double>(parts);
    const int64_t even = std::llround(static_cast<double>(g.num_blocks()) * std::sqrt(share));
    return std::min(even, g.num_blocks() - parts + part);
}

/// Keys and values of one block, as the products want them.
struct PackedKeys {
    std::byte* keys;       ///< dense rows
    std::byte* values;     ///< dense rows
    std::byte* key_panel;  ///< right operand
};

class BackwardAttention {
  public:
    BackwardAttention(const AttentionBackward& op, const AttentionGeometry& geometry,
                      TileMatmul& tiles)
        : op_(op), g_(geometry), tiles_(tiles) {
        Scratch workspace(op.workspace.data());
        const int64_t kv_blocks = g_.batch * g_.kv_heads * g_.num_blocks();
        packed_.keys = workspace.take(kv_blocks * g_.dense_bytes());
        packed_.values = workspace.take(kv_blocks * g_.dense_bytes());
        packed_.key_panel = workspace.take(kv_blocks * g_.by_head_bytes());
        sums_ = workspace.take_floats(num_units() * 2 * sum_floats());
        make_products();
    }

    static int64_t workspace_bytes(const AttentionGeometry& g) {
        const int64_t kv_blocks = g.batch * g.kv_heads * g.num_blocks();
        const int64_t units = g.batch * g.heads * num_parts(g);
        return kv_blocks * (2 * g.dense_bytes() + g.by_head_bytes()) +
               units * 2 * g.time * g.head_size * static_cast<int64_t>(sizeof(float)) + 4 * 64;
    }

    /// To be called by every thread of a team.
    void run(TeamThread& thread, std::byte* scratch) {
        const int64_t kv_blocks = g_.batch * g_.kv_heads * g_.num_blocks();
        team_for(thread, kv_blocks, [&](int64_t i) { pack_block(i); });
        team_for(thread, num_units(), [&](int64_t unit) {
            const int64_t part = unit % num_parts(g_);
            for (int64_t block = part_begin(g_, part); block < part_begin(g_, part + 1); ++block) {
                differentiate(thread, scratch, unit, block);
            }
        });
        team_for(thread, kv_blocks, [&](int64_t i) { store_block(i); });
    }

  private:
    /// One block of queries, packed, and what its products with keys need.
    struct QueryBlock {
        int64_t rows, query;
        std::byte* queries_by_keys;  ///< right operand of K Q^T
        std::byte* d_y_by_keys;      ///< right operand of V dY^T
        std::byte* queries_by_head;  ///< right operand of dS^T Q
        std::byte* d_y_by_head;      ///< right operand of P^T dY
        std::byte* d_scores;         ///< [rows, keys]
        float* d_queries;            ///< [rows, D]
        float* delta;
        ScoreGradientBlock scores;
        float* raw_scores;
        float* raw_d_probabilities;
    };

    int64_t num_units() const { return g_.batch * g_.heads * num_parts(g_); }
    int64_t sum_floats() const { return g_.time * g_.head_size; }

    TileMatmul::Primitive keys_by_queries(int64_t keys, int64_t rows) {
        return tiles_.get({keys, rows, g_.head_size, g_.operand, g_.by_keys.width, false});
    }
    TileMatmul::Primitive keys_by_head(int64_t keys, int64_t rows, bool accumulate) {
        return tiles_.get({keys, g_.head_size, rows, g_.operand, g_.by_head.width, accumulate});
    }
    TileMatmul::Primitive queries_by_head(int64_t rows, int64_t keys, bool accumulate) {
        return tiles_.get({rows, g_.head_size, keys, g_.operand, g_.by_head.width, accumulate});
    }

    /// Groups of keys that block sees: whole groups before it, what is left before it, itself.
    /// Those before it were all visited by the unit's earlier blocks, if it has any.
    template <typename Body>
    void for_each_group(int64_t block, const Body& body) const {
        const int64_t query = block * kBlock;
        for (int64_t key = 0; key < query; key += g_.grouped_keys) {
            body(key, std::min(g_.grouped_keys, query - key));
        }
        body(query, g_.block_rows(block));
    }

    void make_products() {
        for (int64_t block = 0; block < g_.num_blocks(); ++block) {
            const int64_t rows = g_.block_rows(block);
            for_each_group(block, [&](int64_t, int64_t keys) {
                keys_by_queries(keys, rows);
                for (const bool accumulate : {false, true}) {
                    keys_by_head(keys, rows, accumulate);
                    queries_by_head(rows, keys, accumulate);
                }
            });
        }
    }

    void pack_block(int64_t i) {
        const int64_t block = i % g_.num_blocks();
        const int64_t b = i / g_.num_blocks() / g_.kv_heads;
        const int64_t head = i / g_.num_blocks() % g_.kv_heads;
        const int64_t t = block * kBlock;
        const int64_t rows = g_.block_rows(block);
        const MatrixView keys = g_.rows(op_.qkv, b, t, g_.key_column(head));
        const MatrixView values = g_.rows(op_.qkv, b, t, g_.value_column(head));
        pack_left(packed_.keys + i * g_.dense_bytes(), g_.operand, keys, rows, g_.head_size);
        pack_left(packed_.values + i * g_.dense_bytes(), g_.operand, values, rows, g_.head_size);
        pack_right(packed_.key_panel + i * g_.by_head_bytes(), g_.operand, g_.by_head, keys, rows,
                   g_.head_size);
    }

    QueryBlock pack_queries(std::byte* memory, int64_t b, int64_t head, int64_t block) const {
        Scratch scratch(memory);
        QueryBlock q{};
        q.rows = g_.block_rows(block);
        q.query = block * kBlock;
        q.queries_by_keys = scratch.take(g_.by_keys_bytes());
        q.d_y_by_keys = scratch.take(g_.by_keys_bytes());
        q.queries_by_head = scratch.take(g_.by_head_bytes());
        q.d_y_by_head = scratch.take(g_.by_head_bytes());
        const int64_t pairs = kBlock * g_.grouped_keys;
        q.d_scores = scratch.take(pairs * size_of(g_.operand));
        q.d_queries = scratch.take_floats(kBlock * g_.head_size);
        q.delta = scratch.take_floats(kBlock);
        q.raw_scores = scratch.take_floats(pairs);
        q.raw_d_probabilities = scratch.take_floats(pairs);
        q.scores.probabilities = scratch.take(pairs * size_of(g_.operand));
        q.scores.d_scores = scratch.take(pairs * size_of(g_.operand));
        const int64_t column = head * g_.head_size;
        const MatrixView queries = g_.rows(op_.qkv, b, q.query, column);
        const MatrixView d_y = g_.rows(op_.d_y, b, q.query, column);
        pack_right(q.queries_by_keys, g_.operand, g_.by_keys, transposed(queries), g_.head_size,
                   q.rows);
        pack_right(q.d_y_by_keys, g_.operand, g_.by_keys, transposed(d_y), g_.head_size, q.rows);
        pack_right(q.queries_by_head, g_.operand, g_.by_head, queries, q.rows, g_.head_size);
        pack_right(q.d_y_by_head, g_.operand, g_.by_head, d_y, q.rows, g_.head_size);
        row_dots(d_y, g_.rows(op_.y, b, q.query, column), q.rows, g_.head_size, q.delta);
        q.scores.scores = q.raw_scores;
        q.scores.d_probabilities = q.raw_d_probabilities;
        q.scores.queries = q.rows;
        q.scores.query = q.query;
        q.scores.log_sum_exp = static_cast<const float*>(op_.log_sum_exp.data()) +
                               (b * g_.heads + head) * g_.time + q.query;
        q.scores.delta = q.delta;
        q.scores.scale = g_.scale;
        q.scores.slope = op_.slopes ? static_cast<const float*>(op_.slopes.data())[head] : 0.0F;
        q.scores.operand = g_.operand;
        return q;
    }

    /// One block of queries of a unit against all keys that it sees.
    void differentiate(int thread, std::byte* memory, int64_t unit, int64_t block) {
        const int64_t head = unit / num_parts(g_) % g_.heads;
        const int64_t b = unit / num_parts(g_) / g_.heads;
        QueryBlock q = pack_queries(memory, b, head, block);
        const int64_t first_block = (b * g_.kv_heads + head / g_.group) * g_.num_blocks();
        const bool is_first = block == part_begin(g_, unit % num_parts(g_));
        float* d_keys = sums_ + unit * 2 * sum_floats();
        float* d_values = d_keys + sum_floats();
        for_each_group(block, [&](int64_t key, int64_t keys) {
            const int64_t packed = first_block + key / kBlock;
            const auto* by_queries = keys_by_queries(keys, q.rows);
            tiles_.run(by_queries, thread, packed_.keys + packed * g_.dense_bytes(),
                       q.queries_by_keys, q.raw_scores);
            tiles_.run(by_queries, thread, packed_.values + packed * g_.dense_bytes(),
                       q.d_y_by_keys, q.raw_d_probabilities);
            q.scores.keys = keys;
            q.scores.key = key;
            score_gradient_block(q.scores);
            const bool visited = key < q.query && !is_first;
            const auto* by_head = keys_by_head(keys, q.rows, visited);
            tiles_.run(by_head, thread, q.scores.probabilities, q.d_y_by_head,
                       d_values + key * g_.head_size);
            tiles_.run(by_head, thread, q.scores.d_scores, q.queries_by_head,
                       d_keys + key * g_.head_size);
            pack_left(q.d_scores, g_.operand, {q.scores.d_scores, g_.operand, q.rows, true}, q.rows,
                      keys);
            tiles_.run(queries_by_head(q.rows, keys, key > 0), thread, q.d_scores,
                       packed_.key_panel + packed * g_.by_head_bytes(), q.d_queries);
        });
        store_rows(q.d_queries, 1, 0, b, q.query, head * g_.head_size, q.rows);
    }

    void store_rows(const float* source, int64_t parts, int64_t part_stride, int64_t b, int64_t t,
                    int64_t column, int64_t rows) const {
        const MatrixView to = g_.rows(op_.d_qkv, b, t, column);
        store_sum(source, parts, part_stride, const_cast<void*>(to.data), g_.dtype, to.stride, rows,
                  g_.head_size);
    }

    /// Sums of d_k and d_v of one block over the heads of the group and their parts, in order.
    void store_block(int64_t i) {
        const int64_t block = i % g_.num_blocks();
        const int64_t b = i / g_.num_blocks() / g_.kv_heads;
        const int64_t kv_head = i / g_.num_blocks() % g_.kv_heads;
        const int64_t rows = g_.block_rows(block);
        const int64_t units = g_.group * num_parts(g_);
        const int64_t first_unit = (b * g_.kv_heads + kv_head) * units;
        float* sums = sums_ + first_unit * 2 * sum_floats() + block * kBlock * g_.head_size;
        for (int64_t unit = 0; unit < units; ++unit) {
            // A part without queries, or with none that sees the block, wrote nothing.
            const int64_t begin = part_begin(g_, unit % num_parts(g_));
            const int64_t end = part_begin(g_, unit % num_parts(g_) + 1);
            if (begin == end || end <= block) {
                float* d_keys = sums + unit * 2 * sum_floats();
                std::fill_n(d_keys, rows * g_.head_size, 0.0F);
                std::fill_n(d_keys + sum_floats(), rows * g_.head_size, 0.0F);
            }
        }
        store_rows(sums, units, 2 * sum_floats(), b, block * kBlock, g_.key_column(kv_head), rows);
        store_rows(sums + sum_floats(), units, 2 * sum_floats(), b, block * kBlock,
                   g_.value_column(kv_head), rows);
    }

    const AttentionBackward& op_;
    const AttentionGeometry& g_;
    TileMatmul& tiles_;
    PackedKeys packed_{};
    float* sums_;
};

}  // namespace

int64_t CpuBackend::workspace_bytes(const AttentionBackward& op) const {
    return BackwardAttention::workspace_bytes(AttentionGeometry(op.heads, op.qkv, support_));
}

void CpuBackend::execute(const AttentionBackward& op, Stream) {
    const AttentionGeometry geometry(op.heads, op.qkv, support_);
    if (op.qkv.size() == 0) {
        return;
    }
    BackwardAttention attention(op, geometry, tiles_);
    run_team(team(), [&](TeamThread& thread) { attention.run(thread, thread_scratch(thread)); });
}

}  // namespace lathe::cpu
