#include "tests/parallel/communicator_cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <vector>

#include "tests/support/random_values.h"

namespace lathe::test {
namespace {

using Values = std::vector<float>;

Buffer allocate(Backend& backend, int64_t size, DType dtype) {
    return backend.allocate({size}, dtype, MemoryCategory::communication);
}

void set_values(Backend& backend, const Tensor& tensor, const Values& values) {
    ASSERT_EQ(tensor.size(), static_cast<int64_t>(values.size()));
    if (tensor.dtype() == DType::f32) {
        backend.copy_from_host(tensor, values.data());
    } else if (tensor.dtype() == DType::f64) {
        const std::vector<double> wide(values.begin(), values.end());
        backend.copy_from_host(tensor, wide.data());
    } else {
        std::vector<bf16> narrow;
        for (const float value : values) {
            narrow.emplace_back(value);
        }
        backend.copy_from_host(tensor, narrow.data());
    }
}

/// Waits for the communication stream, then reads.
Values values_of(Backend& backend, const Tensor& tensor) {
    backend.wait(Stream::compute, backend.record(Stream::communication));
    Values values(static_cast<size_t>(tensor.size()));
    if (tensor.dtype() == DType::f32) {
        backend.copy_to_host(values.data(), tensor);
    } else if (tensor.dtype() == DType::f64) {
        std::vector<double> wide(values.size());
        backend.copy_to_host(wide.data(), tensor);
        std::copy(wide.begin(), wide.end(), values.begin());
    } else {
        std::vector<bf16> narrow(values.size());
        backend.copy_to_host(narrow.data(), tensor);
        std::transform(narrow.begin(), narrow.end(), values.begin(),
                       [](bf16 value) { return static_cast<float>(value); });
    }
    return values;
}

/// Small integers, exact in every type, different for each pair of ranks, place and round.
Values numbers(int64_t size, int from, int to, int round = 0) {
    Values values;
    for (int64_t i = 0; i < size; ++i) {
        values.push_back(static_cast<float>((i * 31 + from * 7 + to * 13 + round * 5) % 61 - 30));
    }
    return values;
}

/// The sum of numbers(size, r, to) over ranks r.
Values summed(int64_t size, int num_ranks, int to) {
    Values sum(static_cast<size_t>(size));
    for (int rank = 0; rank < num_ranks; ++rank) {
        const Values term = numbers(size, rank, to);
        std::transform(sum.begin(), sum.end(), term.begin(), sum.begin(), std::plus<>());
    }
    return sum;
}

/// Starts with 0, and is odd, even and 1 in turn.
int64_t odd_size(int a, int b) { return (a * 37 + b * 101 + a * b * 11) % 4 == 0 ? 0 : a + 3 * b; }

std::vector<Tensor> tensors_of(const std::vector<Buffer>& buffers) {
    std::vector<Tensor> tensors;
    for (const Buffer& buffer : buffers) {
        tensors.push_back(buffer.tensor());
    }
    return tensors;
}

using SizeOf = int64_t (*)(int from, int to);

void exchange_all(Backend& backend, Communicator& group, DType dtype, SizeOf size_of_pair,
                  int round) {
    std::vector<Buffer> send;
    std::vector<Buffer> receive;
    int64_t to_others = 0;
    for (int peer = 0; peer < group.size(); ++peer) {
        const int64_t sent = size_of_pair(group.rank(), peer);
        const int64_t received = size_of_pair(peer, group.rank());
        // Nothing to move: a tensor without elements, or none at all.
        send.push_back(sent == 0 && peer % 2 == 0 ? Buffer() : allocate(backend, sent, dtype));
        receive.push_back(received == 0 && peer % 2 == 1 ? Buffer()
                                                         : allocate(backend, received, dtype));
        if (sent > 0) {
            set_values(backend, send.back(), numbers(sent, group.rank(), peer, round));
        }
        to_others += peer == group.rank() ? 0 : sent * size_of(dtype);
    }
    const int64_t before = group.sent_bytes();
    backend.wait(Stream::communication, backend.record(Stream::compute));
    group.all_to_all(tensors_of(send), tensors_of(receive), {.tensor = "pairs", .step = round});
    EXPECT_EQ(group.sent_bytes() - before, to_others);
    for (int peer = 0; peer < group.size(); ++peer) {
        const Tensor& got = receive[static_cast<size_t>(peer)];
        EXPECT_EQ(values_of(backend, got), numbers(got.size(), peer, group.rank(), round))
            << "from " << peer << " to " << group.rank();
    }
}

void all_to_all_moves_each_pair(Backend& backend, Communicator& world) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
        exchange_all(backend, world, dtype, odd_size, 1);
        exchange_all(
            backend, world, dtype, [](int, int) { return int64_t{0}; }, 2);
        exchange_all(
            backend, world, dtype, [](int, int) { return int64_t{1}; }, 3);
    }
}

void all_to_all_moves_large_tensors(Backend& backend, Communicator& world) {
    exchange_all(
        backend, world, DType::f32,
        [](int from, int to) { return int64_t{270'001} + 1000 * from + to; }, 1);
}

/// A rank without a micro-batch sends nothing and still receives its share.
void all_to_all_with_idle_ranks(Backend& backend, Communicator& world) {
    exchange_all(
        backend, world, DType::f32,
        [](int from, int to) { return from >= 2 ? int64_t{0} : int64_t{5 + to}; }, 1);
}

void gather_all(Backend& backend, Communicator& group, DType dtype) {
    std::vector<Buffer> parts;
    for (int peer = 0; peer < group.size(); ++peer) {
        parts.push_back(allocate(backend, odd_size(peer, 2), dtype));
        backend.fill_zero(parts.back(), Stream::compute);
    }
    const Tensor& mine = parts[static_cast<size_t>(group.rank())];
    set_values(backend, mine, numbers(mine.size(), group.rank(), 0));
    const int64_t before = group.sent_bytes();
    backend.wait(Stream::communication, backend.record(Stream::compute));
    group.all_gather(tensors_of(parts), {.tensor = "parts", .step = 1});
    EXPECT_EQ(group.sent_bytes() - before, (group.size() - 1) * mine.bytes());
    for (int peer = 0; peer < group.size(); ++peer) {
        const Tensor& part = parts[static_cast<size_t>(peer)];
        EXPECT_EQ(values_of(backend, part), numbers(part.size(), peer, 0)) << "from " << peer;
    }
}

void all_gather_brings_every_part(Backend& backend, Communicator& world) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
        gather_all(backend, world, dtype);
    }
}

void reduce_all(Backend& backend, Communicator& group, DType dtype, int64_t size) {
    const Buffer tensor = allocate(backend, size, dtype);
    set_values(backend, tensor, numbers(size, group.rank(), 0));
    const int64_t before = group.sent_bytes();
    backend.wait(Stream::communication, backend.record(Stream::compute));
    group.all_reduce(tensor, {.tensor = "sum", .step = 1});
    // Each part to its owner, then one's own to all.
    const int64_t own =
        size * (group.rank() + 1) / group.size() - size * group.rank() / group.size();
    EXPECT_EQ(group.sent_bytes() - before,
              (size - own + (group.size() - 1) * own) * size_of(dtype));
    EXPECT_EQ(values_of(backend, tensor), summed(size, group.size(), 0));
}

void all_reduce_sums(Backend& backend, Communicator& world) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
        for (const int64_t size : {0, 1, 2, 7, 4097}) {
            reduce_all(backend, world, dtype, size);
        }
    }
}

/// More than is exchanged and summed at once.
void all_reduce_sums_large_tensors(Backend& backend, Communicator& world) {
    if (world.size() <= 3) {
        reduce_all(backend, world, DType::bf16, world.size() * (int64_t{1} << 21) + 77);
    }
}

void reduce_scatter_sums_ones_part(Backend& backend, Communicator& world) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
        std::vector<Buffer> parts;
        int64_t to_others = 0;
        for (int peer = 0; peer < world.size(); ++peer) {
            parts.push_back(allocate(backend, odd_size(peer, 5), dtype));
            const Tensor& part = parts.back();
            set_values(backend, part, numbers(part.size(), world.rank(), peer));
            to_others += peer == world.rank() ? 0 : part.bytes();
        }
        const int64_t before = world.sent_bytes();
        backend.wait(Stream::communication, backend.record(Stream::compute));
        world.reduce_scatter(tensors_of(parts), {.tensor = "shards", .step = 1});
        EXPECT_EQ(world.sent_bytes() - before, to_others);
        const Tensor& mine = parts[static_cast<size_t>(world.rank())];
        EXPECT_EQ(values_of(backend, mine), summed(mine.size(), world.size(), world.rank()));
    }
}

void broadcast_from_every_root(Backend& backend, Communicator& world) {
    for (int root = 0; root < world.size(); ++root) {
        for (const int64_t size : {0, 1, 1025}) {
            const Buffer tensor = allocate(backend, size, DType::bf16);
            set_values(backend, tensor, numbers(size, world.rank(), 0));
            const int64_t before = world.sent_bytes();
            backend.wait(Stream::communication, backend.record(Stream::compute));
            world.broadcast(tensor, root, {.tensor = "start", .step = 0});
            EXPECT_EQ(world.sent_bytes() - before,
                      world.rank() == root ? (world.size() - 1) * tensor.tensor().bytes() : 0);
            EXPECT_EQ(values_of(backend, tensor), numbers(size, root, 0));
        }
    }
}

std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text));
}

std::vector<std::string> gathered_texts(Communicator& group, const std::string& mine) {
    std::vector<std::string> texts;
    for (const auto& bytes :
         group.all_gather_bytes(bytes_of(mine), {.tensor = "texts", .step = 1})) {
        texts.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    return texts;
}

void all_gather_bytes_of_any_size(Backend&, Communicator& world) {
    const auto text = [](int rank) {
        return std::string(static_cast<size_t>(rank * rank * 1000), static_cast<char>('a' + rank));
    };
    const std::vector<std::string> texts = gathered_texts(world, text(world.rank()));
    ASSERT_EQ(static_cast<int>(texts.size()), world.size());
    for (int rank = 0; rank < world.size(); ++rank) {
        EXPECT_EQ(texts[static_cast<size_t>(rank)], text(rank));
    }
    world.barrier({.tensor = "end", .step = 1});
}

void split_makes_groups(Backend& backend, Communicator& world) {
    const int color = world.rank() % 3;
    const auto third = world.split(color, -world.rank());  // the last rank first
    const int size = (world.size() - color + 2) / 3;
    ASSERT_EQ(third->size(), size);
    EXPECT_EQ(third->rank(), size - 1 - world.rank() / 3);
    const int64_t before = world.sent_bytes();
    exchange_all(backend, *third, DType::f32, odd_size, 4);
    gather_all(backend, *third, DType::bf16);
    EXPECT_EQ(world.sent_bytes() - before, third->sent_bytes());

    const std::vector<std::string> members = gathered_texts(*third, std::to_string(world.rank()));
    for (int rank = 0; rank < size; ++rank) {
        EXPECT_EQ(members[static_cast<size_t>(rank)],
                  std::to_string(color + 3 * (size - 1 - rank)));
    }
    const auto alone = third->split(world.rank(), 0);
    EXPECT_EQ(alone->size(), 1);
    exchange_all(backend, *alone, DType::f32, odd_size, 5);
    const auto same = third->split(0, 0);  // equal keys: the order is kept
    EXPECT_EQ(same->rank(), third->rank());
    exchange_all(backend, *same, DType::bf16, odd_size, 6);
    gather_all(backend, world, DType::f32);
}

/// Operations on the world and on a group, one behind the other, chosen alike on all ranks.
void any_sequence_of_operations(Backend& backend, Communicator& world) {
    const auto half = world.split(world.rank() / 2, world.rank());
    Random random(7);
    for (int round = 0; round < 40; ++round) {
        Communicator& group = random.coin() ? world : *half;
        switch (random.integer(0, 4)) {
            case 0:
                exchange_all(backend, group, DType::bf16, odd_size, round);
                break;
            case 1:
                gather_all(backend, group, DType::f32);
                break;
            case 2:
                all_reduce_sums(backend, group);
                break;
            case 3:
                broadcast_from_every_root(backend, group);
                break;
            default:
                EXPECT_EQ(static_cast<int>(gathered_texts(group, "x").size()), group.size());
        }
    }
}

/// What prepares a collective and what uses its result are issued to its stream, with no wait in
/// between.
void work_on_the_stream_keeps_its_order(Backend& backend, Communicator& world) {
    constexpr int64_t kSize = 3001;
    const int me = world.rank();
    const auto ranks = static_cast<size_t>(world.size());
    const Buffer mine = allocate(backend, kSize, DType::f32);
    const Buffer sum = allocate(backend, kSize, DType::f32);
    std::vector<Tensor> send(ranks);
    std::vector<Tensor> receive(ranks);
    std::vector<Buffer> staging;
    for (size_t peer = 0; peer < ranks; ++peer) {
        staging.push_back(allocate(backend, kSize, DType::f32));
        send[peer] = mine;
        receive[peer] = staging.back();
    }
    const Buffer source = allocate(backend, kSize, DType::f32);
    for (int round = 0; round < 5; ++round) {
        set_values(backend, source, numbers(kSize, me, 0));
        backend.wait(Stream::communication, backend.record(Stream::compute));
        backend.fill_zero(mine, Stream::communication);
        backend.copy(mine, source, Stream::communication);
        world.all_to_all(send, receive, {.tensor = "gradients", .step = round});
        {
            const std::vector<Tensor> contributions = receive;  // gone before the stream runs
            backend.run(
                Accumulate{.sum = sum, .contributions = contributions, .assign = round == 0},
                Stream::communication);
        }
        backend.wait(Stream::compute, backend.record(Stream::communication));
    }
    Values expected = summed(kSize, world.size(), 0);
    for (float& value : expected) {
        value *= 5;
    }
    EXPECT_EQ(values_of(backend, sum), expected);
}

}  // namespace

std::span<const CommunicatorCase> communicator_cases() {
    static const std::vector<CommunicatorCase> kCases = {
        {"all_to_all", all_to_all_moves_each_pair},
        {"all_to_all_large", all_to_all_moves_large_tensors},
        {"all_to_all_idle_ranks", all_to_all_with_idle_ranks},
        {"all_gather", all_gather_brings_every_part},
        {"all_reduce", all_reduce_sums},
        {"all_reduce_large", all_reduce_sums_large_tensors},
        {"reduce_scatter", reduce_scatter_sums_ones_part},
        {"broadcast", broadcast_from_every_root},
        {"all_gather_bytes", all_gather_bytes_of_any_size},
        {"split", split_makes_groups},
        {"any_sequence", any_sequence_of_operations},
        {"stream_order", work_on_the_stream_keeps_its_order},
    };
    return kCases;
}

}  // namespace lathe::test
