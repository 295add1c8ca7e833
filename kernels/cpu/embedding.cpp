// Embedding and its gradient: positions are sorted by token, so that each row of the table has one
// owner that adds in order.
#include <algorithm>

#include "kernels/cpu/cpu_backend_impl.h"
#include "kernels/cpu/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/embedding.cpp"
#include <hwy/foreach_target.h>

#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::cpu::HWY_NAMESPACE {

void embedding_kernel(const Embedding& op, int64_t begin, int64_t end) {
    with_type(op.y.dtype(), [&](auto type) {
        using T = decltype(type);
        const int64_t c = op.y.columns();
        const int64_t time = op.tokens.columns();
        const auto* tokens = data_of<int32_t>(op.tokens);
        for (int64_t n = begin; n < end; ++n) {
            const T* row = data_of<T>(op.token_table) + tokens[n] * c;
            T* y = data_of<T>(op.y) + n * c;
            if (!op.position_table) {
                std::memcpy(static_cast<void*>(y), row, static_cast<size_t>(c) * sizeof(T));
                continue;
            }
            const T* position = data_of<T>(op.position_table) + (op.first_position + n % time) * c;
            walk(c, [&](int64_t i, auto lanes) {
                store(hn::Add(load(row + i, lanes), load(position + i, lanes)), y + i, lanes);
            });
        }
    });
}

template <typename T>
HWY_INLINE void add_row(float* sum, const T* row, int64_t c) {
    walk(c, [&](int64_t i, auto lanes) {
        store(hn::Add(load(sum + i, lanes), load(row + i, lanes)), sum + i, lanes);
    });
}

/// Rows [begin, end) of the token table; order[first[v]] .. order[first[v + 1] - 1] are the
/// positions of token v.
void token_gradient_kernel(const EmbeddingBackward& op, const int32_t* first, const int32_t* order,
                           int64_t begin, int64_t end) {
    with_type(op.d_y.dtype(), [&](auto type) {
        using T = decltype(type);
        const int64_t c = op.d_y.columns();
        const T* d_y = data_of<T>(op.d_y);
        for (int64_t v = begin; v < end; ++v) {
            float* row = data_of<float>(op.d_token_table) + v * c;
            if (!op.accumulate_tokens) {
                std::memset(row, 0, static_cast<size_t>(c) * sizeof(float));
            }
            for (int32_t i = first[v]; i < first[v + 1]; ++i) {
                add_row(row, d_y + order[i] * c, c);
            }
        }
    });
}

/// Rows [begin, end) of the position table.
void position_gradient_kernel(const EmbeddingBackward& op, int64_t begin, int64_t end) {
    with_type(op.d_y.dtype(), [&](auto type) {
        using T = decltype(type);
        const int64_t c = op.d_y.columns();
        const int64_t time = op.tokens.columns();
        for (int64_t t = begin; t < end; ++t) {
            float* row = data_of<float>(op.d_position_table) + t * c;
            std::memset(row, 0, static_cast<size_t>(c) * sizeof(float));
            for (int64_t n = t; t < time && n < op.tokens.size(); n += time) {
                add_row(row, data_of<T>(op.d_y) + n * c, c);
            }
        }
    });
}

}  // namespace lathe::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lathe::cpu {

HWY_EXPORT(embedding_kernel);
HWY_EXPORT(token_gradient_kernel);
HWY_EXPORT(position_gradient_kernel);

namespace {

constexpr int64_t kGrainRows = 16;

/// A stable counting sort: first[v] (V + 1 of them) and order, as the kernel wants them.
void sort_by_token(const int32_t* tokens, int64_t count, int64_t vocabulary, int32_t* first,
                   int32_t* order) {
    std::fill_n(first, vocabulary + 1, 0);
    for (int64_t i = 0; i < count; ++i) {
        ++first[tokens[i] + 1];
    }
    for (int64_t v = 0; v < vocabulary; ++v) {
        first[v + 1] += first[v];
    }
    // Each first[v] runs to the start of v + 1; then all move up by one.
    for (int64_t i = 0; i < count; ++i) {
        order[first[tokens[i]]++] = static_cast<int32_t>(i);
    }
    for (int64_t v = vocabulary; v > 0; --v) {
        first[v] = first[v - 1];
    }
    first[0] = 0;
}

}  // namespace

int64_t CpuBackend::workspace_bytes(const Embedding&) const { return 0; }

int64_t CpuBackend::workspace_bytes(const EmbeddingBackward& op) const {
    return (op.d_token_table.rows() + 1 + op.tokens.size()) * static_cast<int64_t>(sizeof(int32_t));
}

void CpuBackend::execute(const Embedding& op, Stream) {
    parallel_ranges(team(), op.tokens.size(), kGrainRows, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(embedding_kernel)(op, begin, end);
    });
}

void CpuBackend::execute(const EmbeddingBackward& op, Stream) {
    const int64_t vocabulary = op.d_token_table.rows();
    auto* first = static_cast<int32_t*>(op.workspace.data());
    int32_t* order = first + vocabulary + 1;
    sort_by_token(op.tokens.as<int32_t>(), op.tokens.size(), vocabulary, first, order);
    // Frequent tokens have small numbers in a trained vocabulary: hand out rows in small pieces.
    run_team(team(), [&](TeamThread& thread) {
        team_for(thread, (vocabulary + kGrainRows - 1) / kGrainRows, [&](int64_t i) {
            HWY_DYNAMIC_DISPATCH(token_gradient_kernel)
            (op, first, order, i * kGrainRows, std::min(vocabulary, (i + 1) * kGrainRows));
        });
    });
    if (op.d_position_table) {
        parallel_ranges(team(), op.d_position_table.rows(), kGrainRows,
                        [&](int64_t begin, int64_t end) {
                            HWY_DYNAMIC_DISPATCH(position_gradient_kernel)(op, begin, end);
                        });
    }
}

}  // namespace lathe::cpu
#endif
