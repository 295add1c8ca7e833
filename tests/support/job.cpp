#include "tests/support/job.h"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace lathe::testing {
namespace {

using Clock = std::chrono::steady_clock;

std::string content(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Job::Job(const std::vector<std::string>& arguments, std::string mark)
    // What OpenMPI itself never frees is no leak of ours.
    : process_(arguments,
               {.environment = {"ASAN_OPTIONS=detect_leaks=0"}, .program = LATHE_MPIRUN}),
      mark_(std::move(mark)) {}

std::vector<pid_t> Job::processes() const {
    std::vector<pid_t> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const pid_t id = std::atoi(entry.path().filename().c_str());
        if (id > 0 && id != getpid() &&
            content(entry.path() / "cmdline").find(mark_) != std::string::npos) {
            found.push_back(id);
        }
    }
    return found;
}

void Job::signal_rank(int rank, int number) const {
    const std::string variable = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank);
    for (const pid_t id : processes()) {
        const std::string environment = '\0' + content("/proc/" + std::to_string(id) + "/environ");
        if (environment.find('\0' + variable + '\0') != std::string::npos) {
            kill(id, number);
            return;
        }
    }
    ADD_FAILURE() << "rank " << rank << " does not run";
}

JobResult Job::wait(double bound_s) {
    const auto start = Clock::now();
    while (process_.running() && seconds_since(start) < bound_s) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    JobResult result;
    result.in_time = !process_.running();
    if (!result.in_time) {
        process_.signal(SIGKILL);
    }
    const ProcessResult ended = process_.wait();
    const std::vector<pid_t> left = processes();
    result.num_left = static_cast<int>(left.size());
    for (const pid_t id : left) {
        kill(id, SIGKILL);
    }
    result.exit_code = ended.exit_code;
    result.seconds = seconds_since(start);
    result.errors = ended.err;
    std::istringstream lines(ended.err);
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("lathe: ")) {
            result.told.push_back(line);
        }
    }
    return result;
}

JobResult run_job(const std::vector<std::string>& arguments, const std::string& mark,
                  double bound_s) {
    return Job(arguments, mark).wait(bound_s);
}

}  // namespace lathe::testing
