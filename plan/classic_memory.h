// The classic figures of training memory: bytes a parameter, whole or shared over ranks.
#pragma once

#include <cstdint>
#include <string>

namespace lathe {

/// Bytes that a parameter takes.
struct BytesPerParameter {
    const char* name = "";
    double weights = 0.0;
    double gradients = 0.0;
    double optimizer = 0.0;  ///< Adam's moments, and master weights where the weights are narrower
    double activations = 0.0;  ///< a rule of thumb: they depend on batch and length, not on weights

    double states() const { return weights + gradients + optimizer; }
    double all() const { return states() + activations; }
};

/// f32, bf16 mixed (ZeRO's 2 + 2 + 12), 8-bit.
BytesPerParameter classic_f32();
BytesPerParameter classic_mixed();
BytesPerParameter classic_8bit();

/// Bytes on one of `ranks` ranks for `parameters` at a ZeRO stage (arXiv 1910.02054, table 1); 0 is
/// plain data parallelism. Without activations.
double classic_bytes(const BytesPerParameter& each, double parameters, double ranks, int stage);

/// What Lathe keeps with ordered sums: f32 gradient sums at their owner only, at every stage. In
/// bf16 with f32 master weights, or all in f32. Without activations and staging.
double lathe_bytes(bool mixed, double parameters, double ranks, int stage);

std::string classic_memory_text(double parameters, int64_t ranks);
std::string classic_memory_json(double parameters, int64_t ranks);

}  // namespace lathe
