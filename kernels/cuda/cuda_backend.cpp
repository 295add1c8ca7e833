#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <limits>

#include "kernels/cuda/cuda_backend_impl.h"
#include "kernels/cuda/cuda_device.h"

namespace lathe::cuda {
namespace {

DeviceProfile profile_of(const cudaDeviceProp& properties) {
    return {.compute_capability = 10 * properties.major + properties.minor,
            .num_multiprocessors = properties.multiProcessorCount,
            .shared_memory_per_block = static_cast<int64_t>(properties.sharedMemPerBlockOptin),
            .shared_memory_per_multiprocessor =
                static_cast<int64_t>(properties.sharedMemPerMultiprocessor)};
}

/// A pool that keeps what is freed: a steady training step asks the driver for nothing.
OwnedMemoryPool make_pool(int device) {
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location = {.type = cudaMemLocationTypeDevice, .id = device};
    cudaMemPool_t handle = nullptr;
    CUDA_CHECK(cudaMemPoolCreate(&handle, &properties));
    OwnedMemoryPool pool(handle);
    uint64_t keep_all = std::numeric_limits<uint64_t>::max();
    CUDA_CHECK(cudaMemPoolSetAttribute(handle, cudaMemPoolAttrReleaseThreshold, &keep_all));
    return pool;
}

}  // namespace

CudaBackend::CudaBackend(const CudaOptions& options) : index_(options.device) {
    const int count = count_cuda_devices();
    LATHE_CHECK_USAGE(index_ >= 0 && index_ < count,
                      "CUDA device {}: this process sees {} (0 to {}); start fewer ranks on this "
                      "host, or look at CUDA_VISIBLE_DEVICES",
                      index_, count, count - 1);
    CUDA_CHECK(cudaSetDevice(index_));
    cudaDeviceProp properties{};
    CUDA_CHECK(cudaGetDeviceProperties(&properties, index_));
    const std::string complaint = capability_complaint(index_);
    LATHE_CHECK_USAGE(complaint.empty(), "{}", complaint);
    profile_ = profile_of(properties);
    profile_.matmul = options.matmul;
    device_ = {.kind = "cuda",
               .name = fmt::format("{}, compute capability {}.{}", properties.name,
                                   properties.major, properties.minor),
               .preferred_dtype = DType::bf16,
               .offload = OffloadMemory::pinned,
               .compute_runs_beside = true,
               .communication_runs_beside = true};
    pool_ = make_pool(index_);
    for (Queue& queue : queues_) {
        queue.stream = make_stream();
        std::generate(queue.events.begin(), queue.events.end(), make_event);
    }
    upload_.memory = make_pinned(static_cast<size_t>(2 * Upload::kHalfBytes));
    std::generate(upload_.done.begin(), upload_.done.end(), make_event);
    if (options.matmul == MatmulLibrary::cublas) {
        cublas_ = make_cublas_matmul();
    }
}

CudaBackend::~CudaBackend() {
    staging_.reset();
    for (const Queue& queue : queues_) {
        static_cast<void>(cudaStreamSynchronize(queue.stream.get()));
    }
}

void* CudaBackend::allocate_bytes(int64_t bytes) {
    void* data = nullptr;
    const cudaError_t status = cudaMallocFromPoolAsync(&data, static_cast<size_t>(bytes),
                                                       pool_.get(), stream(Stream::compute));
    if (status == cudaErrorMemoryAllocation) {
        static_cast<void>(cudaGetLastError());  // it is told by the caller, and no later call's
        return nullptr;
    }
    check_cuda(status, "cudaMallocFromPoolAsync");
    return data;
}

void CudaBackend::free_bytes(void* data, int64_t) noexcept {
    static_cast<void>(cudaFreeAsync(data, stream(Stream::compute)));
}

void CudaBackend::release_free_memory() {
    synchronize(Stream::compute);  // until then what it frees is in use
    CUDA_CHECK(cudaMemPoolTrimTo(pool_.get(), 0));
}

void* CudaBackend::allocate_offloaded_bytes(int64_t bytes, const std::filesystem::path&) {
    void* data = nullptr;
    const cudaError_t status =
        cudaHostAlloc(&data, static_cast<size_t>(bytes), cudaHostAllocDefault);
    if (status != cudaSuccess) {
        static_cast<void>(cudaGetLastError());
    }
    LATHE_CHECK(status == cudaSuccess,
                "--offload optimizer: {} bytes of pinned host memory cannot be had: {} ({}); free "
                "some, shard over more ranks, or use --offload none",
                bytes, cudaGetErrorString(status), cudaGetErrorName(status));
    if (staging_ == nullptr) {
        staging_ = std::make_unique<OffloadStaging>(*this, stream(Stream::compute));
    }
    return data;
}

void CudaBackend::free_offloaded_bytes(void* data, int64_t) noexcept {
    // While a rank fails its streams may wait for others for ever, and so would this.
    if (std::uncaught_exceptions() == 0) {
        staging_->synchronize();
        static_cast<void>(cudaFreeHost(data));
    }
}

OffloadWindow CudaBackend::execute_open_offloaded(const Tensor& part, OffloadUse use) {
    return staging_->open(part, use);
}

void CudaBackend::execute_close_offloaded(OffloadWindow window) { staging_->close(window); }

bool CudaBackend::prefetch_offloaded(const Tensor& part) { return staging_->prefetch(part); }

void CudaBackend::execute_copy(const Tensor& destination, const Tensor& source, Stream stream) {
    LATHE_CHECK(destination.dtype() == source.dtype() && destination.size() == source.size(),
                "copy: {} of {} to {} of {}", source.shape().text(), name_of(source.dtype()),
                destination.shape().text(), name_of(destination.dtype()));
    if (source.bytes() > 0) {
        CUDA_CHECK(cudaMemcpyAsync(destination.data(), source.data(),
                                   static_cast<size_t>(source.bytes()), cudaMemcpyDeviceToDevice,
                                   this->stream(stream)));
    }
}

void CudaBackend::execute_copy_from_host(const Tensor& destination, const void* source) {
    const cudaStream_t compute = stream(Stream::compute);
    for (int64_t begin = 0; begin < destination.bytes(); begin += Upload::kHalfBytes) {
        const auto bytes =
            static_cast<size_t>(std::min(Upload::kHalfBytes, destination.bytes() - begin));
        const cudaEvent_t done = upload_.done[static_cast<size_t>(upload_.next)].get();
        auto* half =
            static_cast<std::byte*>(upload_.memory.get()) + upload_.next * Upload::kHalfBytes;
        CUDA_CHECK(cudaEventSynchronize(done));
        std::memcpy(half, static_cast<const std::byte*>(source) + begin, bytes);
        CUDA_CHECK(cudaMemcpyAsync(static_cast<std::byte*>(destination.data()) + begin, half, bytes,
                                   cudaMemcpyHostToDevice, compute));
        CUDA_CHECK(cudaEventRecord(done, compute));
        upload_.next = 1 - upload_.next;
    }
}

void CudaBackend::execute_copy_to_host(void* destination, const Tensor& source) {
    if (source.bytes() > 0) {
        CUDA_CHECK(cudaMemcpyAsync(destination, source.data(), static_cast<size_t>(source.bytes()),
                                   cudaMemcpyDeviceToHost, stream(Stream::compute)));
    }
    synchronize(Stream::compute);
}

void CudaBackend::execute_fill_zero(const Tensor& tensor, Stream stream) {
    if (tensor.bytes() > 0) {
        CUDA_CHECK(cudaMemsetAsync(tensor.data(), 0, static_cast<size_t>(tensor.bytes()),
                                   this->stream(stream)));
    }
}

Event CudaBackend::record(Stream stream) {
    Queue& from = queue(stream);
    const int64_t number = from.num_recorded++;
    CUDA_CHECK(cudaEventRecord(from.events[static_cast<size_t>(number % Queue::kEvents)].get(),
                               from.stream.get()));
    return {.ticket = 2 * number + static_cast<int64_t>(stream)};
}

void CudaBackend::execute_wait(Stream stream, Event event) {
    const Queue& from = queues_[static_cast<size_t>(event.ticket % 2)];
    const auto place = static_cast<size_t>(event.ticket / 2 % Queue::kEvents);
    const auto issue = [&] {
        CUDA_CHECK(cudaStreamWaitEvent(this->stream(stream), from.events[place].get(), 0));
    };
    if (stream == Stream::compute && &from == &queue(Stream::communication)) {
        exposed_.time(this->stream(stream), issue);
    } else {
        issue();
    }
}

void CudaBackend::execute_synchronize(Stream stream) {
    CUDA_CHECK(cudaStreamSynchronize(this->stream(stream)));
    check_();
}

void CudaBackend::stamp(Stream stream, std::shared_ptr<double> seconds) {
    stamps_.add(this->stream(stream), std::move(seconds));
}

void CudaBackend::read_stamps() {
    Backend::read_stamps();
    stamps_.read();
}

double CudaBackend::seconds_of(const std::function<void()>& issue) {
    const cudaStream_t compute = stream(Stream::compute);
    const OwnedEvent begin = make_timing_event();
    const OwnedEvent end = make_timing_event();
    CUDA_CHECK(cudaEventRecord(begin.get(), compute));
    issue();
    CUDA_CHECK(cudaEventRecord(end.get(), compute));
    CUDA_CHECK(cudaEventSynchronize(end.get()));
    float milliseconds = 0.0F;
    CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()));
    return static_cast<double>(milliseconds) * 1e-3;
}

void CudaBackend::run_on_host(Stream stream, std::function<void()> function) {
    synchronize(stream);
    Backend::run_on_host(stream, std::move(function));
}

double CudaBackend::exposed_communication_s() const {
    return Backend::exposed_communication_s() + exposed_.seconds();
}

std::string CudaBackend::bus_id() const {
    std::array<char, 32> text{};
    CUDA_CHECK(cudaDeviceGetPCIBusId(text.data(), static_cast<int>(text.size()), index_));
    return text.data();
}

}  // namespace lathe::cuda

namespace lathe {

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options) {
    return std::make_unique<cuda::CudaBackend>(options);
}

}  // namespace lathe
