// SharedFailure: what goes wrong on one rank becomes an error on all of them, at a point where all
// meet.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "parallel/communicator.h"

namespace lathe {

/// A rank whose part fails goes on taking part in the collectives that the others wait in, and all
/// learn of it in agree().
class SharedFailure {
  public:
    explicit SharedFailure(Communicator& world) : world_(world) {}

    /// Runs `work` unless this rank's part has failed already; an exception is kept.
    template <typename Work>
    void run(Work&& work) {
        if (!failure_) {
            try {
                std::forward<Work>(work)();
            } catch (...) {
                failure_ = std::current_exception();
            }
        }
    }

    /// All ranks: throws where any rank failed, on every rank: one's own exception, or an error (a
    /// UsageError for a UsageError) that names the first rank that failed and its text.
    void agree(const CollectiveLabel& label);

  private:
    Communicator& world_;
    std::exception_ptr failure_;
};

/// All ranks: throws UsageError where `text` is not the same on every rank, naming `what`, the
/// first rank that differs and both texts.
void check_equal_on_all_ranks(Communicator& world, const std::string& what,
                              const std::string& text);

}  // namespace lathe
