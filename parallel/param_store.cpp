#include "parallel/param_store.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace lathe {
namespace {

constexpr int64_t kNone = -1;

/// So many elements of a row are initialized or read at once: 4 MiB on the host, and on the device
/// where they are rounded.
constexpr int64_t kPieceElements = int64_t{1} << 20;

/// The rows of OptimizerRows.
enum OptimizerRow { kFirstMoment, kSecondMoment, kMaster };

/// What an update changes in offloaded memory, in the order in which it opens it.
constexpr ParamState kUpdatedStates[] = {ParamState::master, ParamState::first_moment,
                                         ParamState::second_moment};

/// One rank's first bad gradient, sent as bytes: unit -1 when it has none.
struct BadElement {
    int64_t unit = kNone;
    int64_t offset = 0;
};

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
    return std::as_bytes(std::span<const T>(values));
}

}  // namespace

ParamStore::ParamStore(const ParamLayout& layout, Backend& backend, ProcessGroups& groups,
                       DType compute, const ParallelConfig& config)
    : layout_(layout),
      backend_(backend),
      groups_(groups),
      sharding_(groups.sharding()),
      compute_(compute),
      accumulation_(accumulation_dtype(compute)),
      workspace_(backend),
      optimizer_(make_optimizer_rows(config)),
      gathered_(layout, backend, groups, compute, config.prefetch),
      reducer_(make_gradient_reducer(config, layout, backend, groups, accumulation_)) {
    for (int unit = 0; unit < layout.num_units(); ++unit) {
        Unit rows;
        rows.parameters = backend.allocate({sharding_.parameter_range(unit_size(unit)).size()},
                                           compute_, MemoryCategory::parameters);
        gathered_.set_local(unit, rows.parameters);
        units_.push_back(std::move(rows));
    }
}

OptimizerRows ParamStore::make_optimizer_rows(const ParallelConfig& config) const {
    std::vector<int64_t> sizes;
    for (const ParamUnit& unit : layout_.units()) {
        sizes.push_back(sharding_.optimizer_range(unit.size).size());
    }
    return OptimizerRows(backend_, sizes, has_master() ? 3 : 2, accumulation_, config);
}

/// Elements `range` of the unit, which this rank holds, to be changed until they are closed.
OffloadWindow ParamStore::open(int unit, ParamState state, Range range) {
    const Held here = held(unit, state);
    const Tensor part = slice(here.row, range, here.range.begin);
    return here.offloaded ? backend_.open_offloaded(part, OffloadUse::change)
                          : OffloadWindow{.part = {}, .tensor = part, .staging = {}};
}

void ParamStore::close(OffloadWindow window) {
    if (window.part) {
        backend_.close_offloaded(std::move(window));
    }
}

void ParamStore::begin_round(int num_active, int64_t step) {
    num_active_ = num_active;
    step_ = step;
    gathered_.set_step(step);
    prefetch_optimizer_state();
}

/// Calls function(piece, whether weights of it decay) for the pieces in which a unit's rows are
/// updated, in that order.
template <typename Function>
void ParamStore::each_updated_piece(int unit, Function&& function) const {
    const Range range = sharding_.optimizer_range(unit_size(unit));
    const int64_t decayed_end = layout_.units()[static_cast<size_t>(unit)].decayed_end;
    for (const Range piece : optimizer_.pieces(intersect(range, {0, decayed_end}))) {
        function(piece, true);
    }
    for (const Range piece : optimizer_.pieces(intersect(range, {decayed_end, unit_size(unit)}))) {
        function(piece, false);
    }
}

/// Has what the update opens first on its way while forward and backward run: no gradient changes
/// it.
void ParamStore::prefetch_optimizer_state() {
    bool has_room = optimizer_.offloaded();
    for (int unit = 0; unit < layout_.num_units() && has_room; ++unit) {
        each_updated_piece(unit, [&](Range piece, bool) {
            for (const ParamState state : kUpdatedStates) {
                const Held here = held(unit, state);
                if (has_room && here.offloaded) {
                    has_room =
                        backend_.prefetch_offloaded(slice(here.row, piece, here.range.begin));
                }
            }
        });
    }
}

Tensor ParamStore::gradients(int unit) {
    Buffer& gradient = units_.at(static_cast<size_t>(unit)).gradient;
    if (!gradient) {
        gradient = backend_.allocate({unit_size(unit)}, accumulation_, MemoryCategory::gradients);
        zero_padding(unit, gradient);
    }
    return gradient;
}

void ParamStore::gradients_ready(int unit) {
    Buffer& gradient = units_.at(static_cast<size_t>(unit)).gradient;
    LATHE_CHECK(static_cast<bool>(gradient) == (sharding_.rank() < num_active_),
                "the gradient of unit {} is ready but {}",
                layout_.units()[static_cast<size_t>(unit)].name,
                gradient ? "this rank has no micro-batch" : "was never written");
    reducer_->add(unit, std::move(gradient), num_active_, step_);
}

void ParamStore::zero_padding(int unit, const Tensor& gradient) {
    int64_t end = 0;
    const auto zero = [&](int64_t begin, int64_t until) {
        if (begin < until) {
            backend_.fill_zero(gradient.slice(begin, until), Stream::compute);
        }
    };
    for (const ParamTensor& tensor : layout_.tensors_of(unit)) {
        zero(end, tensor.offset);
        end = tensor.offset + tensor.shape.size();
    }
    zero(end, gradient.size());
}

double ParamStore::squared_gradient_norm() {
    backend_.label("gradient norm", "");
    reducer_->finish(step_);
    std::vector<double> mine;
    for (int unit = 0; unit < layout_.num_units(); ++unit) {
        const Tensor sum = reducer_->owned(unit);
        if (sum.size() == 0) {
            continue;
        }
        const int64_t chunks = sum.size() / kChunkElements;
        const Buffer partial = backend_.allocate({chunks}, DType::f64, MemoryCategory::workspace);
        workspace_.run(SquaredNorm{.x = sum, .partial = partial});
        mine.resize(mine.size() + static_cast<size_t>(chunks));
        backend_.copy_to_host(mine.data() + mine.size() - chunks, partial);
    }
    const auto all = groups_.world().all_gather_bytes(
        bytes_of(mine), {.tensor = "the gradient norm", .step = step_});
    if (!backend_.device().computes) {
        return 0.0;
    }
    std::vector<size_t> next(all.size(), 0);
    double sum = 0.0;
    for (int unit = 0; unit < layout_.num_units(); ++unit) {
        for (const int rank : sharding_.owners_in_order()) {
            const int64_t chunks = sharding_.owned(unit_size(unit), rank).size() / kChunkElements;
            const auto index = static_cast<size_t>(rank);
            for (int64_t chunk = 0; chunk < chunks; ++chunk) {
                double value = 0.0;
                std::memcpy(&value, all[index].data() + next[index], sizeof(value));
                next[index] += sizeof(value);
                sum += value;
            }
        }
    }
    return sum;
}

std::optional<std::string> ParamStore::first_bad_gradient() {
    std::vector<BadElement> mine(1);
    for (int unit = layout_.num_units() - 1; unit >= 0 && mine[0].unit == kNone; --unit) {
        const std::vector<float> values = read(reducer_->owned(unit));
        const auto bad =
            std::find_if(values.begin(), values.end(), [](float x) { return !std::isfinite(x); });
        if (bad != values.end()) {
            mine[0] = {.unit = unit,
                       .offset = sharding_.owned(unit_size(unit), sharding_.rank()).begin +
                                 (bad - values.begin())};
        }
    }
    const auto all = groups_.world().all_gather_bytes(bytes_of(mine),
                                                      {.tensor = "bad gradients", .step = step_});
    BadElement first;
    for (const auto& bytes : all) {
        BadElement other;
        std::memcpy(&other, bytes.data(), sizeof(other));
        if (other.unit > first.unit || (other.unit == first.unit && other.offset < first.offset)) {
            first = other;
        }
    }
    const ParamTensor* tensor =
        first.unit == kNone ? nullptr : layout_.at(static_cast<int>(first.unit), first.offset);
    return tensor == nullptr ? std::nullopt : std::optional(tensor->name);
}

void ParamStore::update(const OptimizerStep& step) {
    OptimizerStep undecayed = step;
    undecayed.weight_decay = 0.0;
    for (int unit = 0; unit < layout_.num_units(); ++unit) {
        backend_.label("optimizer", layout_.units()[static_cast<size_t>(unit)].name);
        const Buffer gradient = reducer_->take(unit, step_);
        each_updated_piece(unit, [&](Range piece, bool decays) {
            update_range(unit, gradient, piece, decays ? step : undecayed);
        });
        gathered_.refresh(unit);
    }
}

void ParamStore::update_range(int unit, const Tensor& gradient, Range range,
                              const OptimizerStep& step) {
    // The random numbers of stochastic rounding are counted over all units, so that no two elements
    // share one.
    int64_t first_element = range.begin;
    for (int before = 0; before < unit; ++before) {
        first_element += unit_size(before);
    }
    OffloadWindow master = open(unit, ParamState::master, range);
    OffloadWindow first_moment = open(unit, ParamState::first_moment, range);
    OffloadWindow second_moment = open(unit, ParamState::second_moment, range);
    const Held parameters = held(unit, ParamState::parameters);
    workspace_.run(AdamW{
        .gradient = slice(gradient, range, sharding_.optimizer_range(unit_size(unit)).begin),
        .master = master.tensor,
        .first_moment = first_moment.tensor,
        .second_moment = second_moment.tensor,
        .parameter = has_master() ? slice(parameters.row, range, parameters.range.begin) : Tensor(),
        .learning_rate = static_cast<float>(step.learning_rate),
        .beta1 = static_cast<float>(step.beta1),
        .beta2 = static_cast<float>(step.beta2),
        .epsilon = static_cast<float>(step.epsilon),
        .weight_decay = static_cast<float>(step.weight_decay),
        .gradient_scale = static_cast<float>(step.gradient_scale),
        .step = step.update,
        .stochastic_rounding = step.stochastic_rounding && has_master(),
        .seed = step.seed,
        .first_element = first_element});
    close(std::move(master));
    close(std::move(first_moment));
    close(std::move(second_moment));
}

Range ParamStore::held_range(int unit, ParamState state, int rank) const {
    const bool parameters =
        state == ParamState::parameters || (state == ParamState::master && !has_master());
    const bool sharded = parameters ? sharding_.shards_parameters() : sharding_.shards_optimizer();
    return sharded ? sharding_.shard(unit_size(unit), rank) : Range{0, unit_size(unit)};
}

ParamStore::Held ParamStore::held(int unit, ParamState state) const {
    const auto optimizer_row = [&](OptimizerRow row) -> Held {
        return {.row = optimizer_.row(unit, row),
                .range = held_range(unit, state, sharding_.rank()),
                .offloaded = optimizer_.offloaded()};
    };
    switch (state) {
        case ParamState::master:
            if (has_master()) {
                return optimizer_row(kMaster);
            }
            break;
        case ParamState::first_moment:
            return optimizer_row(kFirstMoment);
        case ParamState::second_moment:
            return optimizer_row(kSecondMoment);
        case ParamState::parameters:
            break;
    }
    return {.row = units_.at(static_cast<size_t>(unit)).parameters,
            .range = held_range(unit, state, sharding_.rank())};
}

/// Where nothing is computed there are no values, only what reading them takes of the device.
std::vector<float> ParamStore::read(const Tensor& row) {
    const bool has_values = backend_.device().computes;
    std::vector<float> values(has_values ? static_cast<size_t>(row.size()) : 0);
    for (int64_t begin = 0; begin < row.size(); begin += kPieceElements) {
        const Tensor piece = row.slice(begin, std::min(row.size(), begin + kPieceElements));
        Buffer widened;
        if (row.dtype() != DType::f32) {
            widened = backend_.allocate({piece.size()}, DType::f32, MemoryCategory::workspace);
            workspace_.run(Cast{.x = piece, .y = widened});
        }
        if (has_values) {
            backend_.copy_to_host(values.data() + begin, widened ? widened.tensor() : piece);
        }
    }
    return values;
}

std::vector<float> ParamStore::gather(int unit, ParamState state, int root) {
    gathered_.settle(unit);
    Held mine = held(unit, state);
    const bool at_root = sharding_.rank() == root;
    if (held_range(unit, state, root).size() == unit_size(unit)) {
        if (!at_root) {
            return {};
        }
        return mine.offloaded ? optimizer_.read(mine.row) : read(mine.row);
    }
    const bool takes_part = sharding_.replica_of(sharding_.rank()) == sharding_.replica_of(root);
    const Buffer copy = mine.offloaded && takes_part ? optimizer_.copy(mine.row) : Buffer();
    mine.row = copy ? copy.tensor() : mine.row;
    // Only the ranks of the root's replica send; the others take part with nothing.
    std::vector<Tensor> send(static_cast<size_t>(sharding_.world_size()));
    std::vector<Tensor> receive(send.size());
    Buffer whole;
    if (at_root) {
        whole =
            backend_.allocate({unit_size(unit)}, mine.row.dtype(), MemoryCategory::communication);
        backend_.copy(slice(whole, mine.range), mine.row, Stream::compute);
    }
    for (int rank = 0; rank < sharding_.world_size(); ++rank) {
        const bool sends = rank != root && sharding_.replica_of(rank) == sharding_.replica_of(root);
        if (sends && at_root) {
            receive[static_cast<size_t>(rank)] = slice(whole, held_range(unit, state, rank));
        } else if (sends && rank == sharding_.rank()) {
            send[static_cast<size_t>(root)] = mine.row;
        }
    }
    backend_.wait(Stream::communication, backend_.record(Stream::compute));
    const std::string& name = layout_.units()[static_cast<size_t>(unit)].name;
    groups_.world().all_to_all(send, receive, {.tensor = "a checkpoint of " + name, .step = step_});
    backend_.wait(Stream::compute, backend_.record(Stream::communication));
    return at_root ? read(whole) : std::vector<float>();
}

void ParamStore::write(int unit, ParamState state, int64_t first, std::span<const float> values) {
    const Held here = held(unit, state);
    const Range range = intersect(here.range, {first, first + static_cast<int64_t>(values.size())});
    if (range.empty()) {
        return;
    }
    const float* source = values.data() + (range.begin - first);
    if (here.row.dtype() == DType::f32) {
        for (const Range piece : optimizer_.pieces(range)) {
            OffloadWindow window = open(unit, state, piece);
            backend_.copy_from_host(window.tensor, source + (piece.begin - range.begin));
            close(std::move(window));
        }
        return;
    }
    const Tensor destination = slice(here.row, range, here.range.begin);
    const Buffer wide = backend_.allocate({range.size()}, DType::f32, MemoryCategory::workspace);
    backend_.copy_from_host(wide, source);
    workspace_.run(Cast{.x = wide, .y = destination});
}

void ParamStore::initialize(const ModelConfig& config, uint64_t seed) {
    std::vector<float> values;
    for (int unit = 0; unit < layout_.num_units(); ++unit) {
        // Master weights are held of no more than the parameters are.
        const Range here = held_range(unit, ParamState::parameters, sharding_.rank());
        for (int64_t begin = here.begin; begin < here.end; begin += kPieceElements) {
            values.resize(static_cast<size_t>(std::min(kPieceElements, here.end - begin)));
            if (backend_.device().computes) {
                lathe::initialize(layout_, config, unit, begin, seed, values);
            }
            write(unit, ParamState::parameters, begin, values);
            if (has_master()) {
                write(unit, ParamState::master, begin, values);
            }
        }
        clear_moments(unit);
    }
}

void ParamStore::clear_moments(int unit) {
    for (const ParamState state : {ParamState::first_moment, ParamState::second_moment}) {
        for (const Range piece : optimizer_.pieces(held_range(unit, state, sharding_.rank()))) {
            OffloadWindow window = open(unit, state, piece);
            backend_.fill_zero(window.tensor, Stream::compute);
            close(std::move(window));
        }
    }
}

}  // namespace lathe
