#include "tests/support/process.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

#include "kernels/error.h"
#include "kernels/files.h"

namespace lathe::testing {
namespace fs = std::filesystem;
namespace {

int create(const fs::path& file) {
    const int opened = open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    LATHE_CHECK(opened >= 0, "cannot create {}", file.string());
    return opened;
}

}  // namespace

Process::Process(const std::vector<std::string>& arguments, const ProcessOptions& options) {
    std::vector<std::string> owned = arguments;
    owned.insert(owned.begin(), options.program);
    std::vector<std::string> environment = options.environment;
    std::vector<char*> argv;
    for (std::string& argument : owned) {
        argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    // Before the fork: a process that is killed at once has them too.
    const int out = create(folder_ / "out");
    const int err = create(folder_ / "err");
    pid_ = fork();
    LATHE_CHECK(pid_ >= 0, "cannot fork");
    if (pid_ == 0) {
        if (dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0) {
            _exit(127);
        }
        for (std::string& setting : environment) {
            putenv(setting.data());
        }
        if (options.file_size_limit_bytes > 0) {
            const rlimit limit = {static_cast<rlim_t>(options.file_size_limit_bytes),
                                  static_cast<rlim_t>(options.file_size_limit_bytes)};
            setrlimit(RLIMIT_FSIZE, &limit);
            std::signal(SIGXFSZ, SIG_IGN);
        }
        execv(argv[0], argv.data());
        _exit(127);
    }
    close(out);
    close(err);
}

Process::~Process() {
    if (!ended_) {
        kill(pid_, SIGKILL);
        waitpid(pid_, &status_, 0);
    }
}

void Process::signal(int number) const { kill(pid_, number); }

bool Process::running() {
    if (!ended_ && waitpid(pid_, &status_, WNOHANG) == pid_) {
        ended_ = true;
    }
    return !ended_;
}

ProcessResult Process::wait() {
    if (!ended_) {
        waitpid(pid_, &status_, 0);
        ended_ = true;
    }
    return {.exit_code = WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_),
            .out = read_file(folder_ / "out"),
            .err = read_file(folder_ / "err")};
}

ProcessResult run_lathe(const std::vector<std::string>& arguments, const ProcessOptions& options) {
    return Process(arguments, options).wait();
}

}  // namespace lathe::testing
