// Cases of Gelu, Swiglu and their gradients.
#include "tests/kernels/cases.h"

namespace lathe::test {
namespace {

/// Normal values, then some far out, where exp overflows or tanh saturates.
std::vector<double> values_with_extremes(int64_t count, Random& random) {
    std::vector<double> values = random.normal(count, 2);
    const double extremes[] = {0, -0.0, 6, -6, 12, -12, 90, -90, 1000, -1000};
    for (size_t i = 0; i < std::size(extremes) && 3 * i < values.size(); ++i) {
        values[3 * i] = extremes[i];
    }
    return values;
}

std::vector<double> plain_values(int64_t count, Random& random) { return random.normal(count, 2); }

using Values = std::vector<double> (*)(int64_t, Random&);

const char* name_of_values(Values values) { return values == plain_values ? "" : " extremes"; }

double function_error(DType compute) {
    return kFunctionRoundoffs * unit_roundoff(accumulation_dtype(compute));
}

Case gelu_case(Activation activation, Shape shape, Values values, DType compute, Random& random) {
    Case c(fmt::format("Gelu {} {} {}{}", activation == Activation::gelu_exact ? "exact" : "tanh",
                       name_of(compute), shape.text(), name_of_values(values)));
    const size_t x = c.input("x", compute, shape, values(shape.size(), random));
    // x times a function between 0 and 1 that is off by a few roundoffs.
    const size_t y =
        c.output("y", compute, shape,
                 rounded_once(compute, 2 * function_error(compute) * max_abs(c.values(x))));
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(Gelu{.activation = activation, .x = t[x], .y = t[y]});
    };
    return c;
}

Case gelu_backward_case(Activation activation, Shape shape, Values values, bool in_place,
                        DType compute, Random& random) {
    Case c(fmt::format("GeluBackward {} {} {}{}{}",
                       activation == Activation::gelu_exact ? "exact" : "tanh", name_of(compute),
                       shape.text(), name_of_values(values), in_place ? " in place" : ""));
    const size_t x = c.input("x", compute, shape, values(shape.size(), random));
    const std::vector<double> d_y_values = random.normal(shape.size());
    // act'(x) holds x (1 - tanh^2) (0.8 + 0.11 x^2) / 2, the cancelling part of which is off by a
    // few roundoffs.
    const double largest = max_abs(c.values(x));
    const double size = 1 + largest * (0.4 + 0.06 * largest * largest);
    const Tolerance tolerance =
        rounded_once(compute, 4 * function_error(compute) * size * max_abs(d_y_values));
    const size_t d_y = in_place ? c.updated("d_y", compute, shape, d_y_values, tolerance)
                                : c.input("d_y", compute, shape, d_y_values);
    const size_t d_x = in_place ? d_y : c.output("d_x", compute, shape, tolerance);
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(GeluBackward{.activation = activation, .d_y = t[d_y], .x = t[x], .d_x = t[d_x]});
    };
    return c;
}

Case swiglu_case(int64_t rows, int64_t width, Values values, DType compute, Random& random) {
    Case c(fmt::format("Swiglu {} {}x{}{}", name_of(compute), rows, width, name_of_values(values)));
    const size_t gate_up =
        c.input("gate_up", compute, {rows, 2 * width}, values(2 * rows * width, random));
    const double largest = max_abs(c.values(gate_up));
    const size_t y =
        c.output("y", compute, {rows, width},
                 rounded_once(compute, 2 * function_error(compute) * largest * largest));
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(Swiglu{.gate_up = t[gate_up], .y = t[y]});
    };
    return c;
}

Case swiglu_backward_case(int64_t rows, int64_t width, Values values, bool in_place, DType compute,
                          Random& random) {
    Case c(fmt::format("SwigluBackward {} {}x{}{}{}", name_of(compute), rows, width,
                       name_of_values(values), in_place ? " in place" : ""));
    const Shape wide = {rows, 2 * width};
    const size_t d_y = c.input("d_y", compute, {rows, width}, random.normal(rows * width));
    const std::vector<double> gate_up_values = values(wide.size(), random);
    const double largest = max_abs(gate_up_values);
    const Tolerance tolerance = rounded_once(
        compute, 4 * function_error(compute) * (1 + largest) * largest * max_abs(c.values(d_y)));
    const size_t gate_up = in_place ? c.updated("gate_up", compute, wide, gate_up_values, tolerance)
                                    : c.input("gate_up", compute, wide, gate_up_values);
    const size_t d_gate_up = in_place ? gate_up : c.output("d_gate_up", compute, wide, tolerance);
    c.issue = [=](GuardedRunner& runner, Tensors t) {
        runner.run(SwigluBackward{.d_y = t[d_y], .gate_up = t[gate_up], .d_gate_up = t[d_gate_up]});
    };
    return c;
}

const Shape kShapes[] = {{1},       {1, 17}, {5, 33}, {2, 3, 64}, {1000},
                         {3, 4096}, {0, 8},  {2047},  {4095}};
const int64_t kRows[][2] = {{1, 1}, {1, 31}, {3, 8}, {5, 65}, {17, 344}, {2, 2752}, {0, 8}};
const Values kValues[] = {plain_values, values_with_extremes};

}  // namespace

Cases random_cases_Gelu(DType compute, Random& random) {
    Cases cases;
    for (const Activation activation : {Activation::gelu_exact, Activation::gelu_tanh}) {
        for (const Shape& shape : kShapes) {
            for (const Values values : kValues) {
                cases.push_back(gelu_case(activation, shape, values, compute, random));
            }
        }
    }
    return cases;
}

Cases training_cases_Gelu(DType compute, Random& random) {
    return {gelu_case(Activation::gelu_exact, {512, 1024}, plain_values, compute, random),
            gelu_case(Activation::gelu_tanh, {512, 1024}, plain_values, compute, random)};
}

Cases random_cases_GeluBackward(DType compute, Random& random) {
    Cases cases;
    for (const Activation activation : {Activation::gelu_exact, Activation::gelu_tanh}) {
        for (const Shape& shape : kShapes) {
            for (const Values values : kValues) {
                for (const bool in_place : {false, true}) {
                    cases.push_back(
                        gelu_backward_case(activation, shape, values, in_place, compute, random));
                }
            }
        }
    }
    return cases;
}

Cases training_cases_GeluBackward(DType compute, Random& random) {
    return {gelu_backward_case(Activation::gelu_exact, {512, 1024}, plain_values, false, compute,
                               random),
            gelu_backward_case(Activation::gelu_tanh, {512, 1024}, plain_values, true, compute,
                               random)};
}

Cases random_cases_Swiglu(DType compute, Random& random) {
    Cases cases;
    for (const auto& [rows, width] : kRows) {
        for (const Values values : kValues) {
            cases.push_back(swiglu_case(rows, width, values, compute, random));
        }
    }
    return cases;
}

Cases training_cases_Swiglu(DType compute, Random& random) {
    return {swiglu_case(512, 1024, plain_values, compute, random)};
}

Cases random_cases_SwigluBackward(DType compute, Random& random) {
    Cases cases;
    for (const auto& [rows, width] : kRows) {
        for (const Values values : kValues) {
            for (const bool in_place : {false, true}) {
                cases.push_back(
                    swiglu_backward_case(rows, width, values, in_place, compute, random));
            }
        }
    }
    return cases;
}

Cases training_cases_SwigluBackward(DType compute, Random& random) {
    return {swiglu_backward_case(512, 1024, plain_values, false, compute, random)};
}

}  // namespace lathe::test
