// Offloaded memory of the CPU: a file without a name, mapped, whose pages leave memory when a
// window closes.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels/cpu/cpu_backend_impl.h"

namespace lathe::cpu {
namespace {

/// An open file that nothing names any more: it goes with its last mapping, however the process
/// ends.
class NamelessFile {
  public:
    explicit NamelessFile(const std::filesystem::path& folder) {
        // Of the names that are swept up as leftovers, should the process be killed right here.
        std::string name = (folder / ".partial-offload-XXXXXX").string();
        descriptor_ = mkostemp(name.data(), O_CLOEXEC);
        LATHE_CHECK_USAGE(descriptor_ >= 0,
                          "--offload-folder {}: no file can be made there: {}; name a folder that "
                          "can be written",
                          folder.string(), std::strerror(errno));
        unlink(name.c_str());
    }
    NamelessFile(const NamelessFile&) = delete;
    NamelessFile& operator=(const NamelessFile&) = delete;
    ~NamelessFile() { close(descriptor_); }

    int descriptor() const { return descriptor_; }

  private:
    int descriptor_ = -1;
};

/// The pages that hold some of a tensor. A neighbour's part of them comes to no harm: pages of a
/// shared mapping that are dropped keep their contents.
struct Pages {
    explicit Pages(const Tensor& part) {
        const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
        const auto begin = reinterpret_cast<uintptr_t>(part.data());
        const uintptr_t first = begin / page * page;
        const uintptr_t last = (begin + static_cast<uintptr_t>(part.bytes()) + page - 1) / page;
        address = static_cast<std::byte*>(part.data()) - (begin - first);
        bytes = static_cast<size_t>(last * page - first);
    }
    void* address;
    size_t bytes;
};

}  // namespace

void* CpuBackend::allocate_offloaded_bytes(int64_t bytes, const std::filesystem::path& folder) {
    const NamelessFile file(folder);
    int error = 0;
    do {
        error = posix_fallocate(file.descriptor(), 0, bytes);
    } while (error == EINTR);
    LATHE_CHECK(error == 0,
                "{}: a file of {} bytes for offloaded memory cannot be reserved there: {}; free "
                "some space, or name another --offload-folder",
                folder.string(), bytes, std::strerror(error));
    void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED,
                      file.descriptor(), 0);
    LATHE_CHECK(data != MAP_FAILED, "{}: a file of {} bytes cannot be mapped: {}", folder.string(),
                bytes, std::strerror(errno));
    madvise(data, static_cast<size_t>(bytes), MADV_SEQUENTIAL);
    return data;
}

void CpuBackend::free_offloaded_bytes(void* data, int64_t bytes) noexcept {
    munmap(data, static_cast<size_t>(bytes));
}

OffloadWindow CpuBackend::execute_open_offloaded(const Tensor& part, OffloadUse use) {
    if (part.size() > 0) {
        // All pages at once instead of a fault for each; and a disk that fails is an error here,
        // not a SIGBUS later. Linux before 5.14 answers EINVAL and faults them in as they are used.
        const Pages pages(part);
        const int advice = use == OffloadUse::change ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
        LATHE_CHECK(madvise(pages.address, pages.bytes, advice) == 0 || errno == EINVAL,
                    "{} bytes of offloaded memory cannot be brought back from its file: {}",
                    pages.bytes, std::strerror(errno));
    }
    return {.part = part, .use = use, .tensor = part, .staging = {}};
}

void CpuBackend::execute_close_offloaded(OffloadWindow window) {
    if (window.part.size() > 0) {
        // What was changed is in the file's cache, which the kernel writes back and drops as it
        // needs memory (msync(MS_ASYNC) would do nothing on Linux).
        const Pages pages(window.part);
        madvise(pages.address, pages.bytes, MADV_DONTNEED);
    }
}

}  // namespace lathe::cpu
