#include "model/safetensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <utility>

#include "kernels/error.h"

namespace lathe {
namespace {

using Json = nlohmann::json;

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr int64_t kMaxHeaderBytes = 100'000'000;
constexpr int64_t kHeaderAlignment = 8;
constexpr int64_t kMaxBytes = std::numeric_limits<int64_t>::max();

/// Bytes of one element, or 0 for a type that the format does not know.
int64_t element_bytes(std::string_view dtype) {
    struct Entry {
        std::string_view name;
        int64_t bytes;
    };
    static constexpr std::array<Entry, 15> kTypes = {{{"BOOL", 1},
                                                      {"U8", 1},
                                                      {"I8", 1},
                                                      {"F8_E5M2", 1},
                                                      {"F8_E4M3", 1},
                                                      {"I16", 2},
                                                      {"U16", 2},
                                                      {"F16", 2},
                                                      {"BF16", 2},
                                                      {"I32", 4},
                                                      {"U32", 4},
                                                      {"F32", 4},
                                                      {"I64", 8},
                                                      {"U64", 8},
                                                      {"F64", 8}}};
    for (const Entry& entry : kTypes) {
        if (entry.name == dtype) {
            return entry.bytes;
        }
    }
    return 0;
}

/// Product of extents and element size, or -1 when it does not fit 63 bits.
int64_t checked_bytes(std::span<const int64_t> shape, int64_t bytes_per_element) {
    if (std::ranges::find(shape, 0) != shape.end()) {
        return 0;
    }
    int64_t product = bytes_per_element;
    for (const int64_t extent : shape) {
        if (product > kMaxBytes / extent) {
            return -1;
        }
        product *= extent;
    }
    return product;
}

float half_to_float(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000U) << 16;
    const uint32_t exponent = (half >> 10) & 0x1fU;
    const uint32_t mantissa = half & 0x3ffU;
    if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in f32
        const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
        return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
    }
    const uint32_t wide_exponent = exponent == 0x1f ? 0xffU : exponent + (127 - 15);
    return std::bit_cast<float>(sign | (wide_exponent << 23) | (mantissa << 13));
}

/// Elements `first`... of unaligned bytes, each converted to f32.
template <typename Stored, typename Convert>
void convert_elements(const std::byte* data, int64_t first, std::span<float> values,
                      Convert convert) {
    const std::byte* source = data + first * static_cast<int64_t>(sizeof(Stored));
    for (float& value : values) {
        Stored stored;
        std::memcpy(&stored, source, sizeof(Stored));
        source += sizeof(Stored);
        value = convert(stored);
    }
}

/// Parses JSON, refusing a key that stands twice in one object.
Json parse_unique(const std::filesystem::path& path, std::string_view text) {
    std::vector<std::set<std::string>> keys;
    const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
        if (event == Json::parse_event_t::object_start) {
            keys.emplace_back();
        } else if (event == Json::parse_event_t::object_end) {
            keys.pop_back();
        } else if (event == Json::parse_event_t::key) {
            LATHE_CHECK_USAGE(keys.back().insert(parsed.get<std::string>()).second,
                              "{}: the header names '{}' twice", path.string(),
                              parsed.get<std::string>());
        }
        return true;
    };
    try {
        return Json::parse(text, watch);
    } catch (const Json::exception& error) {
        fail_usage("{}: the header is no valid JSON ({}); the file is corrupt", path.string(),
                   error.what());
    }
}

/// A non-negative integer of 63 bits, or -1.
int64_t natural_number(const Json& value) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(kMaxBytes)) {
        return -1;
    }
    return value.get<int64_t>();
}

/// One entry of the header, its bytes being a part of `contents`.
SafetensorsTensor parse_tensor(const std::filesystem::path& path,
                               std::span<const std::byte> contents, const std::string& name,
                               const Json& entry) {
    LATHE_CHECK_USAGE(entry.is_object() && entry.size() == 3 && entry.contains("dtype") &&
                          entry["dtype"].is_string() && entry.contains("shape") &&
                          entry["shape"].is_array() && entry.contains("data_offsets") &&
                          entry["data_offsets"].is_array() && entry["data_offsets"].size() == 2,
                      "{}: tensor '{}' is not described by dtype, shape and two data_offsets",
                      path.string(), name);
    SafetensorsTensor tensor{name, entry["dtype"].get<std::string>(), {}, {}};
    for (const Json& extent : entry["shape"]) {
        tensor.shape.push_back(natural_number(extent));
        LATHE_CHECK_USAGE(tensor.shape.back() >= 0, "{}: tensor '{}' has a shape of {}",
                          path.string(), name, entry["shape"].dump());
    }
    const int64_t begin = natural_number(entry["data_offsets"][0]);
    const int64_t end = natural_number(entry["data_offsets"][1]);
    LATHE_CHECK_USAGE(begin >= 0 && begin <= end && end <= std::ssize(contents),
                      "{}: tensor '{}' is at bytes {} of {}; the file is truncated or corrupt",
                      path.string(), name, entry["data_offsets"].dump(), contents.size());
    const int64_t bytes_per_element = element_bytes(tensor.dtype);
    LATHE_CHECK_USAGE(bytes_per_element > 0, "{}: tensor '{}' has the unknown type '{}'",
                      path.string(), name, tensor.dtype);
    LATHE_CHECK_USAGE(checked_bytes(tensor.shape, bytes_per_element) == end - begin,
                      "{}: tensor '{}' of type {} and shape {} has {} bytes", path.string(), name,
                      tensor.dtype, text_of_shape(tensor.shape), end - begin);
    tensor.data = contents.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    return tensor;
}

}  // namespace

std::string_view safetensors_dtype(DType dtype) {
    switch (dtype) {
        case DType::f32:
            return "F32";
        case DType::bf16:
            return "BF16";
        case DType::f64:
            return "F64";
        case DType::i32:
            return "I32";
    }
    return "?";
}

int64_t SafetensorsTensor::size() const {
    return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

std::string text_of_shape(std::span<const int64_t> shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
}

void read_elements(const SafetensorsTensor& tensor, int64_t first, std::span<float> values) {
    LATHE_CHECK(first >= 0 && first + std::ssize(values) <= tensor.size(),
                "elements [{}, {}) of tensor '{}', which has {}", first, first + std::ssize(values),
                tensor.name, tensor.size());
    const std::byte* data = tensor.data.data();
    if (values.empty()) {
        return;
    }
    if (tensor.dtype == "F32") {
        std::memcpy(values.data(), data + first * 4, values.size_bytes());
    } else if (tensor.dtype == "BF16") {
        convert_elements<uint16_t>(data, first, values, [](uint16_t bits) {
            return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
        });
    } else if (tensor.dtype == "F16") {
        convert_elements<uint16_t>(data, first, values, half_to_float);
    } else if (tensor.dtype == "F64") {
        convert_elements<double>(data, first, values,
                                 [](double value) { return static_cast<float>(value); });
    } else {
        fail_usage("tensor '{}' has type {}; weights are F32, BF16, F16 or F64", tensor.name,
                   tensor.dtype);
    }
}

SafetensorsFile::SafetensorsFile(std::filesystem::path path)
    : path_(std::move(path)), file_(path_) {
    parse_header();
    check_places();
}

void SafetensorsFile::parse_header() {
    const std::span<const std::byte> bytes = file_.bytes();
    uint64_t header_bytes = 0;
    LATHE_CHECK_USAGE(bytes.size() >= sizeof(header_bytes),
                      "{}: has {} bytes, too few for a safetensors file; it is truncated",
                      path_.string(), bytes.size());
    std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
    LATHE_CHECK_USAGE(header_bytes <= static_cast<uint64_t>(kMaxHeaderBytes),
                      "{}: says its header has {} bytes (at most {}); it is no safetensors file",
                      path_.string(), header_bytes, kMaxHeaderBytes);
    LATHE_CHECK_USAGE(8 + header_bytes <= bytes.size(),
                      "{}: has {} bytes, but its header alone has {}; it is truncated",
                      path_.string(), bytes.size(), header_bytes);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header_bytes);
    LATHE_CHECK_USAGE(text.starts_with('{'), "{}: the header does not start with '{{'",
                      path_.string());
    contents_ = bytes.subspan(8 + header_bytes);
    const Json header = parse_unique(path_, text);
    for (const auto& [name, entry] : header.items()) {
        if (name != "__metadata__") {
            tensors_.push_back(parse_tensor(path_, contents_, name, entry));
            continue;
        }
        LATHE_CHECK_USAGE(entry.is_object(), "{}: __metadata__ is no object", path_.string());
        for (const auto& [key, value] : entry.items()) {
            LATHE_CHECK_USAGE(value.is_string(), "{}: __metadata__ '{}' is no string",
                              path_.string(), key);
            metadata_[key] = value.get<std::string>();
        }
    }
}

void SafetensorsFile::check_places() {
    // Empty tensors sort before the one that starts at their place.
    std::ranges::stable_sort(tensors_, {}, [](const SafetensorsTensor& tensor) {
        return std::pair(tensor.data.data(), tensor.data.size());
    });
    int64_t expected = 0;
    for (size_t i = 0; i < tensors_.size(); ++i) {
        const SafetensorsTensor& tensor = tensors_[i];
        const int64_t begin = tensor.data.data() - contents_.data();
        LATHE_CHECK_USAGE(begin == expected,
                          "{}: tensor '{}' starts at byte {} of the data instead of {}: tensors "
                          "overlap or leave a hole",
                          path_.string(), tensor.name, begin, expected);
        expected += std::ssize(tensor.data);
        index_.emplace(tensor.name, i);
    }
    LATHE_CHECK_USAGE(expected == std::ssize(contents_),
                      "{}: {} bytes at the end belong to no tensor", path_.string(),
                      std::ssize(contents_) - expected);
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &tensors_[found->second];
}

const SafetensorsTensor& SafetensorsFile::at(std::string_view name,
                                             std::span<const int64_t> shape) const {
    const SafetensorsTensor* tensor = find(name);
    LATHE_CHECK_USAGE(tensor != nullptr, "{}: has no tensor '{}'", path_.string(), name);
    LATHE_CHECK_USAGE(std::ranges::equal(tensor->shape, shape),
                      "{}: tensor '{}' has shape {}, not {}", path_.string(), name,
                      text_of_shape(tensor->shape), text_of_shape(shape));
    return *tensor;
}

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path,
                                     const std::vector<SafetensorsTensor>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : path_(std::move(path)), file_(path_), places_(tensors.size()) {
    // Wide elements first: every tensor is then aligned to its element.
    std::vector<size_t> order(tensors.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::stable_sort(order, std::ranges::greater(),
                             [&](size_t i) { return element_bytes(tensors[i].dtype); });
    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    if (!metadata.empty()) {
        header["__metadata__"] = metadata;
    }
    int64_t data_bytes = 0;
    std::set<std::string_view> names = {"__metadata__"};
    for (const size_t i : order) {
        const SafetensorsTensor& tensor = tensors[i];
        const int64_t bytes = checked_bytes(tensor.shape, element_bytes(tensor.dtype));
        LATHE_CHECK(
            element_bytes(tensor.dtype) > 0 && bytes >= 0 && names.insert(tensor.name).second,
            "{}: tensor '{}' of type '{}' and shape {} cannot be declared", path_.string(),
            tensor.name, tensor.dtype, text_of_shape(tensor.shape));
        places_[i] = {data_bytes, bytes};
        data_bytes += bytes;
        auto& entry = header[tensor.name];
        entry["dtype"] = tensor.dtype;
        entry["shape"] = tensor.shape;
        entry["data_offsets"] = {places_[i].offset_bytes, data_bytes};
    }
    std::string text = header.dump();
    text.resize((text.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment, ' ');
    LATHE_CHECK(std::ssize(text) <= kMaxHeaderBytes, "{}: the header has {} bytes, at most {}",
                path_.string(), text.size(), kMaxHeaderBytes);
    const auto header_bytes = static_cast<uint64_t>(text.size());
    file_.write(&header_bytes, sizeof(header_bytes));
    file_.write(text);
    for (Place& place : places_) {
        place.offset_bytes += 8 + std::ssize(text);
    }
    missing_bytes_ = data_bytes;
}

void SafetensorsWriter::write(size_t tensor, int64_t offset_bytes,
                              std::span<const std::byte> bytes) {
    const Place& place = places_.at(tensor);
    LATHE_CHECK(offset_bytes >= 0 && offset_bytes <= place.size_bytes - std::ssize(bytes),
                "{}: {} bytes at {} do not fit tensor number {} of {} bytes", path_.string(),
                bytes.size(), offset_bytes, tensor, place.size_bytes);
    file_.write_at(place.offset_bytes + offset_bytes, bytes.data(), std::ssize(bytes));
    missing_bytes_ -= std::ssize(bytes);
}

void SafetensorsWriter::finish() {
    LATHE_CHECK(missing_bytes_ == 0, "{}: {} bytes were never written", path_.string(),
                missing_bytes_);
    file_.finish();
}

}  // namespace lathe
