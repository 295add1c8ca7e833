#include "kernels/reference/reference_backend.h"

#include <cstdlib>
#include <cstring>

#include "kernels/reference/compute.h"

namespace lathe {
namespace {

/// Adds what every host backend needs, memory and copies, to reference::compute.
class ReferenceBackend final : public Backend {
  public:
    const DeviceInfo& device() const override { return device_; }

    Event record(Stream) override { return {}; }

#define LATHE_REFERENCE_WORKSPACE(Operation) \
    int64_t workspace_bytes(const Operation&) const override { return 0; }
    LATHE_OPERATIONS(LATHE_REFERENCE_WORKSPACE)
#undef LATHE_REFERENCE_WORKSPACE

  protected:
    void execute_copy(const Tensor& destination, const Tensor& source, Stream) override {
        LATHE_CHECK(destination.dtype() == source.dtype() && destination.size() == source.size(),
                    "copy of {} {} to {} {}", name_of(source.dtype()), source.shape().text(),
                    name_of(destination.dtype()), destination.shape().text());
        copy_bytes(destination.data(), source.data(), source.bytes());
    }
    void execute_copy_from_host(const Tensor& destination, const void* source) override {
        copy_bytes(destination.data(), source, destination.bytes());
    }
    void execute_copy_to_host(void* destination, const Tensor& source) override {
        copy_bytes(destination, source.data(), source.bytes());
    }
    void execute_fill_zero(const Tensor& tensor, Stream) override {
        if (tensor.bytes() > 0) {
            std::memset(tensor.data(), 0, static_cast<size_t>(tensor.bytes()));
        }
    }

    void execute_wait(Stream, Event) override {}
    void execute_synchronize(Stream) override {}

    void* allocate_bytes(int64_t bytes) override {
        constexpr int64_t kAlignment = 256;
        const auto padded = static_cast<size_t>((bytes + kAlignment - 1) / kAlignment * kAlignment);
        void* data = std::aligned_alloc(kAlignment, padded);
        if (data != nullptr) {
            std::memset(data, 0xff, padded);
        }
        return data;
    }
    void free_bytes(void* data, int64_t) noexcept override { std::free(data); }

#define LATHE_REFERENCE_EXECUTE(Operation) \
    void execute(const Operation& op, Stream) override { reference::compute(op); }
    LATHE_OPERATIONS(LATHE_REFERENCE_EXECUTE)
#undef LATHE_REFERENCE_EXECUTE

  private:
    static void copy_bytes(void* destination, const void* source, int64_t bytes) {
        if (bytes > 0) {
            std::memmove(destination, source, static_cast<size_t>(bytes));
        }
    }

    DeviceInfo device_{.kind = "reference", .name = "naive loops in double"};
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace lathe
