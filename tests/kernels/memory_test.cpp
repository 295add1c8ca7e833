// Shapes, views, owners, and the account of memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/reference/reference_backend.h"
#include "tests/kernels/backends.h"
#include "tests/support/slow_build.h"

namespace lathe::test {
namespace {

TEST(Shape, SizesAndText) {
    EXPECT_EQ(Shape().size(), 1);
    EXPECT_EQ((Shape{2, 3, 4}).size(), 24);
    EXPECT_EQ((Shape{2, 0, 4}).size(), 0);
    EXPECT_EQ((Shape{2, 3}).text(), "[2, 3]");
    EXPECT_THROW((Shape{1, 2, 3, 4, 5}), Error);
    EXPECT_THROW((Shape{-1}), Error);
}

TEST(Tensor, Views) {
    float data[24] = {};
    const Tensor tensor(data, DType::f32, {2, 3, 4});
    EXPECT_EQ(tensor.rows(), 6);
    EXPECT_EQ(tensor.columns(), 4);
    EXPECT_EQ(tensor.bytes(), 96);
    EXPECT_EQ(tensor.slice(1, 2).as<float>(), data + 12);
    EXPECT_EQ(tensor.slice(1, 2).shape(), (Shape{1, 3, 4}));
    EXPECT_EQ(tensor.slice(2, 2).size(), 0);
    EXPECT_EQ(tensor.view({4, 6}).shape(), (Shape{4, 6}));
    EXPECT_EQ(tensor.flat().shape(), (Shape{24}));
    EXPECT_THROW(tensor.view({5, 5}), Error);
    EXPECT_THROW(tensor.slice(1, 3), Error);
    EXPECT_THROW(tensor.as<double>(), Error);
}

TEST(Tensor, AbsentAndEmptyDiffer) {
    const Tensor absent;
    const Tensor empty(nullptr, DType::f32, {0});
    EXPECT_FALSE(absent);
    EXPECT_TRUE(empty);
    EXPECT_EQ(absent.size(), 0);
    EXPECT_EQ(empty.size(), 0);
}

class Memory : public testing::TestWithParam<BackendUnderTest> {
  protected:
    std::unique_ptr<Backend> backend_ = GetParam().make(2);
};

std::vector<BackendUnderTest> all_backends() {
    std::vector<BackendUnderTest> all = backends_under_test();
    all.push_back({"reference", [](int) { return make_reference_backend(); }});
    return all;
}

std::string name_of_backend(const testing::TestParamInfo<BackendUnderTest>& info) {
    return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Backends, Memory, testing::ValuesIn(all_backends()), name_of_backend);

int64_t current(const Backend& backend, MemoryCategory category) {
    return backend.memory().current_bytes[static_cast<size_t>(category)];
}
int64_t peak(const Backend& backend, MemoryCategory category) {
    return backend.memory().peak_bytes[static_cast<size_t>(category)];
}

// The total's peak is that of the sum, which lies below the sum of peaks when they do not coincide.
TEST_P(Memory, CountsByCategory) {
    const auto make = [&](int64_t size, MemoryCategory category) {
        return backend_->allocate({size}, DType::f32, category);
    };
    const Buffer parameters = make(100, MemoryCategory::parameters);
    Buffer activations = make(1000, MemoryCategory::activations);
    EXPECT_EQ(current(*backend_, MemoryCategory::parameters), 400);
    EXPECT_EQ(current(*backend_, MemoryCategory::activations), 4000);
    activations.reset();
    EXPECT_FALSE(activations);
    const Buffer gradients = make(500, MemoryCategory::gradients);
    EXPECT_EQ(current(*backend_, MemoryCategory::activations), 0);
    EXPECT_EQ(peak(*backend_, MemoryCategory::activations), 4000);
    EXPECT_EQ(backend_->memory().total_bytes, 2400);
    EXPECT_EQ(backend_->memory().total_peak_bytes, 4400);
    backend_->reset_peaks();
    EXPECT_EQ(peak(*backend_, MemoryCategory::activations), 0);
    EXPECT_EQ(backend_->memory().total_peak_bytes, 2400);
}

TEST_P(Memory, BuffersMoveAndFreeOnce) {
    {
        Buffer first = backend_->allocate({3, 5}, DType::bf16, MemoryCategory::optimizer);
        const void* data = first.tensor().data();
        EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 256, 0U);
        Buffer second = std::move(first);
        EXPECT_EQ(second.tensor().data(), data);
        EXPECT_EQ(current(*backend_, MemoryCategory::optimizer), 30);
        second = backend_->allocate({7}, DType::f32, MemoryCategory::optimizer);
        EXPECT_EQ(current(*backend_, MemoryCategory::optimizer), 28);
        const Buffer empty = backend_->allocate({0}, DType::f32, MemoryCategory::optimizer);
        EXPECT_TRUE(empty);
    }
    EXPECT_EQ(backend_->memory().total_bytes, 0);
}

TEST_P(Memory, AbsurdSizesNameCategoryAndSize) {
    if (kSlowBuild) {
        GTEST_SKIP() << "sanitizers stop the program at such a size";
    }
    try {
        backend_->allocate({int64_t{1} << 60}, DType::f32, MemoryCategory::activations);
        FAIL() << "allocated 4 EiB";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("out of memory"));
        EXPECT_THAT(error.what(), testing::HasSubstr("4611686018427387904 bytes for activations"));
    }
    EXPECT_EQ(backend_->memory().total_bytes, 0);
}

TEST_P(Memory, CopiesAndZeros) {
    const Buffer a = backend_->allocate({5}, DType::f32, MemoryCategory::activations);
    const Buffer b = backend_->allocate({5}, DType::f32, MemoryCategory::activations);
    const std::array<float, 5> values = {1, 2, 3, 4, 5};
    std::array<float, 5> read{};
    backend_->copy_from_host(a, values.data());
    backend_->fill_zero(b, Stream::compute);
    backend_->copy(b.tensor().slice(1, 3), a.tensor().slice(3, 5), Stream::compute);
    backend_->copy_to_host(read.data(), b);
    EXPECT_EQ(read, (std::array<float, 5>{0, 4, 5, 0, 0}));
    EXPECT_THROW(backend_->copy(a, b.tensor().slice(0, 2), Stream::compute), Error);
}

TEST_P(Memory, WorkspaceGrowsAndIsKept) {
    const Buffer x = backend_->allocate({64, 32}, DType::f32, MemoryCategory::activations);
    const Buffer y = backend_->allocate({32}, DType::f32, MemoryCategory::activations);
    backend_->fill_zero(x, Stream::compute);
    Workspace workspace(*backend_);
    const BiasBackward op{.d_y = x, .d_bias = y};
    workspace.run(op);
    const int64_t used = current(*backend_, MemoryCategory::workspace);
    EXPECT_GE(used, backend_->workspace_bytes(op));
    workspace.run(op);
    EXPECT_EQ(current(*backend_, MemoryCategory::workspace), used);
}

}  // namespace
}  // namespace lathe::test
