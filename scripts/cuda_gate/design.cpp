// What the kernels are meant to be, from the constants that their launchers use: a line for each
// family of instances, fields by tabs: regular expression of the kernel's name; shared memory that
// is asked for at launch, bytes (-1: all that a block may have); then, of one turn of the main loop
// and one thread or warp, tensor-core products, ldmatrix, asynchronous copies and plain global
// loads ("-": there is no such loop).
#include <fmt/core.h>

#include <cstdint>
#include <string>

#include "kernels/cuda/attention_shapes.h"
#include "kernels/cuda/matmul_shapes.h"

namespace {

using lathe::cuda::MatmulTile;

constexpr int64_t kBf16Bytes = 2;
constexpr int64_t kCopyElements = 8;  ///< of bf16 in 16 bytes

struct Loop {
    int64_t mma = 0;
    int64_t ldmatrix = 0;
    int64_t copies = 0;
    int64_t loads = 0;
};

constexpr int64_t kAll = -1;

/// A kernel without tensor cores.
void print(const std::string& pattern, int64_t shared_bytes) {
    fmt::print("{}\t{}\t-\t-\t-\t-\n", pattern, shared_bytes);
}

void print(const std::string& pattern, int64_t shared_bytes, const Loop& loop) {
    fmt::print("{}\t{}\t{}\t{}\t{}\t{}\n", pattern, shared_bytes, loop.mma, loop.ldmatrix,
               loop.copies, loop.loads);
}

/// A turn is one slab of `depth`. A warp's part of the tile is `warp` squared.
void print_matmul(const char* name, const char* loader, const MatmulTile& tile, int64_t warp) {
    const int64_t threads = tile.rows / warp * (tile.columns / warp) * 32;
    const int64_t steps = tile.depth / 16;
    const int64_t elements = (tile.rows + tile.columns) * tile.depth / threads;
    Loop loop = {.mma = steps * (warp / 16) * (warp / 8), .ldmatrix = steps * 2 * (warp / 16)};
    if (std::string(loader) == "AlignedLoader") {
        loop.copies = elements / kCopyElements;
    } else {
        loop.loads = 2 * kCopyElements;  // of each operand a piece at a time, in a loop
    }
    print(fmt::format("matmul_bf16_kernel<Shape<{}, {}, {}>, {}", name, warp, warp, loader),
          tile.stage_bytes(kBf16Bytes), loop);
}

// Attention: ldmatrix of a left operand that is held in registers is before the loop. Rows of the
// other operand serve all row tiles of the warp.

template <int kHead>
void print_attention_forward() {
    using Tile = lathe::cuda::ForwardTile<kHead>;
    constexpr int64_t kBlocks = kHead / 16 * (Tile::kKeys / 16);  ///< of keys, and of values
    print(fmt::format("^attend<{}>", kHead), Tile::kSharedBytes,
          {.mma = 2 * Tile::kRowTiles * 2 * kBlocks,
           .ldmatrix = (Tile::kHoldQueries ? 0 : Tile::kRowTiles * kHead / 16) + 2 * kBlocks,
           .copies = 2 * Tile::kKeys * kHead / kCopyElements / Tile::kThreads});
}

template <int kHead>
void print_attention_backward() {
    using Tile = lathe::cuda::BackwardTile<kHead>;
    constexpr int64_t kOwnRows = Tile::kRowTiles * kHead / 16;
    constexpr int64_t kQueryBlocks = kHead / 16 * (Tile::kQueries / 16);
    // Scores, their gradient, d_v, d_k; one more copy brings the queries' statistics.
    print(fmt::format("^differentiate_keys<{}>", kHead), Tile::kKeysSharedBytes,
          {.mma = 4 * Tile::kRowTiles * 2 * kQueryBlocks,
           .ldmatrix = (Tile::kHoldKeys ? 1 : 2) * kOwnRows + 4 * kQueryBlocks,
           .copies = 2 * Tile::kQueries * kHead / kCopyElements / Tile::kThreads + 1});
    constexpr int64_t kKeyBlocks = kHead / 16 * (Tile::kKeys / 16);
    // Scores, their gradient, d_q.
    print(fmt::format("^differentiate_queries<{}>", kHead), Tile::kQueriesSharedBytes,
          {.mma = 3 * Tile::kRowTiles * 2 * kKeyBlocks,
           .ldmatrix = 3 * kKeyBlocks,
           .copies = 2 * Tile::kKeys * kHead / kCopyElements / Tile::kThreads});
}

/// Without tensor cores: tiles of own rows, of the other rows, and of sums.
template <int kHead>
void print_attention_general() {
    using Tile = lathe::cuda::GeneralTile<kHead>;
    print(fmt::format("^attend<\\w+, {}>", kHead), Tile::shared_bytes(3));
    print(fmt::format("^differentiate_\\w+<\\w+, {}>", kHead), Tile::shared_bytes(4));
}

}  // namespace

int main() {
    print_matmul("kBf16Small", "AlignedLoader", lathe::cuda::kBf16Small, 32);
    print_matmul("kBf16Small", "ElementLoader", lathe::cuda::kBf16Small, 32);
    print_matmul("kBf16Medium", "AlignedLoader", lathe::cuda::kBf16Medium, 64);
    print_matmul("kBf16Wide", "AlignedLoader", lathe::cuda::kBf16Wide, 64);
    print_attention_forward<64>();
    print_attention_forward<128>();
    print_attention_backward<64>();
    print_attention_backward<128>();
    print_attention_general<64>();
    print_attention_general<128>();
    print_attention_general<256>();
    // A row's logits, as many as fit.
    print("cross_entropy_kernel<.*, true>", kAll);
    return 0;
}
