#include "train/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "kernels/error.h"
#include "kernels/files.h"

namespace lathe {
namespace fs = std::filesystem;
namespace {

constexpr const char* kConfig = "config.toml";
constexpr const char* kCheckpoints = "checkpoints";

/// Fields that a continued run may change: none of them changes what a step computes, but `steps`,
/// which stretches the schedule and is how a run is made longer.
constexpr auto kChangeable = std::to_array<std::string_view>(
    {"output",           "steps",           "validation-every", "validation-sequences",
     "checkpoint-every", "checkpoint-keep", "checkpoint-async", "resume",
     "threads",          "recompute",       "max-bad-steps",    "data",
     "profile",          "profile-steps",   "device",           "preset",
     "zero-stage",       "shard-size",      "bucket-elements",  "prefetch",
     "overlap",          "offload",         "offload-folder",   "collective-timeout"});

void check_same_run(const fs::path& folder, const RunConfig& config) {
    const RunConfig earlier = load_run_config((folder / kConfig).string(), {});
    std::string differences;
    for (const RunField& field : run_fields()) {
        const bool changeable =
            std::find(kChangeable.begin(), kChangeable.end(), field.key) != kChangeable.end();
        if (!changeable && field.get(earlier) != field.get(config)) {
            differences += fmt::format("{}{} = {} (there {})", differences.empty() ? "" : ", ",
                                       field.key, field.get(config), field.get(earlier));
        }
    }
    LATHE_CHECK_USAGE(differences.empty(),
                      "{} holds another run: {}; choose another --output, or the same "
                      "configuration to continue it",
                      folder.string(), differences);
}

}  // namespace

RunFolder::RunFolder(const fs::path& path, const RunConfig& config, bool fresh)
    : path_(path), made_(!fs::exists(path)) {
    create(path_);
    lock_ = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    LATHE_CHECK_USAGE(
        lock_ >= 0 && flock(lock_, LOCK_EX | LOCK_NB) == 0,
        "--output {}: in use by another process ({}); choose another folder or wait for it to end",
        path_.string(), std::strerror(errno));
    FolderWriter::remove_leftovers(path_);
    check_content(config, fresh);
    create(path_ / kCheckpoints);
    FolderWriter::remove_leftovers(path_ / kCheckpoints);
}

void RunFolder::create(const fs::path& folder) const {
    std::error_code error;
    fs::create_directories(folder, error);
    LATHE_CHECK_USAGE(!error, "--output {}: cannot be created: {}", path_.string(),
                      error.message());
}

void RunFolder::check_content(const RunConfig& config, bool fresh) const {
    if (fs::exists(path_ / kConfig)) {
        LATHE_CHECK_USAGE(
            !fresh,
            "--output {}: holds a run already; choose another folder, or --resume auto to go on",
            path_.string());
        check_same_run(path_, config);
        return;
    }
    for (const fs::directory_entry& entry : fs::directory_iterator(path_)) {
        const fs::path name = entry.path().filename();
        LATHE_CHECK_USAGE(name == kCheckpoints ||
                              (name.string().starts_with("log") && name.extension() == ".txt"),
                          "--output {}: holds {}, which is no part of a run; choose another folder",
                          path_.string(), name.string());
    }
}

RunFolder::~RunFolder() {
    std::error_code error;
    if (made_ && !fs::exists(path_ / kConfig, error)) {
        fs::remove_all(path_, error);
    }
    close(lock_);
}

void RunFolder::write_config(const RunConfig& config) const {
    write_file(path_ / kConfig, to_toml(config));
}

}  // namespace lathe
