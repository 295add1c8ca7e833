// The check of expected errors.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "kernels/error.h"
#include "kernels/files.h"
#include "tests/support/temporary_folder.h"

namespace lathe {

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
