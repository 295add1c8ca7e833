// What the CUDA backend tells a recorder: lanes by stream, times by events, without waiting.
#include <gtest/gtest.h>

#include <memory>
#include <string_view>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/operation_cost.h"

namespace lathe::test {
namespace {

std::vector<const WorkRecord*> named(const WorkRecorder& recorder, std::string_view name) {
    std::vector<const WorkRecord*> found;
    for (const WorkRecord& record : recorder.records()) {
        if (record.work.name == name) {
            found.push_back(&record);
        }
    }
    return found;
}

TEST(CudaRecorder, StreamsAreLanesAndEventsTellTheTime) {
    const auto backend = make_cuda_backend({});
    const std::vector<float> values(64, 1.0F);
    const Buffer x = backend->allocate({64}, DType::f32, MemoryCategory::activations);
    const Buffer y = backend->allocate({64}, DType::f32, MemoryCategory::activations);
    backend->copy_from_host(x, values.data());
    const auto recorder = std::make_shared<WorkRecorder>();
    backend->set_recorder(recorder);
    backend->label("forward", "blocks.0");
    const Tensor contributions[] = {x};
    const Accumulate op = {.sum = y, .contributions = contributions, .assign = true};
    backend->run(op);
    backend->wait(Stream::communication, backend->record(Stream::compute));
    backend->copy(x, y, Stream::communication);
    backend->wait(Stream::compute, backend->record(Stream::communication));
    backend->fill_zero(y, Stream::compute);
    EXPECT_EQ(recorder->records().back().end_s, 0.0) << "nobody waits before the times are read";
    backend->read_stamps();
    backend->set_recorder(nullptr);
    backend->run(op);

    ASSERT_EQ(recorder->records().size(), 5U);
    const WorkRecord& sum = *named(*recorder, "Accumulate").at(0);
    const WorkRecord& copy = *named(*recorder, "copy").at(0);
    const WorkRecord& fill = *named(*recorder, "fill_zero").at(0);
    EXPECT_EQ(sum.lane, Lane::compute);
    EXPECT_EQ(sum.work.bytes, cost_of(op).bytes());
    EXPECT_EQ(copy.lane, Lane::communication);
    EXPECT_EQ(fill.lane, Lane::compute);
    EXPECT_EQ(named(*recorder, "wait for communication").at(0)->lane, Lane::compute);
    EXPECT_EQ(named(*recorder, "wait for compute").at(0)->lane, Lane::communication);
    // Events tell half microseconds.
    constexpr double kSlack_s = 2e-6;
    EXPECT_LE(sum.end_s, copy.begin_s + kSlack_s);
    EXPECT_LE(copy.end_s, fill.begin_s + kSlack_s);
    for (const WorkRecord& record : recorder->records()) {
        EXPECT_LE(record.begin_s, record.end_s) << record.work.name;
        EXPECT_LE(record.issue_begin_s, record.issue_end_s) << record.work.name;
        EXPECT_LE(record.issue_begin_s, record.begin_s + 1e-3) << record.work.name;
    }
    EXPECT_GT(recorder->labels().at(1).begin_s, 0.0);
}

}  // namespace
}  // namespace lathe::test
