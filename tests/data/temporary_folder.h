// A folder for one test, removed at its end, and the check of expected errors.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "kernels/error.h"
#include "kernels/files.h"

namespace lathe {

class TemporaryFolder {
  public:
    TemporaryFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "lathe-XXXXXX").string();
        LATHE_CHECK(::mkdtemp(name.data()) != nullptr, "cannot make a temporary folder");
        path_ = name;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    const std::filesystem::path& path() const { return path_; }
    std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

  private:
    std::filesystem::path path_;
};

/// Checks that `call` throws UsageError with one line of text that holds each of `parts`.
template <typename Call>
void expect_usage_error(Call&& call, std::initializer_list<std::string_view> parts) {
    try {
        call();
        ADD_FAILURE() << "no UsageError";
    } catch (const UsageError& error) {
        const std::string text = error.what();
        EXPECT_EQ(text.find('\n'), std::string::npos) << text;
        for (const std::string_view part : parts) {
            EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
        }
    }
}

}  // namespace lathe
