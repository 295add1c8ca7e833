#include "data/loader.h"

#include <algorithm>
#include <bit>

#include "kernels/error.h"

namespace lathe {
namespace {

constexpr int kFeistelRounds = 8;

/// The finaliser of SplitMix64 (Steele et al., "Fast splittable pseudorandom number generators",
/// OOPSLA 2014): every input bit flips every output bit with probability near one half.
uint64_t mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
}

}  // namespace

int64_t permuted_index(int64_t index, int64_t size, uint64_t seed, int64_t epoch) {
    LATHE_CHECK(index >= 0 && index < size, "index {} is not in 0..{}", index, size - 1);
    const uint64_t key = mix(mix(seed) ^ static_cast<uint64_t>(epoch));
    const int half_bits =
        std::max(1, (static_cast<int>(std::bit_width(static_cast<uint64_t>(size - 1))) + 1) / 2);
    const uint64_t mask = (uint64_t{1} << half_bits) - 1;
    auto value = static_cast<uint64_t>(index);
    // The network permutes 0 .. 4^half_bits - 1, at most 4 times `size` numbers (or 4), so a walk
    // takes under 4 steps on average.
    do {
        uint64_t left = value >> half_bits;
        uint64_t right = value & mask;
        for (int round = 0; round < kFeistelRounds; ++round) {
            const uint64_t next =
                left ^
                (mix(key + static_cast<uint64_t>(round) * 0xD1342543DE82EF95 + mix(right)) & mask);
            left = right;
            right = next;
        }
        value = (left << half_bits) | right;
    } while (value >= static_cast<uint64_t>(size));
    return static_cast<int64_t>(value);
}

Loader::Loader(const TokenDataset& dataset, int64_t sequence_length, uint64_t seed,
               SampleOrder order)
    : dataset_(&dataset), sequence_length_(sequence_length), seed_(seed), order_(order) {
    LATHE_CHECK_USAGE(sequence_length_ >= 1, "sequence length {} is not positive",
                      sequence_length_);
    num_samples_ = (dataset.num_tokens() - 1) / sequence_length_;
    LATHE_CHECK_USAGE(
        num_samples_ >= 1,
        "{}: {} {} tokens are too few for one sample of sequence length {}, which takes "
        "{}; shorten the sequence or prepare more text",
        dataset.folder().string(), dataset.num_tokens(), dataset.split(), sequence_length_,
        sequence_length_ + 1);
}

int64_t Loader::window(int64_t sample) const {
    LATHE_CHECK(sample >= 0, "sample {} is negative", sample);
    const int64_t index = sample % num_samples_;
    if (order_ == SampleOrder::kSequential) return index;
    return permuted_index(index, num_samples_, seed_, sample / num_samples_);
}

void Loader::fill(int64_t first_sample, int64_t count, std::span<int32_t> tokens,
                  std::span<int32_t> targets) const {
    const auto length = static_cast<size_t>(sequence_length_);
    const size_t expected = static_cast<size_t>(count) * length;
    LATHE_CHECK(tokens.size() == expected && targets.size() == expected,
                "{} samples of {} tokens do not fit {} tokens and {} targets", count,
                sequence_length_, tokens.size(), targets.size());
    for (size_t b = 0; b < static_cast<size_t>(count); ++b) {
        const int64_t begin = window(first_sample + static_cast<int64_t>(b)) * sequence_length_;
        const std::span<int32_t> row = tokens.subspan(b * length, length);
        const std::span<int32_t> next = targets.subspan(b * length, length);
        dataset_->copy(begin, row);
        std::copy(row.begin() + 1, row.end(), next.begin());
        dataset_->copy(begin + sequence_length_, next.last(1));
    }
}

}  // namespace lathe
