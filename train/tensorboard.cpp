#include "train/tensorboard.h"

#include <isa-l/crc.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <fstream>
#include <optional>
#include <vector>

namespace lathe {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr size_t kCrcBytes = 4;
/// No event that this program writes comes near: a longer one is damage.
constexpr uint64_t kLargestEventBytes = 1 << 20;

// Protobuf: a field is a varint key, number << 3 | wire type, and its value.
constexpr uint32_t kVarint = 0;
constexpr uint32_t kFixed64 = 1;
constexpr uint32_t kBytes = 2;
constexpr uint32_t kFixed32 = 5;
constexpr uint32_t key(uint32_t field, uint32_t wire_type) { return field << 3 | wire_type; }

template <typename T>
void append_little_endian(std::string& bytes, T value) {
    static_assert(std::endian::native == std::endian::little);
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_varint(std::string& bytes, uint64_t value) {
    for (; value >= 0x80; value >>= 7) {
        bytes.push_back(static_cast<char>(value | 0x80));
    }
    bytes.push_back(static_cast<char>(value));
}

void append_bytes_field(std::string& bytes, uint32_t field, std::string_view value) {
    append_varint(bytes, key(field, kBytes));
    append_varint(bytes, value.size());
    bytes.append(value);
}

/// Event with wall_time and step; its other fields are appended to it.
std::string begin_event(int64_t step) {
    const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
    std::string event;
    append_varint(event, key(1, kFixed64));
    append_little_endian(event, now.count());
    append_varint(event, key(2, kVarint));
    append_varint(event, static_cast<uint64_t>(step));
    return event;
}

/// crc32c, rotated and shifted as TensorBoard's records have it.
uint32_t masked_crc(std::string_view bytes) {
    // ISA-L takes its input as not const but only reads it, and leaves the inversions to the
    // caller.
    auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
    const uint32_t crc = ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~0U);
    return std::rotr(crc, 15) + 0xa282ead8U;
}

std::string record_of(const std::string& data) {
    std::string record;
    append_little_endian<uint64_t>(record, data.size());
    append_little_endian(record, masked_crc(record));
    record += data;
    append_little_endian(record, masked_crc(data));
    return record;
}

/// The next record's data, or nothing at the end and where it is torn or damaged.
std::optional<std::string> read_record(std::istream& stream) {
    std::string length_bytes(kLengthBytes, '\0');
    uint32_t crc = 0;
    if (!stream.read(length_bytes.data(), kLengthBytes) ||
        !stream.read(reinterpret_cast<char*>(&crc), kCrcBytes) || crc != masked_crc(length_bytes)) {
        return std::nullopt;
    }
    uint64_t length = 0;
    std::memcpy(&length, length_bytes.data(), kLengthBytes);
    if (length > kLargestEventBytes) {
        return std::nullopt;
    }
    std::string data(length, '\0');
    if (!stream.read(data.data(), static_cast<std::streamsize>(length)) ||
        !stream.read(reinterpret_cast<char*>(&crc), kCrcBytes) || crc != masked_crc(data)) {
        return std::nullopt;
    }
    return data;
}

std::optional<uint64_t> read_varint(std::string_view& bytes) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
        const auto byte = static_cast<unsigned char>(bytes.front());
        bytes.remove_prefix(1);
        value |= static_cast<uint64_t>(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return value;
        }
    }
    return std::nullopt;
}

/// The step of an event; protobuf leaves out a step of 0.
int64_t step_of_event(std::string_view event) {
    while (!event.empty()) {
        const auto field = read_varint(event);
        if (!field) {
            return 0;
        }
        uint64_t skipped = 0;
        switch (*field & 7) {
            case kVarint: {
                const auto value = read_varint(event);
                if (*field == key(2, kVarint)) {
                    return static_cast<int64_t>(value.value_or(0));
                }
                break;
            }
            case kFixed64:
                skipped = 8;
                break;
            case kBytes:
                skipped = read_varint(event).value_or(0);
                break;
            case kFixed32:
                skipped = 4;
                break;
            default:
                return 0;
        }
        event.remove_prefix(std::min<uint64_t>(skipped, event.size()));
    }
    return 0;
}

/// Bytes of the whole records at the front of the file whose step is at most `last_step`.
int64_t bytes_to_keep(const std::string& path, int64_t last_step) {
    std::ifstream stream(path, std::ios::binary);
    int64_t kept_bytes = 0;
    while (last_step > 0) {
        const auto event = read_record(stream);
        if (!event || step_of_event(*event) > last_step) {
            break;
        }
        kept_bytes += static_cast<int64_t>(kLengthBytes + 2 * kCrcBytes + event->size());
    }
    return kept_bytes;
}

}  // namespace

EventFile::EventFile(const std::string& path, int64_t last_step)
    : file_(path, bytes_to_keep(path, last_step)) {
    if (file_.size_bytes() == 0) {
        std::string event = begin_event(0);
        append_bytes_field(event, 3, "brain.Event:2");
        file_.append(record_of(event));
    }
}

void EventFile::write(int64_t step, std::span<const Scalar> scalars) {
    std::string summary;
    for (const Scalar& scalar : scalars) {
        std::string value;
        append_bytes_field(value, 1, scalar.tag);
        append_varint(value, key(2, kFixed32));
        append_little_endian(value, static_cast<float>(scalar.value));
        append_bytes_field(summary, 1, value);
    }
    std::string event = begin_event(step);
    append_bytes_field(event, 5, summary);
    file_.append(record_of(event));
}

}  // namespace lathe
