// Scaling laws: how good a model of N parameters trained on D tokens becomes, and what N and D to
// choose for C = 6 N D FLOPs.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lathe {

/// L(N, D) = E + A / N^alpha + B / D^beta, in nats a token.
struct LossLaw {
    double e = 0.0;
    double a = 0.0;
    double b = 0.0;
    double alpha = 0.0;
    double beta = 0.0;

    double loss(double parameters, double tokens) const;
    /// The N that loses least for `flops`: G (C / 6)^(beta / (alpha + beta)).
    double best_parameters(double flops) const;
    /// FLOPs for which `parameters` are best.
    double flops_for_parameters(double parameters) const;
    /// FLOPs at which the best model is trained on `tokens`.
    double flops_for_tokens(double tokens) const;
    /// Tokens after which `parameters` reach `loss`; none where they never do.
    std::optional<double> tokens_for_loss(double parameters, double loss) const;
};

/// Hoffmann et al., "Training compute-optimal large language models" (Chinchilla, arXiv
/// 2203.15556): the parametric fit (approach 3) as printed.
LossLaw chinchilla_law();
/// Besiroglu et al., "Chinchilla scaling: a replication attempt" (arXiv 2404.10102).
LossLaw replicated_law();
/// The standard error of the replication's E.
inline constexpr double kReplicatedStandardError = 0.03;

/// N and D for C FLOPs by one estimate.
struct Allocation {
    std::string estimate;
    double parameters = 0.0;
    double tokens = 0.0;
};

/// Chinchilla's approaches 1, 2 (power laws through the tables' row of 1B parameters) and 3, and
/// the replication, which is last.
std::vector<Allocation> compute_optimal(double flops);

/// A smaller model trained for longer until it is as good as the best one for the same FLOPs.
struct OverTraining {
    double parameters = 0.0;
    double tokens = 0.0;
    double flops = 0.0;
};
std::vector<OverTraining> over_training(double flops);

/// What the best loss may be off by: half of what the two laws differ, and the error of E.
double loss_uncertainty(double parameters, double tokens);

/// A run's end, or a point on its way.
struct LossPoint {
    double parameters = 0.0;
    double tokens = 0.0;
    double loss = 0.0;
};

/// The law nearest to the points: least sum of Huber losses (delta 1e-3) of the logarithms'
/// differences (Hoffmann et al., appendix D.3), from a grid of starts. Throws UsageError for fewer
/// than three sizes or five points.
LossLaw fit_law(std::span<const LossPoint> points);

}  // namespace lathe
