// Files that are whole or not there: written under a temporary name, synced, renamed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace lathe {

/// Writes a file under a temporary name beside `path`; finish() syncs it and gives it its name.
/// Without finish() nothing is left. A full disk is a UsageError, any other failure an Error; both
/// name the file and the system's reason.
class FileWriter {
  public:
    explicit FileWriter(std::filesystem::path path);
    FileWriter(const FileWriter&) = delete;
    FileWriter& operator=(const FileWriter&) = delete;
    ~FileWriter();

    /// Appends.
    void write(const void* data, int64_t size_bytes);
    void write(std::string_view text) { write(text.data(), static_cast<int64_t>(text.size())); }
    /// Writes at an offset from the start; the end of the file is the farthest byte written.
    void write_at(int64_t offset_bytes, const void* data, int64_t size_bytes);
    /// Syncs, renames, and syncs the folder.
    void finish();

  private:
    std::filesystem::path path_;
    std::filesystem::path temporary_;
    int descriptor_ = -1;
    int64_t end_ = 0;
};

/// The whole file as one step.
void write_file(const std::filesystem::path& path, std::string_view text);
/// The file's bytes; throws UsageError naming the file when it cannot be read.
std::string read_file(const std::filesystem::path& path);
/// Makes renames inside the folder durable.
void sync_folder(const std::filesystem::path& folder);

/// A folder that appears whole: fill path(), then finish() syncs and renames it to its final name.
/// Without finish() it is removed. Fails when the final name exists and is not an empty folder.
class FolderWriter {
  public:
    explicit FolderWriter(std::filesystem::path final_path);
    FolderWriter(const FolderWriter&) = delete;
    FolderWriter& operator=(const FolderWriter&) = delete;
    ~FolderWriter();

    const std::filesystem::path& path() const { return temporary_; }
    void finish();

    /// Removes what killed writers left behind in `parent`: everything, or that of one name.
    static void remove_leftovers(const std::filesystem::path& parent, const std::string& name = "");

  private:
    std::filesystem::path final_;
    std::filesystem::path temporary_;
    bool finished_ = false;
};

/// A file mapped into memory, read-only.
class MappedFile {
  public:
    /// Throws UsageError naming the file when it cannot be read.
    explicit MappedFile(const std::filesystem::path& path);
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&&) = delete;
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    ~MappedFile();

    std::span<const std::byte> bytes() const { return bytes_; }
    /// The same bytes as text.
    std::string_view text() const {
        return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
    }

  private:
    std::span<const std::byte> bytes_;
};

/// XXH3 of a file's bytes, as 16 hexadecimal digits.
std::string checksum_file(const std::filesystem::path& path);

}  // namespace lathe
