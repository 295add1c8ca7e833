// A job of several processes under scripts/mpirun.sh, as a test watches it: which process is which
// rank, what was told, and whether anything is left behind.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tests/support/process.h"

namespace lathe::testing {

struct JobResult {
    int exit_code = 0;
    double seconds = 0.0;
    bool in_time = true;  ///< else it was killed
    int num_left = 0;     ///< processes of the job that still ran after its end
    std::string errors;
    std::vector<std::string> told;  ///< the lines of standard error that begin with "lathe: "
};

class Job {
  public:
    /// Starts mpirun with `arguments`. `mark` is a text that only this job's command lines hold.
    Job(const std::vector<std::string>& arguments, std::string mark);

    Process& process() { return process_; }
    /// Signals a rank's own process; a rank that does not run is a test failure.
    void signal_rank(int rank, int number) const;
    /// Waits until it ends, at most `bound_s`.
    JobResult wait(double bound_s);

  private:
    std::vector<pid_t> processes() const;

    Process process_;
    std::string mark_;
};

/// Runs a job to its end.
JobResult run_job(const std::vector<std::string>& arguments, const std::string& mark,
                  double bound_s);

}  // namespace lathe::testing
