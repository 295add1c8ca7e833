// Profile: where the time of some steps goes (lathe train --profile).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "kernels/backend.h"
#include "kernels/work_recorder.h"
#include "train/profile_summary.h"

namespace lathe {

struct ProfilePlan {
    int64_t steps = 0;             ///< to record; 0: nothing is ever done
    std::filesystem::path folder;  ///< for profile.rank0.json, profile.rank1.json ...
    int rank = 0;
    int size = 1;
    std::string place;                         ///< who the rank is, in words
    std::function<double()> flops_per_second;  ///< Ceilings
    std::function<double()> bytes_per_second;
    std::function<void(const std::string&)> tell;
};

/// Records some steps of a process and what happens between them; then measures the ceilings,
/// writes the rank's trace and tells the table. Before and after, it does nothing.
class Profile {
  public:
    /// Steps that a process takes before its first recorded one: in them memory is taken,
    /// primitives are made, and what follows what is learnt.
    static constexpr int64_t kStepsBefore = 2;

    Profile(Backend& backend, ProfilePlan plan);
    Profile(const Profile&) = delete;
    Profile& operator=(const Profile&) = delete;
    ~Profile();

    /// A part of the run begins ("step", a literal), which ends the one before.
    void begin(const char* kind, int64_t step);
    /// No further part begins.
    void finish();

  private:
    void start();

    Backend& backend_;
    ProfilePlan plan_;
    std::shared_ptr<WorkRecorder> recorder_;  ///< null before and after
    double zero_s_ = 0.0;
    int64_t steps_begun_ = 0;
    bool done_;
};

}  // namespace lathe
