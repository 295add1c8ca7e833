// The two kinds of failure, both exceptions with one clear line of text. `main` turns them into
// exit codes.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace lathe {

/// Something failed at run time (exit code 1).
class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// Bad input: an option, a configuration, a file (exit code 2). The text names the file, the field,
/// its value and the mend.
class UsageError : public Error {
  public:
    using Error::Error;
};

/// Throws Error with a formatted text.
template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
    throw Error(fmt::format(text, std::forward<Args>(args)...));
}

/// Throws UsageError with a formatted text.
template <typename... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> text, Args&&... args) {
    throw UsageError(fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace lathe

/// Throws lathe::Error with the formatted text unless `condition` holds.
#define LATHE_CHECK(condition, ...)     \
    do {                                \
        if (!(condition)) [[unlikely]]  \
            ::lathe::fail(__VA_ARGS__); \
    } while (false)

/// Throws lathe::UsageError with the formatted text unless `condition` holds.
#define LATHE_CHECK_USAGE(condition, ...)     \
    do {                                      \
        if (!(condition)) [[unlikely]]        \
            ::lathe::fail_usage(__VA_ARGS__); \
    } while (false)
