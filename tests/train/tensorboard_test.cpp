#include "train/tensorboard.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <vector>

#include "kernels/files.h"
#include "tests/support/temporary_folder.h"
#include "train/metrics.h"

namespace lathe {
namespace {

/// crc32c bit by bit, from its definition (polynomial 0x1edc6f41, reflected): independent of the
/// library that the writer uses.
uint32_t bitwise_crc32c(const std::string& bytes) {
    uint32_t crc = ~0U;
    for (const char byte : bytes) {
        crc ^= static_cast<unsigned char>(byte);
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78U : 0U);
        }
    }
    return ~crc;
}

uint32_t masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8U; }

template <typename T>
T number_at(const std::string& bytes, size_t offset) {
    T value{};
    EXPECT_LE(offset + sizeof value, bytes.size());
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

/// The data of all records; checks lengths and checksums on the way.
std::vector<std::string> records_of(const std::string& file) {
    const std::string bytes = read_file(file);
    std::vector<std::string> records;
    for (size_t offset = 0; offset < bytes.size();) {
        const auto length = number_at<uint64_t>(bytes, offset);
        EXPECT_EQ(number_at<uint32_t>(bytes, offset + 8),
                  masked(bitwise_crc32c(bytes.substr(offset, 8))));
        const std::string data = bytes.substr(offset + 12, length);
        EXPECT_EQ(data.size(), length);
        EXPECT_EQ(number_at<uint32_t>(bytes, offset + 12 + length), masked(bitwise_crc32c(data)));
        records.push_back(data);
        offset += length + 16;
    }
    return records;
}

/// A message's fields by number: numbers as they are, strings and messages as bytes.
struct Message {
    std::map<uint32_t, uint64_t> numbers;
    std::multimap<uint32_t, std::string> bytes;
};

uint64_t take_varint(const std::string& text, size_t& at) {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        const auto byte = static_cast<unsigned char>(text.at(at++));
        value |= static_cast<uint64_t>(byte & 127) << shift;
        if (byte < 128) {
            return value;
        }
    }
}

Message parse(const std::string& text) {
    Message message;
    for (size_t at = 0; at < text.size();) {
        const uint64_t key = take_varint(text, at);
        const auto field = static_cast<uint32_t>(key >> 3);
        switch (key & 7) {
            case 0:
                message.numbers[field] = take_varint(text, at);
                break;
            case 1:
                message.numbers[field] = number_at<uint64_t>(text, at);
                at += 8;
                break;
            case 5:
                message.numbers[field] = number_at<uint32_t>(text, at);
                at += 4;
                break;
            case 2: {
                const uint64_t length = take_varint(text, at);
                message.bytes.emplace(field, text.substr(at, length));
                at += length;
                break;
            }
            default:
                ADD_FAILURE() << "wire type " << (key & 7);
                return message;
        }
    }
    return message;
}

struct ReadEvent {
    int64_t step = 0;
    std::map<std::string, float> scalars;
};

ReadEvent read_event(const std::string& data) {
    const Message event = parse(data);
    ReadEvent read;
    read.step = static_cast<int64_t>(event.numbers.at(2));
    for (const auto& [field, value] : parse(event.bytes.find(5)->second).bytes) {
        EXPECT_EQ(field, 1U);
        const Message scalar = parse(value);
        const auto bits = static_cast<uint32_t>(scalar.numbers.at(2));
        read.scalars[scalar.bytes.find(1)->second] = std::bit_cast<float>(bits);
    }
    return read;
}

std::vector<int64_t> steps_of(const std::string& file) {
    const auto records = records_of(file);
    std::vector<int64_t> steps;
    for (size_t i = 1; i < records.size(); ++i) {
        steps.push_back(read_event(records[i]).step);
    }
    return steps;
}

void write_steps(const std::string& file, int64_t last_step, int64_t end) {
    EventFile events(file, last_step);
    for (int64_t step = last_step + 1; step <= end; ++step) {
        const Scalar scalars[] = {{"loss", 10.0 / static_cast<double>(step)}};
        events.write(step, scalars);
    }
}

TEST(EventFile, BeginsWithTheVersionThatTensorBoardWants) {
    const TemporaryFolder folder;
    write_steps(folder.file("events"), 0, 0);
    const auto records = records_of(folder.file("events"));
    ASSERT_EQ(records.size(), 1U);
    const Message event = parse(records[0]);
    EXPECT_EQ(event.bytes.find(3)->second, "brain.Event:2");
    // Seconds since 1970, as a double: after 2020 and before 2100.
    const auto wall_time = std::bit_cast<double>(event.numbers.at(1));
    EXPECT_GT(wall_time, 1.57e9);
    EXPECT_LT(wall_time, 4.1e9);
}

TEST(EventFile, KeepsTagsStepsAndValues) {
    const TemporaryFolder folder;
    const std::string file = folder.file("events");
    const int64_t large_step = (int64_t{1} << 40) + 3;
    const std::string long_tag(300, 't');
    {
        EventFile events(file, 0);
        const Scalar scalars[] = {
            {"loss", 0.1}, {"nan", std::numeric_limits<double>::quiet_NaN()}, {long_tag, -1e300}};
        events.write(large_step, scalars);
    }
    const auto records = records_of(file);
    ASSERT_EQ(records.size(), 2U);
    const ReadEvent event = read_event(records[1]);
    EXPECT_EQ(event.step, large_step);
    EXPECT_EQ(event.scalars.at("loss"), 0.1F);
    EXPECT_TRUE(std::isnan(event.scalars.at("nan")));
    EXPECT_EQ(event.scalars.at(long_tag), -std::numeric_limits<float>::infinity());
}

TEST(EventFile, ResumingCutsBackToTheCheckpointsStep) {
    for (const int64_t last_step : {0, 1, 4, 5, 9}) {
        const TemporaryFolder folder;
        const std::string file = folder.file("events");
        write_steps(file, 0, 5);
        write_steps(file, last_step, last_step + 1);
        std::vector<int64_t> expected;
        for (int64_t step = 1; step <= std::min<int64_t>(last_step, 5); ++step) {
            expected.push_back(step);
        }
        expected.push_back(last_step + 1);
        EXPECT_EQ(steps_of(file), expected);
    }
}

TEST(EventFile, TornOrDamagedRecordsAreCutOff) {
    const TemporaryFolder folder;
    const std::string file = folder.file("events");
    write_steps(file, 0, 3);
    const std::string whole = read_file(file);
    const size_t last_record = whole.size() - (records_of(file).back().size() + 16);
    for (size_t size = last_record; size < whole.size(); ++size) {
        write_file(file, whole.substr(0, size));
        write_steps(file, 3, 4);
        EXPECT_EQ(steps_of(file), (std::vector<int64_t>{1, 2, 4})) << "torn after " << size;

        std::string damaged = whole;
        damaged[size] = static_cast<char>(damaged[size] ^ 0x40);
        write_file(file, damaged);
        write_steps(file, 3, 4);
        EXPECT_EQ(steps_of(file), (std::vector<int64_t>{1, 2, 4})) << "damaged at " << size;
    }
    write_file(file, "this is no event file at all");
    write_steps(file, 3, 4);
    EXPECT_EQ(steps_of(file), (std::vector<int64_t>{4}));
}

TEST(EventFile, MetricsLogWritesEveryScalar) {
    const TemporaryFolder folder;
    StepMetrics metrics;
    metrics.step = 7;
    metrics.loss = 2.5;
    metrics.learning_rate = 1e-3;
    metrics.gradient_norm = 0.75;
    metrics.tokens_per_second = 1000.0;
    metrics.utilization = 0.5;
    metrics.exposed_communication_s = 0.25;
    metrics.sent_bytes = 4096;
    metrics.validation_loss = 3.0;
    metrics.bits_per_byte = 1.5;
    MemorySpread spread;
    spread.categories[0] = {.min_bytes = 1024, .max_bytes = 4096};
    spread.total = {.min_bytes = 2048, .max_bytes = 8192};
    {
        MetricsLog log(folder.path(), 0);
        log.write(metrics);
        log.write_memory(7, spread);
    }
    const auto records = records_of(folder.file(MetricsLog::kEventFileName));
    ASSERT_EQ(records.size(), 3U);
    const std::map<std::string, float> expected = {
        {"loss", 2.5F},          {"learning_rate", 1e-3F},           {"gradient_norm", 0.75F},
        {"utilization", 0.5F},   {"tokens_per_second", 1000.0F},     {"validation_loss", 3.0F},
        {"bits_per_byte", 1.5F}, {"exposed_communication_s", 0.25F}, {"sent_bytes", 4096.0F}};
    EXPECT_EQ(read_event(records[1]).scalars, expected);
    const ReadEvent memory = read_event(records[2]);
    EXPECT_EQ(memory.step, 7);
    EXPECT_EQ(memory.scalars.size(), 2 * (1U + kNumMemoryCategories));
    EXPECT_EQ(memory.scalars.at("memory/parameters/min"), 1024.0F);
    EXPECT_EQ(memory.scalars.at("memory/parameters/max"), 4096.0F);
    EXPECT_EQ(memory.scalars.at("memory/total/max"), 8192.0F);
}

}  // namespace
}  // namespace lathe
