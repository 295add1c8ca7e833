// What backends tell a recorder: every operation and copy once, in its lane, with times in order.
#include "kernels/work_recorder.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/operation_cost.h"
#include "kernels/operation_text.h"
#include "kernels/reference/reference_backend.h"

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

void expect_times_in_order(const WorkRecorder& recorder) {
    for (const WorkRecord& record : recorder.records()) {
        EXPECT_LT(0.0, record.issue_begin_s) << record.work.name;
        EXPECT_LE(record.issue_begin_s, record.begin_s) << record.work.name;
        EXPECT_LE(record.begin_s, record.end_s) << record.work.name;
        EXPECT_LE(record.issue_begin_s, record.issue_end_s) << record.work.name;
    }
}

Buffer ones(Backend& backend, Shape shape) {
    Buffer buffer = backend.allocate(shape, DType::f32, MemoryCategory::activations);
    const std::vector<float> values(static_cast<size_t>(shape.size()), 1.0F);
    backend.copy_from_host(buffer, values.data());
    return buffer;
}

TEST(WorkRecorder, EverythingOnBackendsThatRunAtOnce) {
    for (const auto& backend : {make_reference_backend(), make_cpu_backend(2)}) {
        const auto recorder = std::make_shared<WorkRecorder>();
        const Buffer before = ones(*backend, {4, 4});
        backend->set_recorder(recorder);
        backend->label("forward", "blocks.3");
        const Buffer a = ones(*backend, {32, 16});
        const Buffer d = backend->allocate({32, 32}, DType::f32, MemoryCategory::activations);
        const Matmul op = {.a = a, .b = a, .d = d, .transpose_b = true};
        Workspace workspace(*backend);
        workspace.run(op);
        backend->fill_zero(d, Stream::communication);
        std::vector<float> host(32 * 16);
        backend->copy_to_host(host.data(), a);
        backend->wait(Stream::compute, backend->record(Stream::communication));
        backend->read_stamps();
        backend->set_recorder(nullptr);
        workspace.run(op);

        const auto products = named(*recorder, "Matmul");
        ASSERT_EQ(products.size(), 1U) << backend->device().kind;
        const WorkRecord& product = *products[0];
        EXPECT_EQ(product.work.flops, cost_of(op).flops);
        EXPECT_EQ(product.work.bytes, cost_of(op).bytes());
        EXPECT_EQ(product.work.detail, "32x32x16 NT f32");
        EXPECT_EQ(product.lane, Lane::host);
        const WorkRecorder::Label& label = recorder->labels()[static_cast<size_t>(product.label)];
        EXPECT_STREQ(label.phase, "forward");
        EXPECT_EQ(label.unit, "blocks.3");
        EXPECT_EQ(named(*recorder, "fill_zero").size(), 1U);
        EXPECT_EQ(named(*recorder, "copy_to_host").size(), 1U);
        ASSERT_EQ(named(*recorder, "copy_from_host").size(), 1U) << "not the one before";
        EXPECT_EQ(named(*recorder, "copy_from_host")[0]->work.bytes, 2 * 32 * 16 * 4);
        EXPECT_EQ(named(*recorder, "wait for communication").size(), 0U) << "nothing waits";
        ASSERT_FALSE(recorder->memory().empty());
        EXPECT_GE(recorder->memory().back().bytes[static_cast<size_t>(MemoryCategory::activations)],
                  (32 * 16 + 32 * 32) * 4);
        expect_times_in_order(*recorder);
    }
}

/// Threads say when they work on an operation, none before its begin or after its end.
TEST(WorkRecorder, ThreadsOfTheCpuTellTheirWork) {
    constexpr int kThreads = 2;
    const auto backend = make_cpu_backend(kThreads);
    const Buffer x = ones(*backend, {512, 512});
    const Buffer y = backend->allocate({512, 512}, DType::f32, MemoryCategory::activations);
    Workspace workspace(*backend);
    const Matmul op = {.a = x, .b = x, .d = y};
    workspace.run(op);
    const auto recorder = std::make_shared<WorkRecorder>();
    backend->set_recorder(recorder);
    workspace.run(op);
    backend->fill_zero(y, Stream::compute);
    backend->set_recorder(nullptr);
    workspace.run(op);
    ASSERT_EQ(recorder->records().size(), 2U);
    ASSERT_EQ(recorder->threads().num_threads(), kThreads);
    for (int64_t record = 0; record < 2; ++record) {
        const WorkRecord& whole = recorder->records()[static_cast<size_t>(record)];
        double seconds = 0.0;
        for (int thread = 0; thread < kThreads; ++thread) {
            double until_s = whole.begin_s;
            for (const ThreadSpans::Span& span : recorder->threads().of(thread)) {
                ASSERT_GE(span.record, 0);
                ASSERT_LE(span.record, 1) << "nothing is told without a recorder";
                if (span.record == record) {
                    EXPECT_GE(span.begin_s, until_s) << whole.work.name;
                    EXPECT_LE(span.begin_s, span.end_s);
                    EXPECT_LE(span.end_s, whole.end_s);
                    until_s = span.end_s;
                    seconds += span.seconds();
                }
            }
        }
        EXPECT_GT(seconds, 0.0) << whole.work.name;
        EXPECT_LE(seconds, kThreads * whole.seconds());
    }
}

TEST(WorkRecorder, ACommunicationStreamOfItsOwnIsALane) {
    const auto backend = make_overlapping_cpu_backend(1);
    const auto recorder = std::make_shared<WorkRecorder>();
    const Buffer x = ones(*backend, {1000});
    const Buffer y = ones(*backend, {1000});
    backend->set_recorder(recorder);
    backend->copy(y, x, Stream::communication);
    const Tensor contributions[] = {x};
    backend->run(Accumulate{.sum = y, .contributions = contributions}, Stream::communication);
    backend->wait(Stream::compute, backend->record(Stream::communication));
    backend->copy(y, x, Stream::compute);
    backend->read_stamps();
    backend->set_recorder(nullptr);

    EXPECT_EQ(named(*recorder, "Accumulate").at(0)->lane, Lane::communication);
    const auto copies = named(*recorder, "copy");
    ASSERT_EQ(copies.size(), 2U);
    EXPECT_EQ(copies[0]->lane, Lane::communication);
    EXPECT_EQ(copies[1]->lane, Lane::host);
    const auto waits = named(*recorder, "wait for communication");
    ASSERT_EQ(waits.size(), 1U);
    EXPECT_EQ(waits[0]->lane, Lane::host);
    EXPECT_GE(waits[0]->end_s, named(*recorder, "Accumulate")[0]->end_s);
    expect_times_in_order(*recorder);
}

/// A run that fails while the stream still works leaves without reading the times.
TEST(WorkRecorder, IsKeptUntilStreamsHaveWrittenToIt) {
    const auto backend = make_overlapping_cpu_backend(1);
    const Buffer x = ones(*backend, {1 << 20});
    const Buffer y = ones(*backend, {1 << 20});
    backend->set_recorder(std::make_shared<WorkRecorder>());
    for (int i = 0; i < 20; ++i) {
        backend->copy(y, x, Stream::communication);
    }
    backend->set_recorder(nullptr);
    backend->synchronize(Stream::communication);
}

TEST(WorkRecorder, SectionsFollowEachOther) {
    WorkRecorder recorder;
    recorder.add({.name = "before"}, Lane::host);
    recorder.begin_section("step", 7);
    recorder.add({.name = "in it"}, Lane::host);
    recorder.begin_section("validation", 7);
    recorder.end_section();
    recorder.add({.name = "after"}, Lane::host);
    ASSERT_EQ(recorder.sections().size(), 2U);
    EXPECT_EQ(recorder.sections()[0].step, 7);
    EXPECT_LE(recorder.sections()[0].end_s, recorder.sections()[1].begin_s);
    EXPECT_EQ(recorder.records()[0].section, -1);
    EXPECT_EQ(recorder.records()[1].section, 0);
    EXPECT_EQ(recorder.records()[2].section, -1);
}

TEST(OperationText, TellsWhatSetsCallsApart) {
    const Tensor x(nullptr, DType::bf16, {8, 4, 6});
    const Tensor d(nullptr, DType::f32, {6, 6});
    EXPECT_EQ(shape_text(Tensor()), "");
    Norm norm;
    norm.x = x;
    EXPECT_EQ(shape_text(norm), "8x4x6 bf16");
    EXPECT_EQ(shape_text(Matmul{.a = x, .b = x, .d = d, .transpose_a = true, .accumulate = true}),
              "6x6x32 TN bf16 to f32 +=");
    EXPECT_EQ(
        shape_text(Matmul{
            .a = x, .b = x, .d = x, .bias = x, .activation = Activation::gelu_tanh, .residual = x}),
        "32x6x6 NN bf16 +bias +gelu +residual");
    Attention attention;
    attention.heads = {.heads = 3, .kv_heads = 1, .head_size = 2};
    attention.qkv = x;
    EXPECT_EQ(shape_text(attention), "8x4x6 bf16 heads 3/1x2");
    const Tensor contributions[] = {x, x};
    EXPECT_EQ(shape_text(Accumulate{.sum = d, .contributions = contributions, .assign = true}),
              "6x6 f32 = 2 from bf16");
    EXPECT_EQ(shape_text(Cast{.x = x, .y = d}), "8x4x6 bf16 to f32");
}

}  // namespace
}  // namespace lathe::test
