#include "parallel/shared_failure.h"

#include <span>

namespace lathe {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text));
}

std::string text_of(const std::vector<std::byte>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// "" for none, else 'u' (UsageError) or 'e', then the text.
std::string encoded(const std::exception_ptr& failure) {
    if (!failure) {
        return "";
    }
    try {
        std::rethrow_exception(failure);
    } catch (const UsageError& error) {
        return std::string("u") + error.what();
    } catch (const std::exception& error) {
        return std::string("e") + error.what();
    } catch (...) {
        return "ean unknown exception";
    }
}

}  // namespace

void SharedFailure::agree(const CollectiveLabel& label) {
    const auto all = world_.all_gather_bytes(bytes_of(encoded(failure_)), label);
    if (failure_) {
        std::rethrow_exception(std::exchange(failure_, nullptr));
    }
    for (size_t rank = 0; rank < all.size(); ++rank) {
        const std::string text = text_of(all[rank]);
        if (text.empty()) {
            continue;
        }
        if (text.front() == 'u') {
            fail_usage("rank {}: {}", rank, text.substr(1));
        }
        fail("rank {}: {}", rank, text.substr(1));
    }
}

void check_equal_on_all_ranks(Communicator& world, const std::string& what,
                              const std::string& text) {
    const auto all = world.all_gather_bytes(bytes_of(text), {.tensor = what, .step = 0});
    for (size_t rank = 0; rank < all.size(); ++rank) {
        const std::string other = text_of(all[rank]);
        const std::string first = text_of(all[0]);
        LATHE_CHECK_USAGE(other == first, "the ranks differ in {}: rank 0 has {}, rank {} has {}",
                          what, first, rank, other);
    }
}

}  // namespace lathe
