// OffloadSlots: the order in which slots of device memory serve windows on offloaded memory. Needs
// no CUDA: `lathe plan` follows it too.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/buffer.h"

namespace lathe::cuda {

/// Three rows are open at once (master weights and two moments): while one lot is worked on, the
/// next is filled and the one before is written back.
inline constexpr size_t kOffloadSlots = 9;

struct OffloadSlot {
    Buffer memory;
    Tensor prefetched;  ///< what it is filled with, to be opened
    bool is_open = false;

    bool is_spare() const { return !is_open && !prefetched; }
};

/// Slot is an OffloadSlot and what its owner keeps of it.
template <typename Slot>
class OffloadSlots {
  public:
    /// The slot that was filled with exactly this part and not opened since, or null.
    Slot* prefetched(const Tensor& part) {
        return find([&](const Slot& slot) {
            return slot.prefetched && slot.prefetched.data() == part.data() &&
                   slot.prefetched.bytes() == part.bytes();
        });
    }
    /// The open slot whose memory this is, or null.
    Slot* open_at(const void* memory) {
        return find([&](const Slot& slot) {
            return slot.is_open && slot.memory.tensor().data() == memory;
        });
    }
    bool has_spare() const {
        return slots_.size() < kOffloadSlots ||
               std::any_of(slots_.begin(), slots_.end(),
                           [](const Slot& slot) { return slot.is_spare(); });
    }
    /// The spare slot that was used longest ago, or a new one while there are few; where there is
    /// none, one that was prefetched, or a new one if all are open.
    Slot& take() {
        const size_t count = slots_.size();
        size_t chosen = count;
        for (const bool spare : {true, false}) {
            for (size_t i = 0; i < count && count >= kOffloadSlots && chosen == count; ++i) {
                const Slot& candidate = slots_[(next_ + i) % count];
                if (spare ? candidate.is_spare() : !candidate.is_open) {
                    chosen = (next_ + i) % count;
                }
            }
        }
        if (chosen == count) {
            slots_.emplace_back();
        }
        next_ = chosen + 1;
        slots_[chosen].prefetched = Tensor();
        return slots_[chosen];
    }
    auto begin() { return slots_.begin(); }
    auto end() { return slots_.end(); }

  private:
    template <typename Predicate>
    Slot* find(Predicate&& predicate) {
        const auto found = std::find_if(slots_.begin(), slots_.end(), predicate);
        return found == slots_.end() ? nullptr : &*found;
    }

    std::vector<Slot> slots_;
    size_t next_ = 0;
};

}  // namespace lathe::cuda
