// Cases of Attention, AttentionBackward and CachedAttention.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/reference/compute.h"
#include "kernels/reference/values.h"
#include "tests/kernels/cases.h"
#include "tests/support/slow_build.h"

namespace lathe::test {
namespace {

struct Setting {
    AttentionHeads heads;
    int64_t batch, time;
    bool alibi = false;
    int64_t first = 0;     ///< cached: tokens before these
    double deviation = 1;  ///< of queries and keys: scores have its square
    /// A case's name decides whether its arguments are aligned: those of two cases that differ in
    /// nothing but this are so once.
    bool is_renamed = false;
    /// Every query gives the first key nine tenths of its probability and more, d_y is 1 and values
    /// are small: d_v of that key counts the queries, and not one may be missing.
    bool counts_queries = false;
};

std::string describe(const char* operation, const Setting& s, DType compute) {
    return fmt::format("{} {} B{} T{} H{} K{} D{}{} from {} x{}{}{}", operation, name_of(compute),
                       s.batch, s.time, s.heads.heads, s.heads.kv_heads, s.heads.head_size,
                       s.alibi ? " alibi" : "", s.first, s.deviation,
                       s.counts_queries ? " counts queries" : "", s.is_renamed ? " again." : "");
}

std::vector<double> alibi_slopes(int64_t heads) {
    std::vector<double> slopes;
    for (int64_t h = 0; h < heads; ++h) {
        slopes.push_back(
            std::pow(2.0, -8.0 * static_cast<double>(h + 1) / static_cast<double>(heads)));
    }
    return slopes;
}

/// Noise around queries of ones, a first key whose scores with them are 8, and other keys of zeros.
std::vector<double> packed_values_that_count(const Setting& s, Random& random) {
    const auto d = static_cast<double>(s.heads.head_size);
    std::vector<double> qkv;
    for (int64_t row = 0; row < s.batch * s.time; ++row) {
        const auto add = [&](int64_t heads, double mean, double noise) {
            for (const double x : random.normal(heads * s.heads.head_size)) {
                qkv.push_back(mean + noise * x);
            }
        };
        add(s.heads.heads, 1, 0.1);
        add(s.heads.kv_heads, row % s.time == 0 ? 8 / std::sqrt(d) : 0, 0.1);
        add(s.heads.kv_heads, 0, 0.01);
    }
    return qkv;
}

/// Random queries and keys of one size and values of deviation 1, packed.
std::vector<double> packed_values(const Setting& s, Random& random) {
    if (s.counts_queries) {
        return packed_values_that_count(s, random);
    }
    std::vector<double> qkv = random.normal(s.batch * s.time * s.heads.qkv_columns());
    const int64_t columns = s.heads.qkv_columns();
    const int64_t scaled = (s.heads.heads + s.heads.kv_heads) * s.heads.head_size;
    for (size_t i = 0; i < qkv.size(); ++i) {
        qkv[i] *= static_cast<int64_t>(i) % columns < scaled ? s.deviation : 1;
    }
    return qkv;
}

double max_value_norm(const Setting& s, std::span<const double> qkv) {
    const auto columns = static_cast<size_t>(s.heads.qkv_columns());
    const auto values = static_cast<size_t>(s.heads.kv_heads * s.heads.head_size);
    double largest = 0;
    for (size_t row = 0; row < qkv.size() / columns; ++row) {
        const auto of_row = qkv.subspan((row + 1) * columns - values, values);
        largest = std::max(largest, max_row_norm(of_row, s.heads.head_size));
    }
    return largest;
}

/// Error bounds of a causal softmax over at most `length` positions.
struct Bounds {
    double head_norm;    ///< largest Euclidean norm of a query, key or value head
    double value_norm;   ///< of a value head
    double largest;      ///< largest element
    double score_error;  ///< absolute
    double p_error;      ///< relative, of a probability
};

/// |q . k| / sqrt(D) <= norm^2 / sqrt(D). A probability is exp of a score, which turns its
/// absolute error into a relative one, twice because of the denominator; it may be rounded to the
/// compute type before it meets the values.
Bounds bounds(const Setting& s, std::span<const double> qkv, DType compute, int64_t length) {
    const DType accumulation = accumulation_dtype(compute);
    const double u = unit_roundoff(accumulation);
    Bounds result{};
    result.head_norm = max_row_norm(qkv, s.heads.head_size);
    result.value_norm = max_value_norm(s, qkv);
    result.largest = max_abs(qkv);
    const double root = std::sqrt(static_cast<double>(s.heads.head_size));
    const double product = result.head_norm * result.head_norm / root;
    const double bias = s.alibi ? alibi_slopes(s.heads.heads)[0] * static_cast<double>(length) : 0;
    result.score_error =
        sum_error(s.heads.head_size, accumulation) * product + 4 * u * (product + bias);
    result.p_error = 2 * result.score_error + kFunctionRoundoffs * u +
                     sum_error(length, accumulation) + unit_roundoff(compute);
    return result;
}

Tolerance y_tolerance(const Bounds& b, DType compute) {
    return rounded_once(compute, b.p_error * b.largest);  // probabilities add up to 1
}

Case attention_case(const Setting& s, DType compute, Random& random) {
    Case c(describe("Attention", s, compute));
    const DType accumulation = accumulation_dtype(compute);
    const size_t qkv =
        c.input("qkv", compute, {s.batch, s.time, s.heads.qkv_columns()}, packed_values(s, random));
    const size_t slopes =
        s.alibi ? c.input("slopes", accumulation, {s.heads.heads}, alibi_slopes(s.heads.heads)) : 0;
    const Bounds b = bounds(s, c.values(qkv), compute, s.time);
    const size_t y = c.output("y", compute, {s.batch, s.time, s.heads.heads * s.heads.head_size},
                              y_tolerance(b, compute));
    const double u = unit_roundoff(accumulation);
    const size_t log_sum_exp = c.output(
        "log_sum_exp", accumulation, {s.batch, s.heads.heads, s.time},
        {2 * u, b.score_error + sum_error(s.time, accumulation) + 2 * kFunctionRoundoffs * u});
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(Attention{.heads = s.heads,
                             .qkv = t[qkv],
                             .slopes = s.alibi ? t[slopes] : Tensor(),
                             .y = t[y],
                             .log_sum_exp = t[log_sum_exp]});
    };
    return c;
}

/// d_score = p (d_y . v - delta) with |d_y . v|, |delta| <= |d_y| |v|; d_q sums d_score k over
/// probabilities that add up to 1; d_k and d_v sum over the queries, of which the probabilities of
/// one key add up to about sum 1 / (t + 1) a query head: `mass`, with room for uneven scores, or to
/// at most 1 a query where all look at one key.
Tolerance gradient_tolerance(const Setting& s, const Bounds& b, double d_y_norm, double d_y_largest,
                             DType compute) {
    const DType accumulation = accumulation_dtype(compute);
    const auto group = static_cast<double>(s.heads.heads / s.heads.kv_heads);
    const auto time = static_cast<double>(s.time);
    const double mass = group * (s.counts_queries ? time : 4 * (1 + std::log(time)));
    const double root = std::sqrt(static_cast<double>(s.heads.head_size));
    const double d_p = d_y_norm * b.value_norm;
    const double sums = sum_error(s.time * static_cast<int64_t>(group), accumulation);
    const double d_score_error = 2 * d_p * (b.p_error + unit_roundoff(compute)) +
                                 2 * sum_error(s.heads.head_size, accumulation) * d_p;
    const double d_qk = mass * b.largest / root * (d_score_error + 2 * d_p * sums);
    const double d_v = mass * d_y_largest * (b.p_error + sums);
    return rounded_once(compute, std::max(d_qk, d_v));
}

Case attention_backward_case(const Setting& s, DType compute, Random& random) {
    Case c(describe("AttentionBackward", s, compute));
    const DType accumulation = accumulation_dtype(compute);
    const Shape y_shape = {s.batch, s.time, s.heads.heads * s.heads.head_size};
    const Shape qkv_shape = {s.batch, s.time, s.heads.qkv_columns()};
    const Shape statistics_shape = {s.batch, s.heads.heads, s.time};
    const size_t qkv = c.input("qkv", compute, qkv_shape, packed_values(s, random));
    const size_t slopes =
        s.alibi ? c.input("slopes", accumulation, {s.heads.heads}, alibi_slopes(s.heads.heads)) : 0;
    const std::vector<double> ones(static_cast<size_t>(y_shape.size()), 1.0);
    const size_t d_y =
        c.input("d_y", compute, y_shape, s.counts_queries ? ones : random.normal(y_shape.size()));

    // What the forward pass would have saved.
    std::vector<double> qkv_values = c.values(qkv);
    std::vector<double> slope_values = alibi_slopes(s.heads.heads);
    std::vector<double> y_values(static_cast<size_t>(y_shape.size()));
    std::vector<double> statistics(static_cast<size_t>(statistics_shape.size()));
    reference::compute(Attention{
        .heads = s.heads,
        .qkv = Tensor(qkv_values.data(), DType::f64, qkv_shape),
        .slopes = s.alibi ? Tensor(slope_values.data(), DType::f64, {s.heads.heads}) : Tensor(),
        .y = Tensor(y_values.data(), DType::f64, y_shape),
        .log_sum_exp = Tensor(statistics.data(), DType::f64, statistics_shape)});
    const size_t y = c.input("y", compute, y_shape, std::move(y_values));
    const size_t log_sum_exp =
        c.input("log_sum_exp", accumulation, statistics_shape, std::move(statistics));

    const Bounds b = bounds(s, c.values(qkv), compute, s.time);
    const Tolerance tolerance = gradient_tolerance(
        s, b, max_row_norm(c.values(d_y), s.heads.head_size), max_abs(c.values(d_y)), compute);
    const size_t d_qkv = c.output("d_qkv", compute, qkv_shape, tolerance);
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(AttentionBackward{.heads = s.heads,
                                     .d_y = t[d_y],
                                     .qkv = t[qkv],
                                     .slopes = s.alibi ? t[slopes] : Tensor(),
                                     .y = t[y],
                                     .log_sum_exp = t[log_sum_exp],
                                     .d_qkv = t[d_qkv]});
    };
    return c;
}

Case cached_attention_case(const Setting& s, DType compute, Random& random) {
    Case c(describe("CachedAttention", s, compute));
    const DType accumulation = accumulation_dtype(compute);
    const int64_t positions = s.first + s.time + 3;
    const size_t qkv =
        c.input("qkv", compute, {s.batch, s.time, s.heads.qkv_columns()}, packed_values(s, random));
    const size_t slopes =
        s.alibi ? c.input("slopes", accumulation, {s.heads.heads}, alibi_slopes(s.heads.heads)) : 0;
    // A new cache is undefined from `first` on, and that must not reach y.
    const Shape cache = {s.batch, s.heads.kv_heads, positions, s.heads.head_size};
    const auto cached = [&](double deviation) {
        std::vector<double> values = random.normal(cache.size(), deviation);
        for (size_t i = 0; i < values.size(); ++i) {
            const int64_t position = static_cast<int64_t>(i) / s.heads.head_size % positions;
            values[i] = position < s.first ? values[i] : std::numeric_limits<double>::quiet_NaN();
        }
        return values;
    };
    std::vector<double> keys = cached(s.deviation);
    std::vector<double> values = cached(1);
    std::vector<double> all = c.values(qkv);
    for (const std::vector<double>& cache_values : {keys, values}) {
        for (const double value : cache_values) {
            all.push_back(std::isnan(value) ? 0 : value);
        }
    }
    const Bounds b = bounds(s, all, compute, s.first + s.time);
    const size_t key_cache = c.updated("key_cache", compute, cache, std::move(keys), {});
    const size_t value_cache = c.updated("value_cache", compute, cache, std::move(values), {});
    const size_t y = c.output("y", compute, {s.batch, s.time, s.heads.heads * s.heads.head_size},
                              y_tolerance(b, compute));
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(CachedAttention{.heads = s.heads,
                                   .qkv = t[qkv],
                                   .slopes = s.alibi ? t[slopes] : Tensor(),
                                   .key_cache = t[key_cache],
                                   .value_cache = t[value_cache],
                                   .first_position = s.first,
                                   .y = t[y]});
    };
    return c;
}

using Maker = Case (*)(const Setting&, DType, Random&);

/// Sizes at which kernels change their tile or their way: every padded head, times about and across
/// tiles of 32 to 128, wide groups, heads past 128; cached, one token and prompts past several
/// parts of the cache.
std::vector<Setting> tile_settings(bool cached) {
    std::vector<Setting> settings;
    for (int64_t head_size = 8; head_size <= 128; head_size += 8) {
        settings.push_back({{2, 1, head_size}, 1, cached ? 1 : 9, false, cached ? 11 : 0});
    }
    for (const bool alibi : {false, true}) {
        settings.push_back({{2, 1, 64}, 1, 129, alibi});
        settings.push_back({{2, 1, 128}, 1, 161, alibi});
    }
    settings.push_back({{1, 1, 64}, 1, 300});
    settings.push_back({{1, 1, 128}, 1, 300});
    settings.push_back({{32, 8, 64}, 1, 40});
    settings.push_back({{32, 8, 128}, 2, 20, true});
    settings.push_back({{2, 2, 136}, 1, 21});
    settings.push_back({{2, 1, 256}, 1, 37, true});
    if (cached) {
        settings.push_back({{6, 2, 64}, 2, 1, false, 300});
        settings.push_back({{16, 2, 128}, 1, 1, true, 290});
        settings.push_back({{3, 1, 200}, 2, 1, false, 128});
        settings.push_back({{2, 1, 256}, 1, 1, true, 127});
        // Parts of the cache, and rows, whose largest scores lie further apart than exp reaches.
        settings.push_back({{6, 2, 64}, 2, 1, false, 300, 20});
        // Prompts whose first query sees all but the last key of a step.
        settings.push_back({{2, 1, 128}, 1, 40, true, 190});
        settings.push_back({{2, 2, 64}, 1, 130, false, 62});
        // Prompts in which a warp's last query alone sees the first key of a step.
        settings.push_back({{2, 1, 128}, 1, 40, false, 1});
        settings.push_back({{2, 1, 64}, 1, 70, false, 1});
    }
    return settings;
}

Setting renamed(Setting s, bool is_renamed) {
    s.is_renamed = is_renamed;
    return s;
}

Cases random_cases(Maker make, bool cached, DType compute, Random& random) {
    Cases cases;
    const AttentionHeads shapes[] = {{1, 1, 1},  {1, 1, 8},  {2, 2, 13}, {4, 2, 16},  {6, 2, 32},
                                     {3, 1, 48}, {2, 1, 64}, {2, 2, 80}, {4, 1, 100}, {1, 1, 128}};
    const int64_t times[] = {1, 2, 7, 16, 33, 64, 65, 130};
    for (const AttentionHeads& heads : shapes) {
        for (const bool alibi : {false, true}) {
            for (int repeat = 0; repeat < 2; ++repeat) {
                Setting s{heads, random.integer(1, 3),
                          times[random.integer(0, std::ssize(times) - 1)], alibi};
                s.first = cached ? random.integer(0, 70) : 0;
                cases.push_back(make(s, compute, random));
            }
        }
    }
    cases.push_back(make({{4, 2, 64}, 0, 33}, compute, random));
    // Scores of hundreds: exp without subtracting the maximum overflows.
    cases.push_back(make({{2, 1, 32}, 1, 40, false, 0, 8}, compute, random));
    cases.push_back(make({{4, 2, 64}, 1, 257, true}, compute, random));
    if (cached) {
        // Long caches are taken in chunks of 512 positions, many tokens in blocks of 32.
        for (const int64_t first : {300, 511, 512, 1040}) {
            cases.push_back(make({{6, 2, 32}, 2, 1, first == 512, first}, compute, random));
        }
        cases.push_back(make({{4, 2, 16}, 2, 35, true, 490}, compute, random));
        cases.push_back(make({{2, 1, 16}, 1, 70, false, 1000}, compute, random));
    }
    for (const bool is_renamed : {false, true}) {
        for (const Setting& s : tile_settings(cached)) {
            cases.push_back(make(renamed(s, is_renamed), compute, random));
        }
    }
    return cases;
}

Cases training_cases(Maker make, DType compute, Random& random) {
    const int64_t time = kSlowBuild ? 130 : 512;
    return {make({{6, 2, 64}, 2, time / 2}, compute, random),
            make({{4, 4, 32}, 2, time, true}, compute, random)};
}

}  // namespace

Cases random_cases_Attention(DType compute, Random& random) {
    return random_cases(attention_case, false, compute, random);
}
Cases training_cases_Attention(DType compute, Random& random) {
    return training_cases(attention_case, compute, random);
}
Cases random_cases_AttentionBackward(DType compute, Random& random) {
    Cases cases = random_cases(attention_backward_case, false, compute, random);
    for (const int64_t head_size : {32, 64, 128}) {
        for (const int64_t time : {33, 65, 130}) {
            Setting s{{2, 1, head_size}, 1, time};
            s.counts_queries = true;
            cases.push_back(attention_backward_case(s, compute, random));
        }
    }
    return cases;
}
Cases training_cases_AttentionBackward(DType compute, Random& random) {
    return training_cases(attention_backward_case, compute, random);
}
Cases random_cases_CachedAttention(DType compute, Random& random) {
    return random_cases(cached_attention_case, true, compute, random);
}
Cases training_cases_CachedAttention(DType compute, Random& random) {
    return {cached_attention_case({{6, 2, 64}, 2, 1, false, 500}, compute, random),
            cached_attention_case({{6, 2, 64}, 2, 128, true, 450}, compute, random)};
}

}  // namespace lathe::test
