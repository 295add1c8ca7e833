// Cases of Embedding, EmbeddingBackward and Rotary.
#include <algorithm>
#include <cmath>

#include "tests/kernels/cases.h"

namespace lathe::test {
namespace {

struct Sizes {
    int64_t batch, time, channels, vocabulary;
    int64_t positions = 0;    ///< 0: no learned positions
    bool all_tokens = false;  ///< of the vocabulary occur, not only some
};

std::string describe(const char* operation, const Sizes& s, DType compute) {
    return fmt::format("{} {} B{} T{} C{} V{} P{}", operation, name_of(compute), s.batch, s.time,
                       s.channels, s.vocabulary, s.positions);
}

Case embedding_case(const Sizes& s, int64_t first_position, DType compute, Random& random) {
    Case c(describe("Embedding", s, compute));
    const size_t tokens = c.input("tokens", DType::i32, {s.batch, s.time},
                                  random.integers(s.batch * s.time, 0, s.vocabulary - 1));
    const size_t table = c.input("token_table", compute, {s.vocabulary, s.channels},
                                 random.normal(s.vocabulary * s.channels));
    const bool learned = s.positions > 0;
    const size_t positions = learned ? c.input("position_table", compute, {s.positions, s.channels},
                                               random.normal(s.positions * s.channels))
                                     : 0;
    const Tolerance sum =
        rounded_sum(compute, accumulation_dtype(compute), 2,
                    max_abs(c.values(table)) + (learned ? max_abs(c.values(positions)) : 0));
    const size_t y = c.output("y", compute, {s.batch, s.time, s.channels},
                              learned ? sum : Tolerance{});  // a plain copy is exact
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(Embedding{.tokens = t[tokens],
                             .token_table = t[table],
                             .position_table = learned ? t[positions] : Tensor(),
                             .y = t[y],
                             .first_position = first_position});
    };
    return c;
}

Case embedding_backward_case(const Sizes& s, bool accumulate, DType compute, Random& random) {
    Case c(describe("EmbeddingBackward", s, compute) + (accumulate ? " +=" : ""));
    const DType accumulation = accumulation_dtype(compute);
    const int64_t rows = s.batch * s.time;
    // Few of the tokens, so that some repeat often and others never occur.
    const int64_t used = s.all_tokens ? s.vocabulary : std::max<int64_t>(s.vocabulary / 3, 1);
    const size_t tokens =
        c.input("tokens", DType::i32, {s.batch, s.time}, random.integers(rows, 0, used - 1));
    const size_t d_y =
        c.input("d_y", compute, {s.batch, s.time, s.channels}, random.normal(rows * s.channels));
    std::vector<int64_t> counts(static_cast<size_t>(s.vocabulary));
    for (const double token : c.values(tokens)) {
        ++counts[static_cast<size_t>(token)];
    }
    const int64_t most = *std::max_element(counts.begin(), counts.end()) + 1;
    const double largest = max_abs(c.values(d_y)) + 5;
    const Shape table = {s.vocabulary, s.channels};
    const Tolerance tolerance =
        rounded_sum(accumulation, accumulation, most, static_cast<double>(most) * largest);
    const size_t d_table = accumulate ? c.updated("d_token_table", accumulation, table,
                                                  random.normal(table.size()), tolerance)
                                      : c.output("d_token_table", accumulation, table, tolerance);
    const bool learned = s.positions > 0;
    const size_t d_positions =
        learned ? c.output("d_position_table", accumulation, {s.positions, s.channels},
                           rounded_sum(accumulation, accumulation, s.batch,
                                       static_cast<double>(s.batch) * largest))
                : 0;
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(EmbeddingBackward{.tokens = t[tokens],
                                     .d_y = t[d_y],
                                     .d_token_table = t[d_table],
                                     .d_position_table = learned ? t[d_positions] : Tensor(),
                                     .accumulate_tokens = accumulate});
    };
    return c;
}

const Sizes kSmall[] = {
    {1, 1, 1, 1},    {1, 1, 5, 7, 1}, {2, 3, 17, 5, 3},   {3, 7, 64, 50, 9}, {2, 33, 100, 300, 64},
    {4, 16, 31, 11}, {5, 61, 768, 9}, {2, 70, 8, 270000}, {0, 5, 16, 7, 9},  {2, 5, 0, 7, 9},
    {3, 21, 40, 30}, {1, 65, 8, 1},   {1, 3, 257, 5}};

Case rotary_case(const AttentionHeads& heads, int64_t batch, int64_t time, int64_t first,
                 bool inverse, DType compute, Random& random) {
    Case c(fmt::format("Rotary {} B{} T{} H{} K{} D{} from {}{}", name_of(compute), batch, time,
                       heads.heads, heads.kv_heads, heads.head_size, first,
                       inverse ? " inverse" : ""));
    const DType accumulation = accumulation_dtype(compute);
    const int64_t positions = first + time + 2;
    const int64_t half = heads.head_size / 2;
    std::vector<double> table;
    for (int64_t p = 0; p < positions; ++p) {
        for (int64_t i = 0; i < heads.head_size; ++i) {
            const double frequency = std::pow(10000.0, -static_cast<double>(i % half) / half);
            const double angle = static_cast<double>(p) * frequency;
            table.push_back(i < half ? std::cos(angle) : std::sin(angle));
        }
    }
    const size_t angles =
        c.input("table", accumulation, {positions, heads.head_size}, std::move(table));
    std::vector<double> values = random.normal(batch * time * heads.qkv_columns());
    const double largest = max_abs(values);
    const size_t qkv =
        c.updated("qkv", compute, {batch, time, heads.qkv_columns()}, std::move(values),
                  rounded_sum(compute, accumulation, 2, 2 * largest));
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(Rotary{.heads = heads,
                          .qkv = t[qkv],
                          .table = t[angles],
                          .first_position = first,
                          .inverse = inverse});
    };
    return c;
}

}  // namespace

Cases random_cases_Embedding(DType compute, Random& random) {
    Cases cases;
    for (const Sizes& s : kSmall) {
        const int64_t room = std::max<int64_t>(s.positions - s.time, 0);
        cases.push_back(embedding_case(s, random.integer(0, room), compute, random));
    }
    return cases;
}

Cases training_cases_Embedding(DType compute, Random& random) {
    return {embedding_case({8, 256, 384, 4096, 512}, 0, compute, random),
            embedding_case({8, 256, 1024, 1000}, 0, compute, random)};
}

Cases random_cases_EmbeddingBackward(DType compute, Random& random) {
    Cases cases;
    for (const Sizes& s : kSmall) {
        cases.push_back(embedding_backward_case(s, false, compute, random));
        cases.push_back(embedding_backward_case(s, true, compute, random));
    }
    // Tokens sorted by all their bits, of which the last pass sees one.
    const Sizes many = {
        .batch = 2, .time = 4096, .channels = 8, .vocabulary = 1024, .all_tokens = true};
    cases.push_back(embedding_backward_case(many, false, compute, random));
    return cases;
}

Cases training_cases_EmbeddingBackward(DType compute, Random& random) {
    return {embedding_backward_case({8, 256, 384, 4096, 512}, false, compute, random),
            embedding_backward_case({8, 256, 384, 4096}, true, compute, random),
            embedding_backward_case({8, 256, 100, 3, 256}, false, compute, random)};
}

Cases random_cases_Rotary(DType compute, Random& random) {
    Cases cases;
    const AttentionHeads shapes[] = {{1, 1, 2},  {4, 2, 8},   {3, 1, 10},
                                     {6, 3, 64}, {2, 2, 128}, {5, 5, 96}};
    for (const AttentionHeads& heads : shapes) {
        for (const bool inverse : {false, true}) {
            cases.push_back(rotary_case(heads, random.integer(1, 3), random.integer(1, 9),
                                        random.integer(0, 20), inverse, compute, random));
        }
    }
    cases.push_back(rotary_case({6, 3, 64}, 0, 5, 2, false, compute, random));
    // So many rows that a thread of a GPU turns all five heads.
    cases.push_back(rotary_case({4, 1, 8}, 1, 7000, 0, false, compute, random));
    return cases;
}

Cases training_cases_Rotary(DType compute, Random& random) {
    return {rotary_case({6, 2, 64}, 4, 512, 0, false, compute, random),
            rotary_case({6, 2, 64}, 4, 512, 0, true, compute, random)};
}

}  // namespace lathe::test
