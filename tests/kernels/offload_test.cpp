// Offloaded memory of the CPU: what is written stays, little of it is resident, no file is left,
// and a full disk is an error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/data/file_size_limit.h"
#include "tests/support/expect_error.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;

/// Bytes of mapped files (on disk or in memory) that this process holds in memory.
int64_t resident_file_bytes() {
    std::ifstream file("/proc/self/status");
    int64_t sum = 0;
    for (std::string word; file >> word;) {
        int64_t kibibytes = 0;
        if ((word == "RssFile:" || word == "RssShmem:") && file >> kibibytes) {
            sum += kibibytes * 1024;
        }
    }
    return sum;
}

bool is_empty(const TemporaryFolder& folder) { return fs::is_empty(folder.path()); }

class Offload : public testing::Test {
  protected:
    /// Adds 1 to each element of `row`, `window` elements at a time; returns the most bytes of it
    /// that were resident.
    int64_t increment(const Tensor& row, int64_t window) {
        const int64_t before = resident_file_bytes();
        int64_t most = 0;
        for (int64_t begin = 0; begin < row.size(); begin += window) {
            const Tensor part = row.slice(begin, std::min(begin + window, row.size()));
            OffloadWindow opened = backend_->open_offloaded(part, OffloadUse::change);
            float* const values = opened.tensor.as<float>();
            std::for_each(values, values + part.size(), [](float& x) { x += 1.0F; });
            most = std::max(most, resident_file_bytes() - before);
            backend_->close_offloaded(std::move(opened));
        }
        return most;
    }

    std::vector<float> read(const Tensor& row) {
        std::vector<float> values(static_cast<size_t>(row.size()));
        OffloadWindow opened = backend_->open_offloaded(row, OffloadUse::read);
        backend_->copy_to_host(values.data(), opened.tensor);
        backend_->close_offloaded(std::move(opened));
        return values;
    }

    TemporaryFolder folder_;
    std::unique_ptr<Backend> backend_ = make_cpu_backend(1);
};

TEST_F(Offload, KeepsWhatIsWrittenThroughWindowsOfAnySize) {
    constexpr int64_t kSize = 100003;
    const Buffer row = backend_->allocate_offloaded({kSize}, DType::f32, folder_.path());
    OffloadWindow whole = backend_->open_offloaded(row, OffloadUse::change);
    std::iota(whole.tensor.as<float>(), whole.tensor.as<float>() + kSize, 0.0F);
    backend_->close_offloaded(std::move(whole));
    for (const int64_t window : {int64_t{777}, int64_t{4096}, int64_t{40000}, kSize}) {
        increment(row, window);
    }
    std::vector<float> expected(kSize);
    std::iota(expected.begin(), expected.end(), 4.0F);
    EXPECT_EQ(read(row), expected);
}

TEST_F(Offload, OnlyWhatIsOpenIsResident) {
    constexpr int64_t kWindowBytes = int64_t{4} << 20;
    const Buffer row =
        backend_->allocate_offloaded({int64_t{16} << 20}, DType::f32, folder_.path());
    for (int pass = 0; pass < 2; ++pass) {
        // Some of the program's own pages may come in meanwhile.
        EXPECT_LT(increment(row, kWindowBytes / 4), 2 * kWindowBytes) << "of 64 MiB";
    }
}

TEST_F(Offload, IsCountedBesideTheDevicesMemory) {
    const auto index = static_cast<size_t>(MemoryCategory::offloaded);
    {
        const Buffer row = backend_->allocate_offloaded({1000}, DType::f32, folder_.path());
        EXPECT_EQ(reinterpret_cast<uintptr_t>(row.tensor().data()) % 256, 0U);
        EXPECT_EQ(backend_->memory().current_bytes[index], 4000);
        EXPECT_EQ(backend_->memory().total_bytes, 0);
        EXPECT_TRUE(is_empty(folder_)) << "the file has no name";
        const Buffer none = backend_->allocate_offloaded({0}, DType::f32, folder_.path());
        EXPECT_TRUE(none);
    }
    EXPECT_EQ(backend_->memory().current_bytes[index], 0);
    EXPECT_EQ(backend_->memory().peak_bytes[index], 4000);
    EXPECT_EQ(backend_->memory().total_peak_bytes, 0);
}

TEST_F(Offload, AFullDiskIsOneErrorBeforeAnythingIsWritten) {
    const FileSizeLimit limit(1 << 20);
    try {
        backend_->allocate_offloaded({int64_t{1} << 20}, DType::f32, folder_.path());
        FAIL() << "reserved 4 MiB";
    } catch (const UsageError& error) {
        FAIL() << error.what();
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr(folder_.path().string()));
        EXPECT_THAT(error.what(), testing::HasSubstr("4194304 bytes"));
        EXPECT_THAT(error.what(), testing::HasSubstr("--offload-folder"));
    }
    EXPECT_TRUE(is_empty(folder_));
    EXPECT_EQ(backend_->memory().current_bytes[static_cast<size_t>(MemoryCategory::offloaded)], 0);
}

TEST_F(Offload, FoldersThatCannotBeWrittenAreNamed) {
    for (const std::string folder : {"/proc", "/nowhere/at/all"}) {
        expect_usage_error([&] { backend_->allocate_offloaded({8}, DType::f32, folder); },
                           {folder, "--offload-folder"});
    }
}

TEST_F(Offload, TheReferenceHasNone) {
    EXPECT_THROW(make_reference_backend()->allocate_offloaded({8}, DType::f32, folder_.path()),
                 Error);
}

}  // namespace
}  // namespace lathe::test
