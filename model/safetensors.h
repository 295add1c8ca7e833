// The safetensors file format: u64 length of a JSON header, the header {name: {dtype, shape,
// data_offsets}}, the tensors' bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/files.h"

namespace lathe {

/// "F32", "BF16", "F64" or "I32".
std::string_view safetensors_dtype(DType dtype);

/// One tensor of a file. In a SafetensorsFile, `data` stays valid as long as the file object.
struct SafetensorsTensor {
    std::string name;
    std::string dtype;  ///< as the format spells it: F32, BF16, F16, F64, I64, ...
    std::vector<int64_t> shape;
    std::span<const std::byte> data = {};

    int64_t size() const;  ///< elements
};

/// Elements [first, first + values.size()) of an F32, BF16, F16 or F64 tensor as f32 (F64 is
/// rounded to nearest even). Throws UsageError naming the tensor for other types.
void read_elements(const SafetensorsTensor& tensor, int64_t first, std::span<float> values);

/// "[2, 3]"
std::string text_of_shape(std::span<const int64_t> shape);

/// A whole, valid file mapped into memory. The constructor checks everything the format promises
/// (header, types, shapes, sizes, offsets without holes or overlap, unique names, length of the
/// file) and throws UsageError naming the file and what is wrong with it.
class SafetensorsFile {
  public:
    explicit SafetensorsFile(std::filesystem::path path);

    const std::filesystem::path& path() const { return path_; }
    /// In order of their bytes.
    const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }
    /// nullptr when there is none of that name.
    const SafetensorsTensor* find(std::string_view name) const;
    /// As find, but throws UsageError naming the file and the tensor when it is missing, or when
    /// its shape is another.
    const SafetensorsTensor& at(std::string_view name, std::span<const int64_t> shape) const;
    const std::map<std::string, std::string>& metadata() const { return metadata_; }

  private:
    void parse_header();
    void check_places();

    std::filesystem::path path_;
    MappedFile file_;
    std::span<const std::byte> contents_;  ///< what follows the header
    std::vector<SafetensorsTensor> tensors_;
    std::map<std::string, size_t, std::less<>> index_;
    std::map<std::string, std::string> metadata_;
};

/// Writes a file tensor by tensor, in any order and in any ranges: all tensors are declared first,
/// their bytes follow. The file appears under its name only with finish().
class SafetensorsWriter {
  public:
    /// Tensors' `data` is not used. Throws Error naming the file when it cannot be made.
    SafetensorsWriter(std::filesystem::path path, const std::vector<SafetensorsTensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

    /// Bytes of tensor number `tensor` (in the order given to the constructor) from byte `offset`.
    void write(size_t tensor, int64_t offset_bytes, std::span<const std::byte> bytes);
    /// Syncs and renames. Throws Error when bytes were never written.
    void finish();

  private:
    struct Place {
        int64_t offset_bytes = 0;
        int64_t size_bytes = 0;
    };
    std::filesystem::path path_;
    FileWriter file_;
    std::vector<Place> places_;
    int64_t missing_bytes_ = 0;
};

}  // namespace lathe
