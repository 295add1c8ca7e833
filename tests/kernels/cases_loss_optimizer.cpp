// Cases of CrossEntropy, AdamW, Accumulate, SquaredNorm and Cast.
#include <algorithm>
#include <cmath>

#include "tests/kernels/cases.h"

namespace lathe::test {
namespace {

struct Loss {
    int64_t rows, columns, vocabulary;
    bool wide_logits = false;  ///< logits of the accumulation type
    bool gradient = true;
    bool in_place = false;
};

Case cross_entropy_case(const Loss& s, DType compute, Random& random) {
    const DType accumulation = accumulation_dtype(compute);
    const DType logits_type = s.wide_logits ? accumulation : compute;
    Case c(fmt::format("CrossEntropy {} logits {} {}x{} of {}{}{}", name_of(compute),
                       name_of(logits_type), s.rows, s.columns, s.vocabulary,
                       s.gradient ? " gradient" : "", s.in_place ? " in place" : ""));
    const float scale = 1.0F / 96;
    const Shape shape = {s.rows, s.columns};
    std::vector<double> values = random.normal(shape.size(), 3);
    for (size_t i = 0; i < values.size(); ++i) {
        // Padding may hold anything; it must not matter.
        values[i] = static_cast<int64_t>(i) % s.columns < s.vocabulary ? values[i] : 1e4;
    }
    std::vector<double> targets = random.integers(s.rows, 0, s.vocabulary - 1);
    for (size_t i = 2; i < targets.size(); i += 5) {
        targets[i] = -static_cast<double>(random.integer(1, 100));
    }
    const size_t target = c.input("targets", DType::i32, {s.rows}, std::move(targets));
    // exp's argument is off by a roundoff of the largest logit (3 deviations: below 18).
    const double u = unit_roundoff(accumulation);
    const double argument = 4 * 18 * u;
    const double sum = sum_error(s.vocabulary, accumulation) + 2 * kFunctionRoundoffs * u;
    const DType gradient_type = s.in_place ? logits_type : compute;
    Tolerance gradient = rounded_once(gradient_type, 4 * u * static_cast<double>(scale));
    gradient.relative += argument + sum;
    const size_t logits = s.in_place ? c.updated("logits", logits_type, shape, values, gradient)
                                     : c.input("logits", logits_type, shape, values);
    const size_t d_logits = s.in_place   ? logits
                            : s.gradient ? c.output("d_logits", gradient_type, shape, gradient)
                                         : 0;
    const size_t losses = c.output("losses", accumulation, {s.rows}, {2 * u, argument + sum});
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(CrossEntropy{.logits = t[logits],
                                .targets = t[target],
                                .vocabulary = s.vocabulary,
                                .scale = scale,
                                .losses = t[losses],
                                .d_logits = s.gradient ? t[d_logits] : Tensor()});
    };
    return c;
}

struct Step {
    int64_t count;
    int64_t step = 1;
    bool parameter = false;
    bool stochastic = false;
    float weight_decay = 0.1F;
};

Case adamw_case(const Step& s, DType compute, Random& random) {
    const DType accumulation = accumulation_dtype(compute);
    Case c(fmt::format("AdamW {} n {} step {}{}{} decay {}", name_of(compute), s.count, s.step,
                       s.parameter ? " parameter" : "", s.stochastic ? " stochastic" : "",
                       s.weight_decay));
    AdamW settings;
    settings.learning_rate = 3e-3F;
    settings.weight_decay = s.weight_decay;
    settings.gradient_scale = 0.25F;
    settings.step = s.step;
    settings.stochastic_rounding = s.stochastic;
    settings.seed = 77;
    settings.first_element = 123456;
    std::vector<double> m = random.normal(s.count, s.step == 1 ? 0 : 0.1);
    std::vector<double> v = random.normal(s.count, s.step == 1 ? 0 : 0.1);
    std::transform(v.begin(), v.end(), v.begin(), [](double x) { return x * x; });
    const size_t gradient = c.input("gradient", accumulation, {s.count}, random.normal(s.count));
    const std::vector<double>& g = c.values(gradient);
    const std::vector<double> w = random.normal(s.count);

    // Every quantity is a handful of operations, each a roundoff of the absolute values involved.
    const double u = 16 * unit_roundoff(accumulation);
    const double m_size = max_abs(m) + max_abs(g);
    const double v_size = max_abs(v) + max_abs(g) * max_abs(g);
    const double beta1 = settings.beta1;
    const double beta2 = settings.beta2;
    const double correction1 = 1 - std::pow(beta1, s.step);
    const double correction2 = 1 - std::pow(beta2, s.step);
    double direction = 0;
    for (size_t i = 0; i < g.size(); ++i) {
        const double scaled = std::fabs(g[i]) * static_cast<double>(settings.gradient_scale);
        const double root = std::sqrt((beta2 * v[i] + (1 - beta2) * scaled * scaled) / correction2);
        const double numerator = (beta1 * std::fabs(m[i]) + (1 - beta1) * scaled) / correction1;
        direction = std::max(direction, numerator / (root + static_cast<double>(settings.epsilon)));
    }
    const double update = static_cast<double>(settings.learning_rate) *
                          (direction + static_cast<double>(s.weight_decay) * max_abs(w));
    const double w_error = u * (update + max_abs(w));
    const size_t master =
        c.updated("master", accumulation, {s.count}, w, {2 * unit_roundoff(accumulation), w_error});
    const size_t first =
        c.updated("first_moment", accumulation, {s.count}, std::move(m), {0, u * m_size});
    const size_t second =
        c.updated("second_moment", accumulation, {s.count}, std::move(v), {0, u * v_size});
    const size_t parameter = s.parameter ? c.output("parameter", DType::bf16, {s.count},
                                                    rounded_once(DType::bf16, w_error))
                                         : 0;
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        AdamW op = settings;
        op.gradient = t[gradient];
        op.master = t[master];
        op.first_moment = t[first];
        op.second_moment = t[second];
        op.parameter = s.parameter ? t[parameter] : Tensor();
        runner.run(op);
    };
    return c;
}

Case accumulate_case(int64_t count, int num_contributions, bool assign, DType compute,
                     Random& random) {
    const DType accumulation = accumulation_dtype(compute);
    Case c(fmt::format("Accumulate {} n {} of {}{}", name_of(compute), count, num_contributions,
                       assign ? " =" : " +="));
    // The order is given and every addition rounded: equal bit for bit.
    const size_t sum = assign ? c.output("sum", accumulation, {count}, {})
                              : c.updated("sum", accumulation, {count}, random.normal(count), {});
    std::vector<size_t> parts;
    for (int i = 0; i < num_contributions; ++i) {
        parts.push_back(c.input(fmt::format("contribution {}", i),
                                i % 3 == 2 ? accumulation : compute, {count},
                                random.normal(count, std::pow(10.0, i % 4))));
    }
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        std::vector<Tensor> contributions;
        for (const size_t part : parts) {
            contributions.push_back(t[part]);
        }
        runner.run(Accumulate{.sum = t[sum], .contributions = contributions, .assign = assign});
    };
    return c;
}

Case squared_norm_case(int64_t count, DType compute, Random& random) {
    const DType accumulation = accumulation_dtype(compute);
    Case c(fmt::format("SquaredNorm {} n {}", name_of(compute), count));
    const size_t x = c.input("x", accumulation, {count}, random.normal(count));
    // All terms are positive, so the error is relative to the sum itself.
    const size_t partial =
        c.output("partial", DType::f64, {(count + kChunkElements - 1) / kChunkElements},
                 {sum_error(kChunkElements, DType::f64), 0});
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(SquaredNorm{.x = t[x], .partial = t[partial]});
    };
    return c;
}

Case cast_case(int64_t count, DType from, DType to, Random& random) {
    Case c(fmt::format("Cast {} to {} n {}", name_of(from), name_of(to), count));
    const size_t x = c.input("x", from, {count}, random.normal(count, 100));
    const size_t y = c.output("y", to, {count}, {});
    c.issue = [=](GuardedRunner& runner, Tensors t) { runner.run(Cast{.x = t[x], .y = t[y]}); };
    return c;
}

const int64_t kCounts[] = {0, 1, 17, 100, 4095, 4096, 4097, 3 * 4096 + 5};
constexpr int64_t kManyElements = 128 * 4096 + 1000;

}  // namespace

Cases random_cases_CrossEntropy(DType compute, Random& random) {
    Cases cases;
    const int64_t sizes[][3] = {{1, 1, 1},     {1, 2, 2},       {3, 17, 13},      {5, 64, 64},
                                {33, 100, 97}, {7, 1024, 1000}, {16, 4160, 4099}, {2, 50304, 50257},
                                {0, 64, 60},   {3, 257, 250}};
    for (const auto& [rows, columns, vocabulary] : sizes) {
        for (const bool wide : {false, true}) {
            Loss s{rows, columns, vocabulary, wide};
            cases.push_back(cross_entropy_case(s, compute, random));
            s.in_place = true;
            cases.push_back(cross_entropy_case(s, compute, random));
            s.in_place = s.gradient = false;
            cases.push_back(cross_entropy_case(s, compute, random));
        }
    }
    cases.push_back(cross_entropy_case({2, 128256, 128256, true}, compute, random));
    return cases;
}

Cases training_cases_CrossEntropy(DType compute, Random& random) {
    return {cross_entropy_case({512, 8192, 8190}, compute, random),
            cross_entropy_case({512, 4096, 4096, true}, compute, random)};
}

Cases random_cases_AdamW(DType compute, Random& random) {
    Cases cases;
    for (const int64_t count : kCounts) {
        cases.push_back(adamw_case({count, 1, false, false, 0}, compute, random));
        cases.push_back(adamw_case({count, 7, true}, compute, random));
        cases.push_back(adamw_case({count, 100000, true, true}, compute, random));
    }
    return cases;
}

Cases training_cases_AdamW(DType compute, Random& random) {
    return {adamw_case({kManyElements, 3, true, true}, compute, random),
            adamw_case({kManyElements, 3}, compute, random)};
}

Cases random_cases_Accumulate(DType compute, Random& random) {
    Cases cases;
    for (const int64_t count : kCounts) {
        for (const int num_contributions : {1, 2, 5, 9}) {
            for (const bool assign : {false, true}) {
                cases.push_back(accumulate_case(count, num_contributions, assign, compute, random));
            }
        }
    }
    cases.push_back(accumulate_case(300, 130, true, compute, random));
    return cases;
}

Cases training_cases_Accumulate(DType compute, Random& random) {
    return {accumulate_case(kManyElements, 3, false, compute, random),
            accumulate_case(kManyElements, 4, true, compute, random)};
}

Cases random_cases_SquaredNorm(DType compute, Random& random) {
    Cases cases;
    for (const int64_t count : kCounts) {
        cases.push_back(squared_norm_case(count, compute, random));
    }
    return cases;
}

Cases training_cases_SquaredNorm(DType compute, Random& random) {
    return {squared_norm_case(kManyElements, compute, random)};
}

Cases random_cases_Cast(DType compute, Random& random) {
    Cases cases;
    for (const int64_t count : kCounts) {
        cases.push_back(cast_case(count, compute, compute, random));
        cases.push_back(cast_case(count, compute, DType::f32, random));
        cases.push_back(cast_case(count, DType::f32, compute, random));
        cases.push_back(cast_case(count, compute, DType::f64, random));
        cases.push_back(cast_case(count, DType::f64, compute, random));
    }
    return cases;
}

Cases training_cases_Cast(DType compute, Random& random) {
    return {cast_case(kManyElements, DType::f32, compute, random),
            cast_case(kManyElements, compute, DType::f32, random)};
}

}  // namespace lathe::test
