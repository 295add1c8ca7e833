// Copies and fills of the run-time API.
#include <string>

#include "kernels/ptxemu/runtime/runtime.h"

using namespace ptxemu;

namespace {

bool pageable(const void* p) {
    Alloc x;
    return !is_device((u64)p) && !mem_find((u64)p, x);
}

// A rectangle of bytes; a plain copy has one row.
struct Copy {
    u8* to;
    size_t to_pitch;
    const u8* from;
    size_t from_pitch, width, height;

    size_t to_span() const { return (height - 1) * to_pitch + width; }
    size_t from_span() const { return (height - 1) * from_pitch + width; }
    std::vector<MemoryUse> uses() const {
        return {{from, from_span(), false, "copy from"}, {to, to_span(), true, "copy to"}};
    }
    void run() const {
        for (size_t r = 0; r < height; ++r) {
            memmove(host_view((u64)to + r * to_pitch), host_view((u64)from + r * from_pitch),
                    width);
            mark_init((u64)to + r * to_pitch, width);
        }
    }
};

cudaError_t check(const Copy& c, cudaMemcpyKind kind) {
    if (c.width > c.to_pitch || c.width > c.from_pitch) return cudaErrorInvalidPitchValue;
    if (!c.to || !c.from || kind < 0 || kind > cudaMemcpyDefault) return cudaErrorInvalidValue;
    bool to_device = is_device((u64)c.to), from_device = is_device((u64)c.from);
    bool to_visible = to_device || !pageable(c.to), from_visible = from_device || !pageable(c.from);
    if ((kind == cudaMemcpyHostToDevice && (!to_visible || from_device)) ||
        (kind == cudaMemcpyDeviceToHost && (to_device || !from_visible)) ||
        (kind == cudaMemcpyHostToHost && (to_device || from_device)) ||
        (kind == cudaMemcpyDeviceToDevice && (!to_visible || !from_visible)))
        return cudaErrorInvalidValue;
    for (auto& use : c.uses())
        if (!live_use(use)) return cudaErrorInvalidValue;
    return cudaSuccess;
}

// As CUDA does it: pageable memory is read at the call, and written before the call returns; all
// else happens in the stream.
cudaError_t copy_in(Stream& s, Copy c, cudaMemcpyKind kind, bool host_waits) {
    if (c.width == 0 || c.height == 0) return cudaSuccess;
    if (cudaError_t e = check(c, kind)) return set_error(e);
    bool to_host = pageable(c.to);
    if (!to_host && !host_waits && pageable(c.from) && !runs_at_once(s)) {
        auto image = std::make_shared<std::vector<u8>>(c.from, c.from + c.from_span());
        c.from = image->data();
        submit(s, "copy", [c, image] { c.run(); }, {c.uses()[1]});
        return cudaSuccess;
    }
    submit(
        s, "copy", [c] { c.run(); }, c.uses());
    if (to_host || host_waits) {
        wait(s);
        order().host_waited(order().issued(s.order_slot));
    }
    return set_error(sticky_error());
}

cudaError_t copy_now(Copy c, cudaMemcpyKind kind) {
    // Between two places on the device the host does not wait.
    bool device_only = is_device((u64)c.to) && is_device((u64)c.from);
    return copy_in(legacy_stream(), c, kind, !device_only);
}

cudaError_t fill_in(Stream& s, void* p, size_t pitch, int value, size_t width, size_t height) {
    if (width == 0 || height == 0) return cudaSuccess;
    if (width > pitch) return set_error(cudaErrorInvalidPitchValue);
    MemoryUse use{p, (height - 1) * pitch + width, true, "fill"};
    if (!p || pageable(p) || !live_use(use)) return set_error(cudaErrorInvalidValue);
    auto run = [=] {
        for (size_t r = 0; r < height; ++r) {
            memset(host_view((u64)p + r * pitch), value, width);
            mark_init((u64)p + r * pitch, width);
        }
    };
    submit(s, "fill", run, {use});
    return cudaSuccess;
}

cudaError_t copy_symbol(Stream& s, const void* symbol, void* to, const void* from, size_t n,
                        size_t offset, bool host_waits) {
    size_t size = 0;
    u64 a = symbol_address(symbol, &size);
    if (!a) return set_error(cudaErrorInvalidSymbol);
    if (offset + n > size) return set_error(cudaErrorInvalidValue);
    u8* variable = (u8*)a + offset;
    Copy c{to ? (u8*)to : variable, n, from ? (const u8*)from : variable, n, n, 1};
    return copy_in(s, c, cudaMemcpyDefault, host_waits);
}

Copy line(void* to, const void* from, size_t n) { return {(u8*)to, n, (const u8*)from, n, n, 1}; }

}  // namespace

extern "C" {

cudaError_t cudaMemcpy(void* to, const void* from, size_t n, cudaMemcpyKind kind) {
    PTXEMU_API_BEGIN;
    return copy_now(line(to, from, n), kind);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind kind,
                            cudaStream_t handle) {
    PTXEMU_STREAM(s, handle);
    return copy_in(*s, line(to, from, n), kind, false);
}
cudaError_t cudaMemcpyPeer(void* to, int, const void* from, int, size_t n) {
    return cudaMemcpy(to, from, n, cudaMemcpyDeviceToDevice);
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t n, cudaStream_t s) {
    return cudaMemcpyAsync(to, from, n, cudaMemcpyDeviceToDevice, s);
}
cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                         size_t width, size_t height, cudaMemcpyKind kind) {
    PTXEMU_API_BEGIN;
    return copy_now({(u8*)to, to_pitch, (const u8*)from, from_pitch, width, height}, kind);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t handle) {
    PTXEMU_STREAM(s, handle);
    return copy_in(*s, {(u8*)to, to_pitch, (const u8*)from, from_pitch, width, height}, kind,
                   false);
}

cudaError_t cudaMemset(void* p, int value, size_t n) {
    PTXEMU_API_BEGIN;
    return fill_in(legacy_stream(), p, n, value, n, 1);
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t n, cudaStream_t handle) {
    PTXEMU_STREAM(s, handle);
    return fill_in(*s, p, n, value, n, 1);
}
cudaError_t cudaMemset2D(void* p, size_t pitch, int value, size_t width, size_t height) {
    PTXEMU_API_BEGIN;
    return fill_in(legacy_stream(), p, pitch, value, width, height);
}
cudaError_t cudaMemset2DAsync(void* p, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t handle) {
    PTXEMU_STREAM(s, handle);
    return fill_in(*s, p, pitch, value, width, height);
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, size_t n, size_t offset,
                               cudaMemcpyKind) {
    PTXEMU_API_BEGIN;
    return copy_symbol(legacy_stream(), symbol, nullptr, from, n, offset, true);
}
cudaError_t cudaMemcpyToSymbolAsync(const void* symbol, const void* from, size_t n, size_t offset,
                                    cudaMemcpyKind, cudaStream_t handle) {
    PTXEMU_STREAM(s, handle);
    return copy_symbol(*s, symbol, nullptr, from, n, offset, false);
}
cudaError_t cudaMemcpyFromSymbol(void* to, const void* symbol, size_t n, size_t offset,
                                 cudaMemcpyKind) {
    PTXEMU_API_BEGIN;
    return copy_symbol(legacy_stream(), symbol, to, nullptr, n, offset, true);
}
cudaError_t cudaMemcpyFromSymbolAsync(void* to, const void* symbol, size_t n, size_t offset,
                                      cudaMemcpyKind, cudaStream_t handle) {
    PTXEMU_STREAM(s, handle);
    return copy_symbol(*s, symbol, to, nullptr, n, offset, false);
}

PTXEMU_ALIAS(cudaMemcpy, ptds)
PTXEMU_ALIAS(cudaMemcpyAsync, ptsz)
PTXEMU_ALIAS(cudaMemcpy2D, ptds)
PTXEMU_ALIAS(cudaMemcpy2DAsync, ptsz)
PTXEMU_ALIAS(cudaMemset, ptds)
PTXEMU_ALIAS(cudaMemsetAsync, ptsz)
PTXEMU_ALIAS(cudaMemset2DAsync, ptsz)
PTXEMU_ALIAS(cudaMemcpyToSymbol, ptds)
PTXEMU_ALIAS(cudaMemcpyToSymbolAsync, ptsz)
PTXEMU_ALIAS(cudaMemcpyFromSymbol, ptds)
PTXEMU_ALIAS(cudaMemcpyFromSymbolAsync, ptsz)
}
