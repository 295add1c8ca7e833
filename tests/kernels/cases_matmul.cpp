// Cases of Matmul and BiasBackward.
#include "tests/kernels/cases.h"
#include "tests/support/slow_build.h"

namespace lathe::test {
namespace {

/// The settings of one product.
struct Product {
    int64_t m, n, k;
    bool transpose_a = false;
    bool transpose_b = false;
    bool wide_output = false;  ///< d of the accumulation type
    bool accumulate = false;
    bool bias = false;
    Activation activation = Activation::none;
    bool keep_pre_activation = false;
    bool residual = false;
    bool in_place = false;  ///< d is the residual
    std::optional<bool> misaligned = {};
};

std::string describe(const Product& p, DType compute) {
    std::string text = fmt::format("Matmul {} {}x{}x{}{}{}", name_of(compute), p.m, p.n, p.k,
                                   p.transpose_a ? " A^T" : "", p.transpose_b ? " B^T" : "");
    text += p.accumulate ? " +=" : p.wide_output ? " wide" : "";
    text += p.bias ? " bias" : "";
    text += p.activation == Activation::none ? "" : " gelu";
    text += !p.misaligned ? "" : *p.misaligned ? " misaligned" : " aligned";
    return text + (p.residual ? p.in_place ? " residual in place" : " residual" : "");
}

/// Error of the output before it is rounded: |sum of products| <= |row| |column|; gelu's derivative
/// is at most 1.13, and its argument may be rounded to a neighbour.
double error_before_rounding(const Product& p, DType compute, double row, double column,
                             double added) {
    const DType accumulation = accumulation_dtype(compute);
    const double sum = row * column + added;
    double error = sum_error(p.k + 3, accumulation) * sum;
    if (p.activation != Activation::none) {
        error = 1.13 * (error + 2 * unit_roundoff(compute) * sum) +
                kFunctionRoundoffs * unit_roundoff(accumulation) * sum;
    }
    return error;
}

Case matmul_case(const Product& p, DType compute, Random& random) {
    const DType accumulation = accumulation_dtype(compute);
    const DType d_type = p.wide_output || p.accumulate ? accumulation : compute;
    Case c(describe(p, compute));
    c.misaligned = p.misaligned;
    const Shape a_shape = p.transpose_a ? Shape{p.k, p.m} : Shape{p.m, p.k};
    const Shape b_shape = p.transpose_b ? Shape{p.n, p.k} : Shape{p.k, p.n};
    const auto make = [&](int64_t count) { return random.normal(count); };
    const size_t a = c.input("a", compute, a_shape, make(p.m * p.k));
    const size_t b = c.input("b", compute, b_shape, make(p.n * p.k));
    const size_t bias = p.bias ? c.input("bias", compute, {p.n}, make(p.n)) : 0;
    const bool own_residual = p.residual && !p.in_place;
    const size_t residual =
        own_residual ? c.input("residual", compute, {p.m, p.n}, make(p.m * p.n)) : 0;

    const double row =
        p.transpose_a ? max_column_norm(c.values(a), p.m) : max_row_norm(c.values(a), p.k);
    const double column =
        p.transpose_b ? max_row_norm(c.values(b), p.k) : max_column_norm(c.values(b), p.n);
    const double error = error_before_rounding(p, compute, row, column, 5);
    const Tolerance tolerance = rounded_once(d_type, error);
    const size_t pre = p.keep_pre_activation ? c.output("pre_activation", compute, {p.m, p.n},
                                                        rounded_once(compute, error))
                                             : 0;
    const bool read = p.accumulate || p.in_place;
    const size_t d = read ? c.updated("d", d_type, {p.m, p.n}, make(p.m * p.n), tolerance)
                          : c.output("d", d_type, {p.m, p.n}, tolerance);
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(Matmul{.a = t[a],
                          .b = t[b],
                          .d = t[d],
                          .transpose_a = p.transpose_a,
                          .transpose_b = p.transpose_b,
                          .accumulate = p.accumulate,
                          .bias = p.bias ? t[bias] : Tensor(),
                          .activation = p.activation,
                          .pre_activation = p.keep_pre_activation ? t[pre] : Tensor(),
                          .residual = own_residual ? t[residual]
                                      : p.in_place ? t[d]
                                                   : Tensor()});
    };
    return c;
}

/// Forward with a head, data gradient and weight gradient, as training does them.
void add_layer(Cases& cases, DType compute, int64_t rows, int64_t in, int64_t out, Random& random) {
    cases.push_back(matmul_case({.m = rows, .n = out, .k = in, .transpose_b = true, .bias = true},
                                compute, random));
    cases.push_back(matmul_case({.m = rows, .n = in, .k = out}, compute, random));
    cases.push_back(matmul_case(
        {.m = out, .n = in, .k = rows, .transpose_a = true, .wide_output = true}, compute, random));
}

}  // namespace

Cases random_cases_Matmul(DType compute, Random& random) {
    Cases cases;
    const int64_t sizes[][3] = {{1, 1, 1},     {1, 17, 3},     {7, 1, 33},
                                {5, 13, 64},   {33, 65, 17},   {64, 64, 64},
                                {31, 100, 96}, {128, 192, 80}, {3, 257, 129}};
    const auto shape = [&](size_t i) {
        return Product{.m = sizes[i][0], .n = sizes[i][1], .k = sizes[i][2]};
    };
    for (size_t i = 0; i < std::size(sizes); ++i) {
        for (int form = 0; form < 4; ++form) {
            Product p = shape(i);
            p.transpose_a = form % 2 == 1;
            p.transpose_b = form / 2 == 1;
            cases.push_back(matmul_case(p, compute, random));
            p.wide_output = true;
            cases.push_back(matmul_case(p, compute, random));
            p.accumulate = true;
            cases.push_back(matmul_case(p, compute, random));
            p.accumulate = false;
            p.bias = random.coin();
            p.residual = true;
            p.wide_output = random.coin();
            cases.push_back(matmul_case(p, compute, random));
            p.wide_output = false;
            p.in_place = true;
            cases.push_back(matmul_case(p, compute, random));
            p.residual = random.coin();
            p.in_place = false;
            p.activation = random.coin() ? Activation::gelu_exact : Activation::gelu_tanh;
            p.keep_pre_activation = random.coin();
            p.bias = random.coin();
            cases.push_back(matmul_case(p, compute, random));
        }
    }
    add_layer(cases, compute, 512, 256, 384, random);
    // Nothing to write, and nothing to add up.
    const int64_t empty[][3] = {{0, 24, 16}, {24, 0, 16}, {24, 40, 0}};
    for (const auto& [m, n, k] : empty) {
        for (const bool misaligned : {false, true}) {
            Product p = {.m = m, .n = n, .k = k, .transpose_b = true, .bias = true};
            p.misaligned = misaligned;
            cases.push_back(matmul_case(p, compute, random));
        }
    }
    return cases;
}

namespace {

/// Widths of GPT-2 and its vocabulary, padded and not, with few rows: the sums, the edges and the
/// epilogues are those of training.
void add_model_widths(Cases& cases, DType compute, Random& random) {
    const auto add = [&](const Product& p) { cases.push_back(matmul_case(p, compute, random)); };
    for (const bool misaligned : {false, true}) {
        const auto forward = [&](int64_t m, int64_t n, int64_t k) {
            return Product{.m = m, .n = n, .k = k, .transpose_b = true, .misaligned = misaligned};
        };
        Product p = forward(24, 2304, 768);
        p.bias = true;
        add(p);
        p = forward(17, 3072, 768);
        p.bias = p.keep_pre_activation = true;
        p.activation = Activation::gelu_tanh;
        add(p);
        p = forward(20, 768, 3072);
        p.bias = p.residual = p.in_place = true;
        add(p);
        p = forward(20, 50257, 24);  // logits
        p.wide_output = true;
        add(p);
        p = {.m = 17, .n = 40, .k = 50304, .misaligned = misaligned};  // the head's data gradient
        add(p);
        p = {.m = 50304, .n = 24, .k = 32, .transpose_a = true, .misaligned = misaligned};
        p.accumulate = true;  // a tied head's weight gradient
        add(p);
    }
}

/// Generation: one to sixteen rows, bound by reading the weights.
void add_few_rows(Cases& cases, DType compute, Random& random) {
    const int64_t sizes[][3] = {{1, 2304, 768}, {2, 768, 3072}, {8, 50304, 24}, {9, 9001, 40},
                                {16, 1000, 80}, {4, 9000, 136}, {3, 100, 36}};
    for (const auto& [m, n, k] : sizes) {
        Product p = {.m = m, .n = n, .k = k, .transpose_b = true, .misaligned = false};
        p.wide_output = m >= 8;
        p.accumulate = m == 16;
        p.bias = p.residual = m < 8;
        p.activation = m == 3 ? Activation::gelu_exact : Activation::none;
        cases.push_back(matmul_case(p, compute, random));
    }
}

/// Sizes at which a GPU takes each of its tiles, and at which it splits the sum, with edges: every
/// form that can be aligned, and one that is not.
void add_tiles(Cases& cases, DType compute, Random& random) {
    const int64_t sizes[][3] = {
        {2056, 1032, 72}, {1160, 1160, 72}, {200, 136, 200}, {72, 88, 1160}};
    for (const auto& [m, n, k] : sizes) {
        for (int form = 0; form < 4; ++form) {
            Product p = {.m = m, .n = n, .k = k, .misaligned = false};
            p.transpose_a = form % 2 == 1;
            p.transpose_b = form / 2 == 1;
            p.bias = form == 2;
            p.residual = form == 0;
            p.wide_output = p.accumulate = p.transpose_a;
            cases.push_back(matmul_case(p, compute, random));
        }
    }
    for (const bool misaligned : {false, true}) {
        Product p = {.m = 72, .n = 88, .k = 2100, .transpose_b = true, .bias = true};
        p.misaligned = misaligned;
        p.activation = Activation::gelu_exact;
        p.keep_pre_activation = p.residual = true;
        cases.push_back(matmul_case(p, compute, random));
        p.wide_output = true;
        cases.push_back(matmul_case(p, compute, random));
    }
}

}  // namespace

Cases training_cases_Matmul(DType compute, Random& random) {
    Cases cases;
    add_model_widths(cases, compute, random);
    add_few_rows(cases, compute, random);
    add_tiles(cases, compute, random);
    const int64_t shrink = kSlowBuild ? 4 : 1;
    add_layer(cases, compute, 2048 / shrink, 384, 1024, random);
    cases.push_back(matmul_case({.m = 512 / shrink,
                                 .n = 1024,
                                 .k = 384,
                                 .transpose_b = true,
                                 .bias = true,
                                 .activation = Activation::gelu_tanh,
                                 .keep_pre_activation = true},
                                compute, random));
    cases.push_back(
        matmul_case({.m = 512 / shrink, .n = 384, .k = 1024, .transpose_b = true, .residual = true},
                    compute, random));
    // Weight gradients where oneDNN by itself splits the sum over threads.
    const int64_t gradients[][2] = {{384, 4096}, {256, 8192}, {64, 8192}, {48, 4096}};
    for (const auto& [size, rows] : gradients) {
        cases.push_back(matmul_case({.m = size,
                                     .n = size,
                                     .k = rows / shrink,
                                     .transpose_a = true,
                                     .wide_output = true,
                                     .accumulate = size == 64},
                                    compute, random));
    }
    // A single row, as generation has, and a chunk of logits.
    cases.push_back(
        matmul_case({.m = 1, .n = 4096, .k = 384, .transpose_b = true}, compute, random));
    cases.push_back(matmul_case(
        {.m = 512 / shrink, .n = 4096, .k = 384, .transpose_b = true, .wide_output = true}, compute,
        random));
    return cases;
}

namespace {

Case bias_backward_case(DType compute, int64_t rows, int64_t columns, Random& random) {
    Case c(fmt::format("BiasBackward {} {}x{}", name_of(compute), rows, columns));
    const size_t d_y = c.input("d_y", compute, {rows, columns}, random.normal(rows * columns));
    const DType accumulation = accumulation_dtype(compute);
    const size_t d_bias = c.output(
        "d_bias", accumulation, {columns},
        rounded_sum(accumulation, accumulation, rows, max_column_sum(c.values(d_y), columns)));
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(BiasBackward{.d_y = t[d_y], .d_bias = t[d_bias]});
    };
    return c;
}

}  // namespace

Cases random_cases_BiasBackward(DType compute, Random& random) {
    Cases cases;
    const int64_t sizes[][2] = {{1, 1},    {1, 17},    {3, 1},      {5, 33}, {257, 31},
                                {64, 768}, {1000, 65}, {300, 1600}, {0, 24}, {24, 0}};
    for (const auto& [rows, columns] : sizes) {
        cases.push_back(bias_backward_case(compute, rows, columns, random));
    }
    return cases;
}

Cases training_cases_BiasBackward(DType compute, Random& random) {
    return {bias_backward_case(compute, 2048, 384, random),
            bias_backward_case(compute, 2048, 1024, random),
            bias_backward_case(compute, 8192, 48, random)};
}

}  // namespace lathe::test
