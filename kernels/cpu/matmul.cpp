// Matmul: the output is cut into tiles by shapes alone; each is the product of rows of the left
// operand and a packed right operand, made by one thread, and finished by the epilogue while in
// that thread's cache. Where rows are not dense, or badly spread over the cache's sets, the thread
// packs them itself, chunk by chunk, just before their use.
#include <algorithm>
#include <array>

#include "kernels/cpu/cpu_backend_impl.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/gemv.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/threads.h"

namespace lathe::cpu {
namespace {

/// Up to here a product is bound by reading b, and packing it would be the greater part.
constexpr int64_t kFewRows = 12;
/// Rows and columns of a tile: the largest, then what is taken while there are few tiles, since few
/// leave threads idle at the end.
struct TileShape {
    int64_t rows, columns;
};
constexpr TileShape kTileShapes[] = {{64, 256}, {48, 256}, {32, 256}, {32, 128}};
int64_t enough_tiles(int64_t m, int64_t n, int64_t k) {
    constexpr int64_t kLargeProduct = int64_t{1} << 30;
    return m * n * k < kLargeProduct ? 16 : 32;
}
/// Tiles side by side that share packed rows, where there are enough without.
constexpr int64_t kMostGroupedTiles = 3;
constexpr int64_t kDepthChunkBytes = 2048;
constexpr int64_t kPanelBudgetBytes = int64_t{16} << 20;
/// Sums longer than this (a vocabulary's) run in stripes of this length, so that what is packed of
/// b stays in the last-level cache.
constexpr int64_t kStripeDepth = 8192;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
int64_t depth_of(const Matmul& op) { return op.transpose_a ? op.a.rows() : op.a.columns(); }

/// How one product is cut. A function of shapes, types and the processor.
struct MatmulPlan {
    int64_t m, n, k;
    DType operand;
    PanelLayout layout;
    int64_t tile_m, tile_n;
    int64_t group;     ///< tiles of a row that one thread makes together
    int64_t chunk_k;   ///< the sum over K' runs in chunks, one product each
    bool pack_a;       ///< otherwise a is used in place, in one chunk
    int64_t stripe_n;  ///< columns of b packed at a time
    int64_t stripe_k;  ///< rows of b packed at a time: whole chunks, or all of K'

    int64_t num_row_tiles() const { return ceil_div(m, tile_m); }
    int64_t chunk_end(int64_t k0) const { return std::min(k, k0 + chunk_k); }
    int64_t panel_elements() const {  // of one packed stripe_k x tile_n operand
        int64_t elements = 0;
        for (int64_t k0 = 0; k0 < stripe_k; k0 += chunk_k) {
            elements += layout.size(chunk_end(k0) - k0, tile_n);
        }
        return elements;
    }
    int64_t tile_elements() const { return tile_m * tile_n; }
    int64_t packed_rows_bytes() const { return pack_a ? tile_m * chunk_k * size_of(operand) : 0; }
    int64_t right_bytes() const {
        return round_up(ceil_div(stripe_n, tile_n) * panel_elements() * size_of(operand), 256);
    }
    /// What all tiles of a stripe hold between stripes of K'.
    int64_t kept_sums_bytes() const {
        const int64_t tiles = num_row_tiles() * ceil_div(stripe_n, tile_n);
        return stripe_k < k ? tiles * tile_elements() * static_cast<int64_t>(sizeof(float)) : 0;
    }
};

/// The tile of `extent` nearest below `most` that cuts it evenly, a multiple of `unit`.
int64_t even_tile(int64_t extent, int64_t most, int64_t unit) {
    const int64_t pieces = ceil_div(extent, most);
    return round_up(ceil_div(extent, pieces), unit);
}

MatmulPlan make_plan(const Matmul& op, const MatmulSupport& support) {
    MatmulPlan plan{};
    plan.n = op.d.columns();
    plan.m = op.d.rows();
    plan.k = depth_of(op);
    plan.operand = support.operand_dtype(op.a.dtype());
    plan.layout = support.layout(plan.operand, plan.n);
    const int64_t unit_n = std::max<int64_t>(plan.layout.width, 16);
    const int64_t enough = enough_tiles(plan.m, plan.n, plan.k);
    for (const TileShape& shape : kTileShapes) {
        plan.tile_m = even_tile(plan.m, shape.rows, 8);
        plan.tile_n = even_tile(plan.n, shape.columns, unit_n);
        if (plan.num_row_tiles() * ceil_div(plan.n, plan.tile_n) >= enough) {
            break;
        }
    }
    plan.tile_m = std::min(plan.tile_m, plan.m);
    // Rows a multiple of 4 KiB apart fall into one set of the first-level cache.
    const bool bad_stride = plan.k * size_of(plan.operand) % 4096 == 0;
    const bool is_deep = plan.k > 2 * kStripeDepth && !op.transpose_a;
    plan.pack_a = op.transpose_a || plan.operand != op.a.dtype() || bad_stride || is_deep;
    plan.group = 1;
    while (plan.pack_a && plan.group < kMostGroupedTiles &&
           plan.num_row_tiles() * ceil_div(plan.n, plan.tile_n * (plan.group + 1)) >= enough) {
        plan.group += 1;
    }
    const int64_t chunk = kDepthChunkBytes / size_of(plan.operand);
    plan.chunk_k = plan.pack_a ? std::min(plan.k, even_tile(plan.k, chunk, 32)) : plan.k;
    plan.stripe_k = is_deep ? kStripeDepth / plan.chunk_k * plan.chunk_k : plan.k;
    const int64_t row_bytes = plan.stripe_k * size_of(plan.operand);
    const int64_t stripe = std::max<int64_t>(kPanelBudgetBytes / row_bytes, 4 * plan.tile_n);
    plan.stripe_n = std::min(round_up(plan.n, plan.tile_n), round_up(stripe, plan.tile_n));
    return plan;
}

/// `left` and `right` of one (row tile, column tile) are products over chunks of K'.
class TiledProduct {
  public:
    TiledProduct(const Matmul& op, const MatmulPlan& plan, TileMatmul& tiles)
        : op_(op), plan_(plan), tiles_(tiles) {
        right_ = static_cast<std::byte*>(op.workspace.data());
        kept_sums_ = reinterpret_cast<float*>(right_ + plan.right_bytes());
        const int64_t n_stride = op.transpose_b ? plan.k : plan.n;
        b_ = {op.b.data(), op.b.dtype(), n_stride, op.transpose_b};
        a_ = {op.a.data(), op.a.dtype(), op.transpose_a ? plan.m : plan.k, op.transpose_a};
        make_primitives();
    }

    /// To be called by every thread of a team.
    void run(TeamThread& thread, std::byte* scratch) {
        for (int64_t n0 = 0; n0 < plan_.n; n0 += plan_.stripe_n) {
            const int64_t n1 = std::min(plan_.n, n0 + plan_.stripe_n);
            const int64_t rows = plan_.num_row_tiles();
            const int64_t columns = ceil_div(n1 - n0, plan_.tile_n);
            for (int64_t k0 = 0; k0 < plan_.k; k0 += plan_.stripe_k) {
                pack_right_stripe(thread, n0, n1, k0);
                team_for(thread, rows * ceil_div(columns, plan_.group), [&](int64_t i) {
                    // Rows fastest: a thread's next tile mostly shares its right operand.
                    const int64_t column = i / rows * plan_.group;
                    multiply_tiles(thread, scratch,
                                   {.row = i % rows * plan_.tile_m,
                                    .n0 = n0,
                                    .column = column,
                                    .count = std::min(plan_.group, columns - column),
                                    .k0 = k0});
                });
            }
        }
    }

  private:
    /// `count` tiles side by side from `column` of the stripe that begins at n0, over the stripe of
    /// K' that begins at k0.
    struct TileGroup {
        int64_t row, n0, column, count, k0;
    };

    int64_t num_chunks() const { return ceil_div(plan_.k, plan_.chunk_k); }
    int64_t stripe_end(int64_t k0) const { return std::min(plan_.k, k0 + plan_.stripe_k); }

    /// Index of the primitive for a tile that is or is not the last in each dimension.
    static size_t variant(bool short_m, bool short_n, bool short_k, bool accumulate) {
        return size_t{short_m} * 8 + size_t{short_n} * 4 + size_t{short_k} * 2 + size_t{accumulate};
    }

    void make_primitives() {
        const int64_t last_m = plan_.m % plan_.tile_m;
        const int64_t last_n = plan_.n % plan_.tile_n;
        const int64_t last_k = plan_.k % plan_.chunk_k;
        for (const bool short_m : {false, true}) {
            for (const bool short_n : {false, true}) {
                for (const bool short_k : {false, true}) {
                    for (const bool accumulate : {false, true}) {
                        const int64_t m = short_m ? last_m : plan_.tile_m;
                        const int64_t n = short_n ? last_n : std::min(plan_.tile_n, plan_.n);
                        const int64_t k = short_k ? last_k : plan_.chunk_k;
                        // A short chunk is the last of several, so it always accumulates.
                        const bool occurs = m > 0 && n > 0 && k > 0 && !(short_k && !accumulate) &&
                                            !(accumulate && num_chunks() == 1);
                        if (occurs) {
                            primitives_[variant(short_m, short_n, short_k, accumulate)] =
                                tiles_.get(
                                    {m, n, k, plan_.operand, plan_.layout.width, accumulate});
                        }
                    }
                }
            }
        }
    }

    /// Of the stripe of K' that holds k0.
    std::byte* right_tile(int64_t column, int64_t k0) {
        const int64_t chunks_before = k0 % plan_.stripe_k / plan_.chunk_k;
        const int64_t before = column * plan_.panel_elements() +
                               chunks_before * plan_.layout.size(plan_.chunk_k, plan_.tile_n);
        return right_ + before * size_of(plan_.operand);
    }

    void pack_right_stripe(TeamThread& thread, int64_t n0, int64_t n1, int64_t stripe_k0) {
        const int64_t columns = ceil_div(n1 - n0, plan_.tile_n);
        const int64_t chunks = ceil_div(stripe_end(stripe_k0) - stripe_k0, plan_.chunk_k);
        team_for(thread, columns * chunks, [&](int64_t i) {
            const int64_t column = i / chunks;
            const int64_t k0 = stripe_k0 + i % chunks * plan_.chunk_k;
            const int64_t n = n0 + column * plan_.tile_n;
            pack_right(right_tile(column, k0), plan_.operand, plan_.layout, b_.at(k0, n),
                       plan_.chunk_end(k0) - k0, std::min(plan_.tile_n, plan_.n - n));
        });
    }

    void multiply_tiles(int thread, std::byte* memory, const TileGroup& group) {
        Scratch scratch(memory);
        std::byte* packed = scratch.take(plan_.packed_rows_bytes());
        float* sums = plan_.stripe_k < plan_.k
                          ? kept_sums(group)
                          : scratch.take_floats(group.count * plan_.tile_elements());
        const int64_t n = group.n0 + group.column * plan_.tile_n;
        const int64_t rows = std::min(plan_.tile_m, plan_.m - group.row);
        const auto columns = [&](int64_t i) {
            return std::min(plan_.tile_n, plan_.n - n - i * plan_.tile_n);
        };
        const int64_t end = stripe_end(group.k0);
        for (int64_t k0 = group.k0; k0 < end; k0 += plan_.chunk_k) {
            const int64_t depth = plan_.chunk_end(k0) - k0;
            const void* left = a_.at(group.row, k0).data;
            if (plan_.pack_a) {
                pack_left(packed, plan_.operand, a_.at(group.row, k0), rows, depth);
                left = packed;
            }
            for (int64_t i = 0; i < group.count; ++i) {
                const bool short_n = columns(i) < std::min(plan_.tile_n, plan_.n);
                const auto* primitive =
                    primitives_[variant(rows < plan_.tile_m, short_n, depth<plan_.chunk_k, k0> 0)];
                tiles_.run(primitive, thread, left, right_tile(group.column + i, k0),
                           sums + i * plan_.tile_elements());
            }
        }
        for (int64_t i = 0; end == plan_.k && i < group.count; ++i) {
            apply_epilogue(op_, sums + i * plan_.tile_elements(), columns(i), group.row, rows,
                           n + i * plan_.tile_n, columns(i));
        }
    }

    float* kept_sums(const TileGroup& group) {
        const int64_t tiles_a_row = ceil_div(plan_.stripe_n, plan_.tile_n);
        const int64_t tile = group.row / plan_.tile_m * tiles_a_row + group.column;
        return kept_sums_ + tile * plan_.tile_elements();
    }

    const Matmul& op_;
    const MatmulPlan& plan_;
    TileMatmul& tiles_;
    std::byte* right_;
    float* kept_sums_;
    MatrixView a_;
    MatrixView b_;
    std::array<TileMatmul::Primitive, 16> primitives_{};
};

bool has_few_rows(const Matmul& op) { return op.d.rows() <= kFewRows || depth_of(op) == 0; }

}  // namespace

int64_t CpuBackend::workspace_bytes(const Matmul& op) const {
    if (op.d.size() == 0) {
        return 0;
    }
    if (has_few_rows(op)) {
        return few_rows_bytes(op);
    }
    const MatmulPlan plan = make_plan(op, support_);
    return plan.right_bytes() + plan.kept_sums_bytes();
}

void CpuBackend::execute(const Matmul& op, Stream) {
    if (op.d.size() == 0) {
        return;
    }
    if (has_few_rows(op)) {
        run_few_rows(op, team());
        return;
    }
    const MatmulPlan plan = make_plan(op, support_);
    TiledProduct product(op, plan, tiles_);
    run_team(team(), [&](TeamThread& thread) { product.run(thread, thread_scratch(thread)); });
}

}  // namespace lathe::cpu
