#include "train/offload.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <filesystem>

namespace lathe {
namespace {

/// Whether files there take memory themselves.
bool is_in_memory(const std::string& folder) {
    struct statfs status {};
    return statfs(folder.c_str(), &status) == 0 &&
           (status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC);
}

}  // namespace

void check_offload(const RunConfig& config, Backend& backend) {
    if (config.parallel.offload == Offload::none) {
        return;
    }
    const OffloadMemory memory = backend.device().offload;
    LATHE_CHECK_USAGE(memory != OffloadMemory::none,
                      "--offload optimizer: the device {} has no memory beside its own; use "
                      "--offload none, or --device cpu",
                      backend.device().kind);
    const std::string& folder = config.parallel.offload_folder;
    if (folder.empty()) {
        return;
    }
    LATHE_CHECK_USAGE(memory == OffloadMemory::files,
                      "--offload-folder {}: the device {} offloads to pinned host memory, not to "
                      "files; leave it out",
                      folder, backend.device().kind);
    std::error_code error;
    LATHE_CHECK_USAGE(std::filesystem::is_directory(folder, error),
                      "--offload-folder {}: no such folder; name one that exists, or leave it out "
                      "to use the run folder",
                      folder);
    backend.allocate_offloaded({1}, DType::f32, folder);
}

ParallelConfig with_offload_folder(const RunConfig& config) {
    ParallelConfig parallel = config.parallel;
    if (parallel.offload_folder.empty()) {
        parallel.offload_folder = config.train.output;
    }
    return parallel;
}

std::string offload_text(const RunConfig& config, const Backend& backend) {
    const int64_t bytes =
        backend.memory().current_bytes[static_cast<size_t>(MemoryCategory::offloaded)];
    const std::string text = fmt::format("optimizer state offloaded: {:.1f} MiB of this rank in ",
                                         static_cast<double>(bytes) / 1048576.0);
    if (backend.device().offload == OffloadMemory::pinned) {
        return text + "pinned host memory";
    }
    const std::string folder = with_offload_folder(config).offload_folder;
    return fmt::format("{}{}{}", text, folder,
                       is_in_memory(folder) ? ", whose files take memory themselves: name a folder "
                                              "on a disk by --offload-folder"
                                            : "");
}

}  // namespace lathe
