// The command line: which subcommand, and what was wrong with it.
#pragma once

#include <string>

namespace lathe {

inline constexpr int kBadUsage = 2;

/// Prints what ended the program and returns its exit code.
int report(const std::string& text, int code);

/// Parses the arguments and runs the subcommand that they name. Returns the exit code, or throws
/// what the subcommand throws.
int run_command_line(int argc, char** argv);

}  // namespace lathe
