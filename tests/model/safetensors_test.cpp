#include "model/safetensors.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>

#include "kernels/error.h"
#include "kernels/files.h"
#include "tests/support/temporary_folder.h"

namespace lathe {
namespace {

/// A file's bytes: length, header, data.
std::string file_of(const std::string& header, int64_t data_bytes) {
    std::string bytes(8, '\0');
    const uint64_t length = header.size();
    std::memcpy(bytes.data(), &length, sizeof(length));
    return bytes + header + std::string(static_cast<size_t>(data_bytes), 'x');
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
    return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":{}}})", name, dtype, shape,
                       offsets);
}

class SafetensorsTest : public testing::Test {
  protected:
    void store(const std::string& bytes) {
        // Neither synced nor an old one filled again, which ext4 writes to the disk at once: some
        // tests store thousands.
        std::filesystem::remove(path());
        std::ofstream(path(), std::ios::binary).write(bytes.data(), std::ssize(bytes));
    }
    std::filesystem::path root() const { return folder_.path(); }
    std::filesystem::path path() const { return root() / "file.safetensors"; }

    /// What the reader says of these bytes; empty when it accepts them.
    std::string complaint(const std::string& bytes) {
        store(bytes);
        try {
            const SafetensorsFile file(path());
            EXPECT_EQ(std::as_const(file).path(), path());
        } catch (const UsageError& error) {
            EXPECT_NE(std::string(error.what()).find(path().string()), std::string::npos);
            return error.what();
        }
        return "";
    }

    TemporaryFolder folder_;
};

TEST_F(SafetensorsTest, WrittenInAnyOrderAndInPartsReadsBack) {
    const std::vector<SafetensorsTensor> declared = {{"odd", "BF16", {3}},
                                                     {"wide", "F64", {2, 2}},
                                                     {"empty", "F32", {0, 7}},
                                                     {"scalar", "I32", {}},
                                                     {"narrow", "F32", {5}}};
    const std::vector<double> wide = {1.0, -2.0, 1e300, 0.1};
    const std::vector<float> narrow = {1, 2, 3, 4, 5};
    const std::vector<bf16> odd = {bf16(0.5F), bf16(-1.0F), bf16(3.0F)};
    const int32_t scalar = -7;
    {
        SafetensorsWriter writer(path(), declared, {{"made by", "a \"test\"\n"}});
        writer.write(4, 8, std::as_bytes(std::span(narrow)).subspan(8));
        writer.write(0, 0, std::as_bytes(std::span(odd)));
        writer.write(3, 0, std::as_bytes(std::span(&scalar, 1)));
        writer.write(4, 0, std::as_bytes(std::span(narrow)).first(8));
        EXPECT_FALSE(std::filesystem::exists(path()));
        writer.write(1, 0, std::as_bytes(std::span(wide)));
        writer.finish();
    }
    const SafetensorsFile file(path());
    EXPECT_EQ(file.metadata().at("made by"), "a \"test\"\n");
    ASSERT_EQ(file.tensors().size(), declared.size());
    for (const SafetensorsTensor& tensor : declared) {
        const SafetensorsTensor* found = file.find(tensor.name);
        ASSERT_NE(found, nullptr) << tensor.name;
        EXPECT_EQ(found->dtype, tensor.dtype);
        EXPECT_EQ(found->shape, tensor.shape);
    }
    EXPECT_EQ(std::memcmp(file.find("wide")->data.data(), wide.data(), 32), 0);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(file.find("wide")->data.data()) % 8, 0U);
    EXPECT_EQ(std::memcmp(file.find("scalar")->data.data(), &scalar, 4), 0);
    std::vector<float> values(3);
    read_elements(*file.find("narrow"), 2, values);
    EXPECT_EQ(values, (std::vector<float>{3, 4, 5}));
    read_elements(*file.find("odd"), 0, values);
    EXPECT_EQ(values, (std::vector<float>{0.5F, -1.0F, 3.0F}));
    EXPECT_THROW(read_elements(*file.find("odd"), 1, values), Error);
    EXPECT_THROW(read_elements(*file.find("scalar"), 0, std::span(values).first(1)), UsageError);
    EXPECT_EQ(file.find("absent"), nullptr);
    EXPECT_THROW(file.at("absent", {}), UsageError);
    EXPECT_THROW(file.at("odd", std::vector<int64_t>{4}), UsageError);
}

TEST_F(SafetensorsTest, EveryHalfIsConvertedExactly) {
    std::vector<uint16_t> halves(65536);
    for (size_t i = 0; i < halves.size(); ++i) {
        halves[i] = static_cast<uint16_t>(i);
    }
    const SafetensorsTensor tensor{"all", "F16", {65536}, std::as_bytes(std::span(halves))};
    std::vector<float> values(halves.size());
    read_elements(tensor, 0, values);
    for (size_t i = 0; i < halves.size(); ++i) {
        const int exponent = (halves[i] >> 10) & 31;
        const int mantissa = halves[i] & 1023;
        const float sign = (halves[i] & 0x8000) != 0 ? -1.0F : 1.0F;
        if (exponent == 31 && mantissa != 0) {
            EXPECT_TRUE(std::isnan(values[i])) << i;
            continue;
        }
        float expected = std::ldexp(static_cast<float>(mantissa + (exponent == 0 ? 0 : 1024)),
                                    std::max(exponent, 1) - 25);
        if (exponent == 31) {
            expected = std::numeric_limits<float>::infinity();
        }
        ASSERT_EQ(values[i], sign * expected) << i;
        ASSERT_EQ(std::signbit(values[i]), sign < 0) << i;
    }
}

TEST_F(SafetensorsTest, BrokenFilesAreRefusedWithTheReason) {
    const std::string good = "{" + entry("a", "F32", "[2]", "[0,8]") + "}";
    EXPECT_EQ(complaint(file_of(good, 8)), "");
    EXPECT_EQ(complaint(file_of("{}", 0)), "");
    struct Case {
        std::string bytes;
        std::string expected;
    };
    const auto with = [](const std::string& entries, int64_t data_bytes) {
        return file_of("{" + entries + "}", data_bytes);
    };
    std::string endless = file_of(good, 8);
    std::memset(endless.data(), 0x7f, 8);
    const std::vector<Case> cases = {
        {"", "truncated"},
        {"1234567", "truncated"},
        {endless, "at most 100000000"},
        {file_of(good, 8).substr(0, 30), "truncated"},
        {file_of(good, 7), "truncated"},
        {file_of(good, 9), "1 bytes at the end belong to no tensor"},
        {file_of("{}", 1), "belong to no tensor"},
        {file_of(" " + good, 8), "does not start with '{'"},
        {file_of(good.substr(0, good.size() - 1), 8), "no valid JSON"},
        {file_of("", 0), "does not start with '{'"},
        {with(entry("a", "F32", "[2]", "[0,8]") + "," + entry("a", "F32", "[2]", "[8,16]"), 16),
         "'a' twice"},
        {with(entry("a", "F32", "[2]", "[0,8]") + "," + entry("b", "F32", "[1]", "[4,8]"), 8),
         "overlap"},
        {with(entry("a", "F32", "[1]", "[0,4]") + "," + entry("b", "F32", "[1]", "[8,12]"), 12),
         "hole"},
        {with(entry("a", "F32", "[1]", "[4,8]"), 8), "hole"},
        {with(entry("a", "F33", "[2]", "[0,8]"), 8), "unknown type 'F33'"},
        {with(entry("a", "F32", "[3]", "[0,8]"), 8), "has 8 bytes"},
        {with(entry("a", "F32", "[-2]", "[0,8]"), 8), "shape"},
        {with(entry("a", "F32", "[2.0]", "[0,8]"), 8), "shape"},
        {with(entry("a", "F32", "[4611686018427387905,4]", "[0,4]"), 4), "has 4 bytes"},
        {with(entry("a", "F32", "[2]", "[8,0]"), 8), "at bytes [8,0]"},
        {with(entry("a", "F32", "[2]", "[0,8,9]"), 8), "two data_offsets"},
        {with(R"("a":{"dtype":"F32","shape":[2]})", 8), "two data_offsets"},
        {with(R"("a":7)", 8), "'a' is not described"},
        {with(R"("__metadata__":{"a":1})", 0), "'a' is no string"},
        {with(R"("__metadata__":[])", 0), "no object"}};
    for (const Case& wrong : cases) {
        EXPECT_NE(complaint(wrong.bytes).find(wrong.expected), std::string::npos)
            << wrong.expected << " | " << complaint(wrong.bytes);
    }
    EXPECT_THROW(SafetensorsFile{root() / "absent"}, UsageError);
    EXPECT_THROW(SafetensorsFile{root()}, UsageError);
}

TEST_F(SafetensorsTest, DamageNeverCrashes) {
    const std::string good =
        file_of("{" + entry("a", "F32", "[2,1]", "[0,8]") + "," +
                    entry("b", "F16", "[3]", "[8,14]") + R"(,"__metadata__":{"format":"pt"}})",
                14);
    ASSERT_EQ(complaint(good), "");
    for (size_t length = 0; length < good.size(); ++length) {
        EXPECT_NE(complaint(good.substr(0, length)), "") << length;
    }
    std::mt19937 random(7);
    for (int round = 0; round < 4000; ++round) {
        std::string bytes = good;
        for (unsigned change = 0; change <= random() % 3; ++change) {
            const size_t place = random() % bytes.size();
            switch (random() % 3) {
                case 0:
                    bytes[place] = static_cast<char>(random());
                    break;
                case 1:
                    bytes.erase(place, 1 + random() % 5);
                    break;
                default:
                    bytes.insert(place, 1, R"({}[]",:0123456789-eE)"[random() % 21]);
            }
            if (bytes.empty()) {
                break;
            }
        }
        store(bytes);
        try {
            const SafetensorsFile file(path());
            for (const SafetensorsTensor& tensor : file.tensors()) {
                std::vector<float> values(static_cast<size_t>(tensor.size()));
                read_elements(tensor, 0, values);
            }
        } catch (const UsageError&) {
            continue;
        }
    }
}

TEST_F(SafetensorsTest, AnUnfinishedFileLeavesNothing) {
    const std::vector<float> values(1 << 16);
    {
        SafetensorsWriter writer(path(), {{"a", "F32", {1 << 16}}});
        writer.write(0, 0, std::as_bytes(std::span(values)).first(400));
        EXPECT_THROW(writer.finish(), Error);
        EXPECT_THROW(writer.write(0, (1 << 18) - 4, std::as_bytes(std::span(values)).first(8)),
                     Error);
    }
    EXPECT_TRUE(std::filesystem::is_empty(root()));
    EXPECT_THROW(SafetensorsWriter(path(), {{"a", "F32", {1}}, {"a", "F32", {1}}}), Error);
    EXPECT_THROW(SafetensorsWriter(path(), {{"a", "F31", {1}}}), Error);
    EXPECT_THROW(SafetensorsWriter(root() / "absent" / "file", {}), Error);
    EXPECT_TRUE(std::filesystem::is_empty(root()));
}

TEST_F(SafetensorsTest, AWriteThatDoesNotFitIsAnErrorNamingTheFile) {
    // A limit on the file's size stands for a full disk: the system refuses the write.
    struct rlimit before {};
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit limit = before;
    limit.rlim_cur = 1 << 12;
    const auto handler = signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    std::string text;
    try {
        const std::vector<float> values(1 << 12);
        SafetensorsWriter writer(path(), {{"a", "F32", {1 << 12}}});
        writer.write(0, 0, std::as_bytes(std::span(values)));
        writer.finish();
    } catch (const Error& error) {
        text = error.what();
    }
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    EXPECT_NE(text.find(path().string()), std::string::npos) << text;
    EXPECT_NE(text.find("File too large"), std::string::npos) << text;
    EXPECT_TRUE(std::filesystem::is_empty(root()));
}

}  // namespace
}  // namespace lathe
