// Ledger: the account that the formulas of memory keep.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "parallel/memory_formula.h"

namespace lathe {

/// Bytes in use by purpose, and what they were when their sum was largest.
class Ledger {
  public:
    void take(const char* purpose, int64_t bytes) {
        used_[purpose] += bytes;
        total_ += bytes;
        if (total_ > peak_) {
            peak_ = total_;
            at_peak_ = used_;
        }
    }
    void give(const char* purpose, int64_t bytes) {
        used_[purpose] -= bytes;
        total_ -= bytes;
    }
    /// The account of memory of which a rank keeps `kept_bytes` for the purpose `kept`.
    MemoryShare share(double ideal_bytes, int64_t kept_bytes, const char* kept) const {
        MemoryShare share = {.ideal_bytes = ideal_bytes,
                             .padding_bytes = static_cast<double>(kept_bytes) - ideal_bytes,
                             .staging = {},
                             .peak_bytes = peak_};
        int64_t kept_at_peak = 0;
        for (const auto& [purpose, bytes] : at_peak_) {
            if (purpose == kept) {
                kept_at_peak = bytes;
            } else if (bytes != 0) {
                share.staging.push_back({.name = purpose, .bytes = bytes});
            }
        }
        if (kept_at_peak != kept_bytes) {
            share.staging.push_back({.name = std::string(kept) + " that do not exist at the peak",
                                     .bytes = kept_at_peak - kept_bytes});
        }
        return share;
    }

  private:
    std::map<std::string, int64_t> used_;
    std::map<std::string, int64_t> at_peak_;
    int64_t total_ = 0;
    int64_t peak_ = 0;
};

}  // namespace lathe
