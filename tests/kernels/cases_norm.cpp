// Cases of Norm and NormBackward.
#include <algorithm>
#include <cmath>

#include "kernels/reference/values.h"
#include "tests/kernels/cases.h"

namespace lathe::test {
namespace {

constexpr float kEpsilon = 1e-5F;

/// Statistics of rows, in double: the tests' own, for tolerances and for inputs of the backward.
struct Statistics {
    std::vector<double> mean;
    std::vector<double> rstd;
    double condition = 0;  ///< max |s| rstd: how much a rounding of s grows in the normed value
};

Statistics statistics(NormKind kind, const std::vector<double>& s, int64_t columns) {
    Statistics result;
    const auto width = static_cast<size_t>(columns);
    for (size_t begin = 0; begin < s.size(); begin += width) {
        const std::span<const double> row(&s[begin], width);
        double mean = 0;
        double square = 0;
        for (const double value : row) {
            mean += kind == NormKind::layernorm ? value / static_cast<double>(columns) : 0;
        }
        for (const double value : row) {
            square += (value - mean) * (value - mean) / static_cast<double>(columns);
        }
        const double rstd = 1 / std::sqrt(square + static_cast<double>(kEpsilon));
        result.mean.push_back(mean);
        result.rstd.push_back(rstd);
        result.condition = std::max(result.condition, max_abs(row) * rstd);
    }
    return result;
}

struct Setting {
    NormKind kind;
    int64_t rows, columns;
    bool residual = false;
    int in_place = 0;  ///< forward: sum is 1 x, 2 residual; backward: d_x is 1 d_y, 2 d_residual
    double mean = 0;
};

std::string describe(const char* operation, const Setting& s, DType compute) {
    return fmt::format("{} {} {} {}x{} mean {}{}{}", operation,
                       s.kind == NormKind::layernorm ? "layernorm" : "rmsnorm", name_of(compute),
                       s.rows, s.columns, s.mean, s.residual ? " residual" : "",
                       s.in_place != 0 ? " in place" : "");
}

Case norm_case(const Setting& s, DType compute, Random& random) {
    Case c(describe("Norm", s, compute));
    const DType accumulation = accumulation_dtype(compute);
    const Shape shape = {s.rows, s.columns};
    const bool centred = s.kind == NormKind::layernorm;
    const auto rounded_values = [&](double mean) {
        std::vector<double> values = random.normal(shape.size(), 1, mean);
        for (double& value : values) {
            value = reference::rounded(value, compute);
        }
        return values;
    };
    const std::vector<double> x_values = rounded_values(s.mean);
    const std::vector<double> residual_values = rounded_values(0);
    std::vector<double> sums = x_values;
    for (size_t i = 0; i < sums.size() && s.residual; ++i) {
        sums[i] += residual_values[i];
    }
    const Tolerance sum_tolerance = rounded_sum(compute, accumulation, 2, max_abs(sums));
    const auto argument = [&](const char* name, const std::vector<double>& values, bool is_sum) {
        return is_sum ? c.updated(name, compute, shape, values, sum_tolerance)
                      : c.input(name, compute, shape, values);
    };
    const size_t x = argument("x", x_values, s.residual && s.in_place == 1);
    const size_t residual = s.residual ? argument("residual", residual_values, s.in_place == 2) : 0;
    const size_t sum = s.in_place == 1   ? x
                       : s.in_place == 2 ? residual
                       : s.residual      ? c.output("sum", compute, shape, sum_tolerance)
                                         : 0;
    const size_t weight = c.input("weight", compute, {s.columns}, random.normal(s.columns, 0.5, 1));
    const size_t bias =
        centred ? c.input("bias", compute, {s.columns}, random.normal(s.columns)) : 0;

    // (s - mean) is off by a relative error of `sums_off` of |s|, which rstd multiplies; s itself
    // may be rounded to a neighbour when it is a sum.
    const Statistics stats = statistics(s.kind, sums, s.columns);
    const double neighbour = s.residual ? 2 * unit_roundoff(compute) : 0;
    const double off = 3 * sum_error(s.columns, accumulation) +
                       kFunctionRoundoffs * unit_roundoff(accumulation) + neighbour;
    const double scale = max_abs(c.values(weight));
    const double shift = centred ? max_abs(c.values(bias)) : 0;
    const size_t y = c.output("y", compute, shape,
                              rounded_once(compute, off * stats.condition * scale +
                                                        2 * unit_roundoff(accumulation) * shift));
    const size_t mean =
        centred ? c.output("mean", accumulation, {s.rows},
                           {2 * unit_roundoff(accumulation),
                            (sum_error(s.columns, accumulation) + neighbour) * max_abs(sums)})
                : 0;
    const size_t rstd =
        c.output("rstd", accumulation, {s.rows}, {off * (1 + 2 * stats.condition), 0});
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(Norm{.kind = s.kind,
                        .epsilon = kEpsilon,
                        .x = t[x],
                        .residual = s.residual ? t[residual] : Tensor(),
                        .sum = s.residual ? t[sum] : Tensor(),
                        .weight = t[weight],
                        .bias = centred ? t[bias] : Tensor(),
                        .y = t[y],
                        .mean = centred ? t[mean] : Tensor(),
                        .rstd = t[rstd]});
    };
    return c;
}

Case norm_backward_case(const Setting& s, DType compute, Random& random) {
    Case c(describe("NormBackward", s, compute));
    const DType accumulation = accumulation_dtype(compute);
    const Shape shape = {s.rows, s.columns};
    const bool centred = s.kind == NormKind::layernorm;
    const size_t x = c.input("x", compute, shape, random.normal(shape.size(), 1, s.mean));
    const size_t weight = c.input("weight", compute, {s.columns}, random.normal(s.columns, 0.5, 1));
    const Statistics stats = statistics(s.kind, c.values(x), s.columns);
    const size_t mean = centred ? c.input("mean", accumulation, {s.rows}, stats.mean) : 0;
    const size_t rstd = c.input("rstd", accumulation, {s.rows}, stats.rstd);

    const std::vector<double> d_y_values = random.normal(shape.size());
    const std::vector<double> d_residual_values =
        s.residual ? random.normal(shape.size()) : std::vector<double>(1);
    // g = d_y weight and x^ = (x - mean) rstd: mean |g x^| <= max |g| because mean x^2 <= 1; x^ is
    // off by unit_roundoff times the condition.
    const double g = max_abs(d_y_values) * max_abs(c.values(weight)) * 1.01;
    const double normed = std::min(std::sqrt(static_cast<double>(s.columns)), stats.condition);
    const double normed_off = 4 * unit_roundoff(accumulation) * (1 + stats.condition);
    const double size = max_abs(stats.rstd) * g * (3 + normed);
    const Tolerance d_x_tolerance =
        rounded_once(compute, (sum_error(s.columns, accumulation) + normed_off) * size +
                                  4 * unit_roundoff(accumulation) * max_abs(d_residual_values));
    const auto argument = [&](const char* name, const std::vector<double>& values, bool is_d_x) {
        return is_d_x ? c.updated(name, compute, shape, values, d_x_tolerance)
                      : c.input(name, compute, shape, values);
    };
    const size_t d_y = argument("d_y", d_y_values, s.in_place == 1);
    const size_t d_residual =
        s.residual ? argument("d_residual", d_residual_values, s.in_place == 2) : 0;
    const size_t d_x = s.in_place == 1   ? d_y
                       : s.in_place == 2 ? d_residual
                                         : c.output("d_x", compute, shape, d_x_tolerance);
    const double column = max_column_sum(c.values(d_y), s.columns);
    const double rows_error = sum_error(s.rows, accumulation);
    const size_t d_weight =
        c.output("d_weight", accumulation, {s.columns},
                 rounded_once(accumulation, column * (rows_error * normed + normed_off)));
    const size_t d_bias = centred ? c.output("d_bias", accumulation, {s.columns},
                                             rounded_once(accumulation, column * rows_error))
                                  : 0;
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(NormBackward{.kind = s.kind,
                                .d_y = t[d_y],
                                .x = t[x],
                                .weight = t[weight],
                                .mean = centred ? t[mean] : Tensor(),
                                .rstd = t[rstd],
                                .d_residual = s.residual ? t[d_residual] : Tensor(),
                                .d_x = t[d_x],
                                .d_weight = t[d_weight],
                                .d_bias = centred ? t[d_bias] : Tensor()});
    };
    return c;
}

using Maker = Case (*)(const Setting&, DType, Random&);

Cases random_cases(Maker make, bool in_place_without_residual, DType compute, Random& random) {
    Cases cases;
    const int64_t sizes[][2] = {{0, 24}, {1, 1},  {1, 37},   {5, 1},
                                {3, 16}, {7, 63}, {65, 130}, {33, 768}};
    for (const NormKind kind : {NormKind::layernorm, NormKind::rmsnorm}) {
        for (const auto& [rows, columns] : sizes) {
            cases.push_back(make({kind, rows, columns}, compute, random));
            for (const int in_place : {0, 1, 2}) {
                cases.push_back(make({kind, rows, columns, true, in_place}, compute, random));
            }
        }
        if (in_place_without_residual) {
            cases.push_back(make({kind, 9, 40, false, 1}, compute, random));
        }
        cases.push_back(make({kind, 4, 256, false, 0, 30}, compute, random));
    }
    // Widths of real models, and past what fits in registers; each at both alignments.
    for (const NormKind kind : {NormKind::layernorm, NormKind::rmsnorm}) {
        for (const int64_t columns : {768, 1600, 2056, 4096, 8192, 12288, 20000, 66001}) {
            Case c = make({kind, 3, columns, kind == NormKind::rmsnorm}, compute, random);
            cases.push_back(c);
            c.text += ";";
            cases.push_back(c);
        }
    }
    return cases;
}

Cases training_cases(Maker make, DType compute, Random& random) {
    Cases cases;
    for (const NormKind kind : {NormKind::layernorm, NormKind::rmsnorm}) {
        cases.push_back(make({kind, 2048, 384, true}, compute, random));
        cases.push_back(make({kind, 2048, 1024}, compute, random));
    }
    return cases;
}

}  // namespace

Cases random_cases_Norm(DType compute, Random& random) {
    return random_cases(norm_case, false, compute, random);
}
Cases training_cases_Norm(DType compute, Random& random) {
    return training_cases(norm_case, compute, random);
}
Cases random_cases_NormBackward(DType compute, Random& random) {
    return random_cases(norm_backward_case, true, compute, random);
}
Cases training_cases_NormBackward(DType compute, Random& random) {
    return training_cases(norm_backward_case, compute, random);
}

}  // namespace lathe::test
