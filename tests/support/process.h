// Runs the built `lathe` as a user would: a process with arguments, output, signals and limits.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace lathe::testing {

struct ProcessResult {
    int exit_code = 0;  ///< 128 + signal when a signal killed it
    std::string out;
    std::string err;
};

/// How a process differs from a plain one.
struct ProcessOptions {
    int64_t file_size_limit_bytes = 0;  ///< not 0: writes beyond fail with EFBIG, as on a full disk
    std::vector<std::string> environment = {};  ///< NAME=value, besides the test's own
    std::string program = LATHE_BINARY;
};

/// A child process whose output goes to files in a folder of its own.
class Process {
  public:
    /// Starts build/.../lathe, or another program, with `arguments`.
    explicit Process(const std::vector<std::string>& arguments, const ProcessOptions& options = {});
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process();

    void signal(int number) const;
    bool running();
    /// Waits for the end.
    ProcessResult wait();

  private:
    TemporaryFolder folder_;
    pid_t pid_ = -1;
    bool ended_ = false;
    int status_ = 0;
};

ProcessResult run_lathe(const std::vector<std::string>& arguments,
                        const ProcessOptions& options = {});

}  // namespace lathe::testing
