#include "train/metrics_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/error.h"

namespace lathe {

AppendFile::AppendFile(std::string path, int64_t keep_bytes)
    : path_(std::move(path)), size_bytes_(keep_bytes) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    LATHE_CHECK(descriptor_ >= 0, "{}: cannot be opened for writing: {}", path_,
                std::strerror(errno));
    struct stat status {};
    // A device or a pipe has no length to cut.
    const bool cut = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode) &&
                     status.st_size > keep_bytes;
    if (cut && ::ftruncate(descriptor_, keep_bytes) != 0) {
        const int error = errno;
        ::close(descriptor_);
        fail("{}: cannot be cut to {} bytes: {}", path_, keep_bytes, std::strerror(error));
    }
}

AppendFile::~AppendFile() { ::close(descriptor_); }

void AppendFile::append(std::string_view record) {
    for (size_t written = 0; written < record.size();) {
        const ssize_t count =
            ::write(descriptor_, record.data() + written, record.size() - written);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            const int error = errno;
            // Best effort: readers drop a torn record anyway.
            static_cast<void>(::ftruncate(descriptor_, size_bytes_) == 0);
            fail("{}: cannot be written: {}", path_, std::strerror(error));
        }
        written += static_cast<size_t>(count);
    }
    size_bytes_ += static_cast<int64_t>(record.size());
}

void AppendFile::sync() {
    // Pipes and devices cannot be synced and need not be.
    LATHE_CHECK(::fsync(descriptor_) == 0 || errno == EINVAL || errno == EROFS,
                "{}: cannot be forced to the disk: {}", path_, std::strerror(errno));
}

}  // namespace lathe
