// How a case is run in the tree of mutants (scripts/mutation): with LATHE_MUTANTS, a list of
// numbers, once as it is, which shows for which mutants it makes a difference, then once for each
// of those, in a process forked here, where inputs and wanted results are at hand. What is found is
// appended to the file LATHE_MUTANTS_LOG, a line each: "differs NUMBER" and "noticed NUMBER HOW".
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/cuda/mutation.h"

namespace lathe::mutation {

/// Mutants that no case has noticed yet.
inline std::vector<int>& living() {
    static std::vector<int> numbers = [] {
        std::istringstream text(std::getenv("LATHE_MUTANTS"));
        std::vector<int> all;
        for (int number = 0; text >> number;) {
            all.push_back(number);
        }
        return all;
    }();
    return numbers;
}

inline void log(const std::string& line) {
    FILE* file = std::fopen(std::getenv("LATHE_MUTANTS_LOG"), "a");
    std::fprintf(file, "%s\n", line.c_str());
    std::fclose(file);
}

inline double processor_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

/// What a process that wrote `output` died of; "" where nothing was noticed.
inline std::string how_noticed(const std::string& output, int status) {
    std::smatch fault;
    if (std::regex_search(output, fault, std::regex("ptxemu[^\\n]*?: ([A-Z][A-Z -]+[A-Z])"))) {
        std::string name = fault[1];
        std::transform(name.begin(), name.end(), name.begin(),
                       [](char c) { return static_cast<char>(std::tolower(c)); });
        return name;
    }
    if (WIFEXITED(status)) {
        return WEXITSTATUS(status) == 0 ? "" : "error";
    }
    const int signal = WTERMSIG(status);
    return signal == SIGTRAP                        ? "wrong result"
           : signal == SIGPROF || signal == SIGALRM ? "did not end"
                                                    : "crash";
}

/// gtest is told to break on a failure, which ends a process.
template <typename Run>
std::string how_noticed(int number, double limit_s, const Run& run) {
    const int output = memfd_create("output", 0);
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        dup2(output, STDOUT_FILENO);
        dup2(output, STDERR_FILENO);
        const auto seconds = static_cast<time_t>(limit_s);
        const itimerval limit = {.it_interval = {},
                                 .it_value = {.tv_sec = seconds + 1, .tv_usec = 0}};
        setitimer(ITIMER_PROF, &limit, nullptr);
        alarm(600);  // for one that waits for ever
        int code = 1;
        try {
            choose(number);
            run();
            code = 0;
        } catch (const std::exception&) {
        }
        _exit(code);
    }
    int status = 0;
    waitpid(child, &status, 0);
    std::string text(1 << 16, '\0');
    const ssize_t size = pread(output, text.data(), text.size(), 0);
    text.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
    close(output);
    return how_noticed(text, status);
}

template <typename Run>
void try_mutants(const Run& run) {
    if (std::getenv("LATHE_MUTANTS") == nullptr) {
        run();
        return;
    }
    if (living().empty()) {
        return;
    }
    const double begin = processor_seconds();
    choose(kRecord);
    run();
    choose(0);
    const double seconds = processor_seconds() - begin;
    const std::vector<int> differences = take_differences();
    std::erase_if(living(), [&](int number) {
        if (differences[static_cast<size_t>(number)] == 0) {
            return false;
        }
        const std::string how = how_noticed(number, 20 + 5 * seconds, run);
        log((how.empty() ? "differs " : "noticed ") + std::to_string(number) + " " + how);
        return !how.empty();
    });
}

}  // namespace lathe::mutation
