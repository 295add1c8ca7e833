#include "kernels/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "kernels/error.h"

namespace lathe {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPartial = ".partial-";

[[noreturn]] void fail_file(std::string_view what, const fs::path& path, int error) {
    if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
        fail_usage("{} {}: {}; free some space or choose another disk", what, path.string(),
                   std::strerror(error));
    }
    fail("{} {}: {}", what, path.string(), std::strerror(error));
}

fs::path parent_of(const fs::path& path) {
    return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

fs::path partial_name(const fs::path& path) {
    return path.parent_path() /
           fmt::format("{}{}-{}", kPartial, path.filename().string(), getpid());
}

}  // namespace

FileWriter::FileWriter(fs::path path) : path_(std::move(path)), temporary_(partial_name(path_)) {
    descriptor_ = open(temporary_.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    if (descriptor_ < 0) {
        fail_file("cannot create", path_, errno);
    }
}

FileWriter::~FileWriter() {
    if (descriptor_ >= 0) {
        close(descriptor_);
        unlink(temporary_.c_str());
    }
}

void FileWriter::write(const void* data, int64_t size_bytes) { write_at(end_, data, size_bytes); }

void FileWriter::write_at(int64_t offset_bytes, const void* data, int64_t size_bytes) {
    const char* next = static_cast<const char*>(data);
    while (size_bytes > 0) {
        const ssize_t written =
            pwrite(descriptor_, next, static_cast<size_t>(size_bytes), offset_bytes);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            fail_file("cannot write", path_, written == 0 ? ENOSPC : errno);
        }
        next += written;
        offset_bytes += written;
        size_bytes -= written;
    }
    end_ = std::max(end_, offset_bytes);
}

void FileWriter::finish() {
    if (fsync(descriptor_) != 0) {
        fail_file("cannot sync", path_, errno);
    }
    const int closed = close(std::exchange(descriptor_, -1));
    if (closed != 0 || rename(temporary_.c_str(), path_.c_str()) != 0) {
        const int error = errno;
        unlink(temporary_.c_str());
        fail_file("cannot complete", path_, error);
    }
    sync_folder(parent_of(path_));
}

void write_file(const fs::path& path, std::string_view text) {
    FileWriter writer(path);
    writer.write(text);
    writer.finish();
}

std::string read_file(const fs::path& path) {
    std::ifstream stream(path, std::ios::binary);
    LATHE_CHECK_USAGE(stream && !fs::is_directory(path), "cannot read {}: {}", path.string(),
                      fs::is_directory(path) ? "it is a folder" : std::strerror(errno));
    return {std::istreambuf_iterator<char>(stream), {}};
}

void sync_folder(const fs::path& folder) {
    const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
        fail_file("cannot open", folder, errno);
    }
    const int synced = fsync(descriptor);
    const int error = errno;
    close(descriptor);
    if (synced != 0) {
        fail_file("cannot sync", folder, error);
    }
}

FolderWriter::FolderWriter(fs::path final_path)
    // "out/" names the folder "out".
    : final_(final_path.has_filename() ? std::move(final_path) : final_path.parent_path()),
      temporary_(partial_name(final_)) {
    std::error_code error;
    if (fs::exists(final_, error) && !fs::is_empty(final_, error)) {
        fail_usage("{} exists already: name another folder, or remove it", final_.string());
    }
    remove_leftovers(parent_of(final_), final_.filename().string());
    fs::create_directories(temporary_, error);
    LATHE_CHECK_USAGE(!error, "cannot create {}: {}; choose another folder", final_.string(),
                      error.message());
}

FolderWriter::~FolderWriter() {
    if (!finished_) {
        std::error_code ignored;
        fs::remove_all(temporary_, ignored);
    }
}

void FolderWriter::finish() {
    sync_folder(temporary_);
    if (rename(temporary_.c_str(), final_.c_str()) != 0) {
        fail_file("cannot complete", final_, errno);
    }
    finished_ = true;
    sync_folder(parent_of(final_));
}

void FolderWriter::remove_leftovers(const fs::path& parent, const std::string& name) {
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(parent, error)) {
        const std::string found = entry.path().filename().string();
        // A partial name ends in "-" and the writer's process id.
        if (found.starts_with(kPartial) &&
            (name.empty() || found.substr(0, found.rfind('-')) == std::string(kPartial) + name)) {
            fs::remove_all(entry.path(), error);
        }
    }
}

MappedFile::MappedFile(const fs::path& path) {
    const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    LATHE_CHECK_USAGE(descriptor >= 0, "cannot read {}: {}", path.string(), std::strerror(errno));
    struct stat status = {};
    const bool is_file = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    void* data = nullptr;
    const auto size = is_file ? static_cast<size_t>(status.st_size) : 0;
    if (size > 0) {
        data = mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
    }
    const int error = errno;
    close(descriptor);
    LATHE_CHECK_USAGE(is_file, "cannot read {}: it is not a file", path.string());
    LATHE_CHECK_USAGE(data != MAP_FAILED, "cannot map {}: {}", path.string(), std::strerror(error));
    bytes_ = {static_cast<const std::byte*>(data), size};
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile::~MappedFile() {
    if (!bytes_.empty()) {
        munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
    }
}

std::string checksum_file(const fs::path& path) {
    const MappedFile file(path);
    return fmt::format("{:016x}", XXH3_64bits(file.bytes().data(), file.bytes().size()));
}

}  // namespace lathe
