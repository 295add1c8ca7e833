// AppendFile: a file that only grows, by whole records.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lathe {

/// Each append is in the kernel when it returns, so that it survives SIGKILL. A failed append (a
/// full disk) throws Error naming the file and leaves no part of the record behind.
class AppendFile {
  public:
    /// Creates the file, or cuts it to its first `keep_bytes` bytes.
    AppendFile(std::string path, int64_t keep_bytes);
    AppendFile(const AppendFile&) = delete;
    AppendFile& operator=(const AppendFile&) = delete;
    ~AppendFile();

    void append(std::string_view record);
    int64_t size_bytes() const { return size_bytes_; }
    /// Forces everything to the disk.
    void sync();

  private:
    std::string path_;
    int descriptor_ = -1;
    int64_t size_bytes_ = 0;
};

}  // namespace lathe
