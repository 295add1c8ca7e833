#include "plan/scaling_law.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "kernels/error.h"

namespace lathe {
namespace {

double g_of(const LossLaw& law) {
    return std::pow(law.alpha * law.a / (law.beta * law.b), 1.0 / (law.alpha + law.beta));
}

/// log a, log b, log e, alpha, beta.
using Point = std::array<double, 5>;

LossLaw law_of(const Point& point) {
    return {.e = std::exp(point[2]),
            .a = std::exp(point[0]),
            .b = std::exp(point[1]),
            .alpha = point[3],
            .beta = point[4]};
}

double huber(double x) {
    constexpr double kDelta = 1e-3;
    const double size = std::abs(x);
    return size <= kDelta ? x * x / 2.0 : kDelta * (size - kDelta / 2.0);
}

double misfit(const Point& point, std::span<const LossPoint> points) {
    const LossLaw law = law_of(point);
    if (law.alpha <= 0.0 || law.beta <= 0.0 || law.alpha > 5.0 || law.beta > 5.0) {
        return std::numeric_limits<double>::infinity();
    }
    double sum = 0.0;
    for (const LossPoint& run : points) {
        sum += huber(std::log(law.loss(run.parameters, run.tokens)) - std::log(run.loss));
    }
    return std::isfinite(sum) ? sum : std::numeric_limits<double>::infinity();
}

/// Nelder and Mead, "A simplex method for function minimization" (1965).
class Simplex {
  public:
    Simplex(const Point& start, std::span<const LossPoint> points) : points_(points) {
        constexpr Point kStep = {0.5, 0.5, 0.1, 0.05, 0.05};
        vertices_.push_back(evaluate(start));
        for (size_t i = 0; i < start.size(); ++i) {
            Point moved = start;
            moved[i] += kStep[i];
            vertices_.push_back(evaluate(moved));
        }
    }

    void run(int steps) {
        for (int step = 0; step < steps; ++step) {
            sort();
            if (vertices_.back().value - vertices_.front().value <
                1e-14 * std::abs(vertices_.front().value) + 1e-300) {
                break;
            }
            move();
        }
        sort();
    }

    const Point& best() const { return vertices_.front().point; }
    double best_value() const { return vertices_.front().value; }

  private:
    struct Vertex {
        Point point{};
        double value = 0.0;
    };

    Vertex evaluate(const Point& point) const { return {point, misfit(point, points_)}; }
    void sort() {
        std::stable_sort(vertices_.begin(), vertices_.end(),
                         [](const Vertex& a, const Vertex& b) { return a.value < b.value; });
    }
    static Point between(const Point& from, const Point& to, double way) {
        Point point{};
        for (size_t i = 0; i < point.size(); ++i) {
            point[i] = from[i] + way * (to[i] - from[i]);
        }
        return point;
    }

    void move() {
        Vertex& worst = vertices_.back();
        Point center{};
        for (size_t v = 0; v + 1 < vertices_.size(); ++v) {
            for (size_t i = 0; i < center.size(); ++i) {
                center[i] += vertices_[v].point[i] / static_cast<double>(vertices_.size() - 1);
            }
        }
        const Vertex reflected = evaluate(between(center, worst.point, -1.0));
        if (reflected.value < vertices_.front().value) {
            const Vertex expanded = evaluate(between(center, worst.point, -2.0));
            worst = expanded.value < reflected.value ? expanded : reflected;
            return;
        }
        if (reflected.value < vertices_[vertices_.size() - 2].value) {
            worst = reflected;
            return;
        }
        const Vertex contracted = evaluate(
            between(center, reflected.value < worst.value ? reflected.point : worst.point, 0.5));
        if (contracted.value < std::min(reflected.value, worst.value)) {
            worst = contracted;
            return;
        }
        for (size_t v = 1; v < vertices_.size(); ++v) {
            vertices_[v] = evaluate(between(vertices_[0].point, vertices_[v].point, 0.5));
        }
    }

    std::span<const LossPoint> points_;
    std::vector<Vertex> vertices_;
};

}  // namespace

double LossLaw::loss(double parameters, double tokens) const {
    return e + a / std::pow(parameters, alpha) + b / std::pow(tokens, beta);
}

double LossLaw::best_parameters(double flops) const {
    return g_of(*this) * std::pow(flops / 6.0, beta / (alpha + beta));
}

double LossLaw::flops_for_parameters(double parameters) const {
    return 6.0 * std::pow(parameters / g_of(*this), (alpha + beta) / beta);
}

double LossLaw::flops_for_tokens(double tokens) const {
    return 6.0 * std::pow(tokens * g_of(*this), (alpha + beta) / alpha);
}

std::optional<double> LossLaw::tokens_for_loss(double parameters, double loss) const {
    const double left = loss - e - a / std::pow(parameters, alpha);
    if (left <= 0.0) {
        return std::nullopt;
    }
    return std::pow(b / left, 1.0 / beta);
}

LossLaw chinchilla_law() {
    return {.e = 1.69, .a = 406.4, .b = 410.7, .alpha = 0.34, .beta = 0.28};
}

LossLaw replicated_law() {
    return {.e = 1.8172, .a = 482.01, .b = 2085.43, .alpha = 0.3478, .beta = 0.3658};
}

std::vector<Allocation> compute_optimal(double flops) {
    // Tables 3 and A3 give the FLOPs for 1B parameters, table 2 the exponents.
    const auto power_law = [&](const char* name, double flops_for_1b, double exponent) {
        const double parameters = 1e9 * std::pow(flops / flops_for_1b, exponent);
        return Allocation{name, parameters, flops / (6.0 * parameters)};
    };
    const auto law = [&](const char* name, const LossLaw& fit) {
        const double parameters = fit.best_parameters(flops);
        return Allocation{name, parameters, flops / (6.0 * parameters)};
    };
    return {power_law("Chinchilla, approach 1 (training curves)", 1.21e20, 0.50),
            power_law("Chinchilla, approach 2 (equal FLOPs)", 1.20e20, 0.49),
            law("Chinchilla, approach 3 (parametric)", chinchilla_law()),
            law("replication (arXiv 2404.10102)", replicated_law())};
}

std::vector<OverTraining> over_training(double flops) {
    const LossLaw law = replicated_law();
    const double best = law.best_parameters(flops);
    const double loss = law.loss(best, flops / (6.0 * best));
    std::vector<OverTraining> smaller;
    for (const double factor : {0.75, 0.5, 0.35, 0.25}) {
        const double parameters = factor * best;
        if (const auto tokens = law.tokens_for_loss(parameters, loss)) {
            smaller.push_back(
                {.parameters = parameters, .tokens = *tokens, .flops = 6.0 * parameters * *tokens});
        }
    }
    return smaller;
}

double loss_uncertainty(double parameters, double tokens) {
    const double gap =
        chinchilla_law().loss(parameters, tokens) - replicated_law().loss(parameters, tokens);
    return std::hypot(gap / 2.0, kReplicatedStandardError);
}

LossLaw fit_law(std::span<const LossPoint> points) {
    std::set<double> sizes;
    for (const LossPoint& point : points) {
        sizes.insert(point.parameters);
    }
    LATHE_CHECK_USAGE(sizes.size() >= 3,
                      "a fit needs runs of at least 3 sizes of model, these are {}", sizes.size());
    LATHE_CHECK_USAGE(points.size() >= 5, "a fit needs at least 5 measured losses, these are {}",
                      points.size());
    Point best{};
    double best_value = std::numeric_limits<double>::infinity();
    for (const double log_scale : {3.0, 6.0, 9.0}) {
        for (const double log_e : {-1.0, 0.0, 0.6}) {
            for (const double exponent : {0.2, 0.35, 0.6}) {
                Simplex simplex({log_scale, log_scale, log_e, exponent, exponent}, points);
                simplex.run(4000);
                // A new simplex where the first one has collapsed.
                Simplex again(simplex.best(), points);
                again.run(4000);
                if (again.best_value() < best_value) {
                    best = again.best();
                    best_value = again.best_value();
                }
            }
        }
    }
    return law_of(best);
}

}  // namespace lathe
