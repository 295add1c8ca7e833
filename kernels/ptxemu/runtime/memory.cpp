// Allocation, copies, fills, pools of the runtime API.
#include <algorithm>
#include <cstdio>

#include "kernels/ptxemu/runtime/runtime.h"

using namespace ptxemu;

namespace {
// Is [p, p+n) inside one live allocation when it is a device address?
bool range_ok(const void* p, size_t n, const char* what) {
    u64 a = (u64)p;
    if (!is_device(a)) return true;
    Alloc x;
    if (mem_find(a, x) && a + n <= x.hi) return true;
    report(Fault::Oob, nullptr, (const Ins*)(a ^ n), 0, a, true,
           std::string(what) + " of " + std::to_string(n) + " bytes at device address " +
               std::to_string(a) + ": " + mem_describe(a, n));
    return false;
}
cudaError_t copy(void* d, const void* s, size_t n, cudaMemcpyKind k) {
    if (n == 0) return cudaSuccess;
    if (!d || !s) return set_error(cudaErrorInvalidValue);
    bool dd = is_device((u64)d), sd = is_device((u64)s);
    Alloc x;
    bool d_any = dd || mem_find((u64)d, x), s_any = sd || mem_find((u64)s, x);
    if ((k == cudaMemcpyHostToDevice && (!d_any || sd)) ||
        (k == cudaMemcpyDeviceToHost && (dd || !s_any)) ||
        (k == cudaMemcpyHostToHost && (dd || sd)) ||
        (k == cudaMemcpyDeviceToDevice && (!d_any || !s_any)) || k < 0 || k > 4)
        return set_error(cudaErrorInvalidValue);
    if (!range_ok(d, n, "copy to") || !range_ok(s, n, "copy from"))
        return set_error(cudaErrorInvalidValue);
    memmove(host_view((u64)d), host_view((u64)s), n);
    mark_init((u64)d, n);
    return cudaSuccess;
}
cudaError_t copy_2d(void* d, size_t dp, const void* s, size_t sp, size_t w, size_t h,
                    cudaMemcpyKind k) {
    if (w > dp || w > sp) return set_error(cudaErrorInvalidPitchValue);
    for (size_t r = 0; r < h; ++r) {
        cudaError_t e = copy((u8*)d + r * dp, (const u8*)s + r * sp, w, k);
        if (e) return e;
    }
    return cudaSuccess;
}
// A copy in a stream. Pageable host memory is read at once, and written only after the stream has
// run dry, as CUDA does.
cudaError_t copy_in(cudaStream_t st, void* d, const void* s, size_t n, cudaMemcpyKind k) {
    Alloc x;
    bool pageable_from = !is_device((u64)s) && !mem_find((u64)s, x),
         pageable_to = !is_device((u64)d) && !mem_find((u64)d, x);
    if (!opt().async) return copy(d, s, n, k);
    if (pageable_to) {
        drain(st);
        return copy(d, s, n, k);
    }
    if (pageable_from) {
        auto img = std::make_shared<std::vector<u8>>((const u8*)s, (const u8*)s + n);
        enqueue(st, [=] {
            copy(d, img->data(), n, k == cudaMemcpyHostToDevice ? cudaMemcpyDefault : k);
        });
    } else
        enqueue(st, [=] { copy(d, s, n, k); });
    return cudaSuccess;
}
cudaError_t fill(void* p, int v, size_t n) {
    if (n == 0) return cudaSuccess;
    Alloc x;
    if (!p || (!is_device((u64)p) && !mem_find((u64)p, x))) return set_error(cudaErrorInvalidValue);
    if (!range_ok(p, n, "fill")) return set_error(cudaErrorInvalidValue);
    memset(host_view((u64)p), v, n);
    mark_init((u64)p, n);
    return cudaSuccess;
}
cudaError_t alloc(void** p, size_t n, AllocKind k) {
    if (!p) return set_error(cudaErrorInvalidValue);
    *p = nullptr;
    if (n == 0) return cudaSuccess;
    u64 a = mem_alloc(n, k);
    if (!a) return set_error(cudaErrorMemoryAllocation);
    *p = (void*)a;
    return cudaSuccess;
}
cudaError_t release(void* p) {
    if (!p) return cudaSuccess;
    Alloc x;
    if (!mem_find((u64)p, x) || x.lo != (u64)p || !mem_free((u64)p))
        return set_error(cudaErrorInvalidValue);
    return cudaSuccess;
}
}  // namespace

extern "C" {

void* ptxemu_host_view(const void* p) { return host_view((u64)p); }

cudaError_t cudaMalloc(void** p, size_t n) {
    PTXEMU_API_BEGIN;
    return alloc(p, n, AllocKind::Device);
}
cudaError_t cudaMallocAsync(void** p, size_t n, cudaStream_t) {
    PTXEMU_API_BEGIN;
    return alloc(p, n, AllocKind::Device);
}
cudaError_t cudaMallocAsync_ptsz(void** p, size_t n, cudaStream_t) {
    PTXEMU_API_BEGIN;
    return alloc(p, n, AllocKind::Device);
}
cudaError_t cudaMallocFromPoolAsync(void** p, size_t n, cudaMemPool_t, cudaStream_t) {
    PTXEMU_API_BEGIN;
    return alloc(p, n, AllocKind::Device);
}
cudaError_t cudaMallocManaged(void** p, size_t n, unsigned) {
    PTXEMU_API_BEGIN;
    return alloc(p, n, AllocKind::Managed);
}
cudaError_t cudaMallocHost(void** p, size_t n) {
    PTXEMU_API_BEGIN;
    return alloc(p, n, AllocKind::Host);
}
cudaError_t cudaHostAlloc(void** p, size_t n, unsigned) {
    PTXEMU_API_BEGIN;
    return alloc(p, n, AllocKind::Host);
}
cudaError_t cudaMallocPitch(void** p, size_t* pitch, size_t w, size_t h) {
    PTXEMU_API_BEGIN;
    *pitch = (w + 511) / 512 * 512;
    return alloc(p, *pitch * h, AllocKind::Device);
}
cudaError_t cudaFree(void* p) {
    PTXEMU_API_BEGIN;
    drain_all();
    return release(p);
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t st) {
    PTXEMU_API_BEGIN;
    if (!opt().async) return release(p);
    enqueue(st, [=] { release(p); });
    return cudaSuccess;
}
cudaError_t cudaFreeAsync_ptsz(void* p, cudaStream_t st) {
    PTXEMU_API_BEGIN;
    if (!opt().async) return release(p);
    enqueue(st, [=] { release(p); });
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) {
    PTXEMU_API_BEGIN;
    drain_all();
    return release(p);
}
cudaError_t cudaHostRegister(void* p, size_t n, unsigned) {
    PTXEMU_API_BEGIN;
    Alloc x;
    if (!p || !n) return set_error(cudaErrorInvalidValue);
    if (mem_find((u64)p, x)) return set_error(cudaErrorHostMemoryAlreadyRegistered);
    mem_register((u64)p, n, AllocKind::Registered);
    return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* p) {
    PTXEMU_API_BEGIN;
    return mem_unregister((u64)p) ? cudaSuccess : set_error(cudaErrorHostMemoryNotRegistered);
}
cudaError_t cudaHostGetDevicePointer(void** d, void* h, unsigned) {
    PTXEMU_API_BEGIN;
    Alloc x;
    if (!mem_find((u64)h, x)) return set_error(cudaErrorInvalidValue);
    *d = h;
    return cudaSuccess;
}
cudaError_t cudaHostGetFlags(unsigned* f, void*) {
    *f = 0;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* f, size_t* t) {
    PTXEMU_API_BEGIN;
    *t = mem_total();
    *f = mem_total() - mem_used();
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
    PTXEMU_API_BEGIN;
    memset(a, 0, sizeof *a);
    Alloc x;
    if (!mem_find((u64)p, x)) {
        a->type = cudaMemoryTypeUnregistered;
        a->device = -1;
        a->hostPointer = (void*)p;
        return cudaSuccess;
    }
    a->type = x.kind == AllocKind::Managed                                   ? cudaMemoryTypeManaged
              : x.kind == AllocKind::Host || x.kind == AllocKind::Registered ? cudaMemoryTypeHost
                                                                             : cudaMemoryTypeDevice;
    a->devicePointer = (void*)p;
    a->hostPointer = a->type == cudaMemoryTypeDevice ? nullptr : (void*)p;
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void* d, const void* s, size_t n, cudaMemcpyKind k) {
    PTXEMU_API_BEGIN;
    drain(nullptr);
    return copy(d, s, n, k);
}
cudaError_t cudaMemcpy_ptds(void* d, const void* s, size_t n, cudaMemcpyKind k) {
    PTXEMU_API_BEGIN;
    drain(nullptr);
    return copy(d, s, n, k);
}
cudaError_t cudaMemcpyAsync(void* d, const void* s, size_t n, cudaMemcpyKind k, cudaStream_t st) {
    PTXEMU_API_BEGIN;
    return copy_in(st, d, s, n, k);
}
cudaError_t cudaMemcpyAsync_ptsz(void* d, const void* s, size_t n, cudaMemcpyKind k,
                                 cudaStream_t st) {
    PTXEMU_API_BEGIN;
    return copy_in(st, d, s, n, k);
}
cudaError_t cudaMemcpyPeer(void* d, int, const void* s, int, size_t n) {
    PTXEMU_API_BEGIN;
    return copy(d, s, n, cudaMemcpyDeviceToDevice);
}
cudaError_t cudaMemcpyPeerAsync(void* d, int, const void* s, int, size_t n, cudaStream_t st) {
    PTXEMU_API_BEGIN;
    return copy_in(st, d, s, n, cudaMemcpyDeviceToDevice);
}
cudaError_t cudaMemcpy2D(void* d, size_t dp, const void* s, size_t sp, size_t w, size_t h,
                         cudaMemcpyKind k) {
    PTXEMU_API_BEGIN;
    drain(nullptr);
    return copy_2d(d, dp, s, sp, w, h, k);
}
cudaError_t cudaMemcpy2DAsync(void* d, size_t dp, const void* s, size_t sp, size_t w, size_t h,
                              cudaMemcpyKind k, cudaStream_t st) {
    PTXEMU_API_BEGIN;
    drain(st);
    return copy_2d(d, dp, s, sp, w, h, k);
}
cudaError_t cudaMemset(void* p, int v, size_t n) {
    PTXEMU_API_BEGIN;
    drain(nullptr);
    return fill(p, v, n);
}
cudaError_t cudaMemsetAsync(void* p, int v, size_t n, cudaStream_t st) {
    PTXEMU_API_BEGIN;
    if (!opt().async) return fill(p, v, n);
    enqueue(st, [=] { fill(p, v, n); });
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync_ptsz(void* p, int v, size_t n, cudaStream_t st) {
    PTXEMU_API_BEGIN;
    if (!opt().async) return fill(p, v, n);
    enqueue(st, [=] { fill(p, v, n); });
    return cudaSuccess;
}
cudaError_t cudaMemset2D(void* p, size_t pitch, int v, size_t w, size_t h) {
    PTXEMU_API_BEGIN;
    drain(nullptr);
    for (size_t r = 0; r < h; ++r)
        if (cudaError_t e = fill((u8*)p + r * pitch, v, w)) return e;
    return cudaSuccess;
}
cudaError_t cudaMemset2DAsync(void* p, size_t pitch, int v, size_t w, size_t h, cudaStream_t st) {
    drain(st);
    return cudaMemset2D(p, pitch, v, w, h);
}

static cudaError_t symbol_copy(const void* sym, void* host, const void* from, size_t n, size_t off,
                               bool to) {
    drain_all();
    size_t size = 0;
    u64 a = symbol_address(sym, &size);
    if (!a) return set_error(cudaErrorInvalidSymbol);
    if (off + n > size) return set_error(cudaErrorInvalidValue);
    if (to)
        memcpy(host_view(a + off), host_view((u64)from), n);
    else
        memcpy(host_view((u64)host), host_view(a + off), n);
    return cudaSuccess;
}
cudaError_t cudaMemcpyToSymbol(const void* s, const void* src, size_t n, size_t off,
                               cudaMemcpyKind) {
    PTXEMU_API_BEGIN;
    return symbol_copy(s, nullptr, src, n, off, true);
}
cudaError_t cudaMemcpyToSymbolAsync(const void* s, const void* src, size_t n, size_t off,
                                    cudaMemcpyKind, cudaStream_t) {
    PTXEMU_API_BEGIN;
    return symbol_copy(s, nullptr, src, n, off, true);
}
cudaError_t cudaMemcpyFromSymbol(void* d, const void* s, size_t n, size_t off, cudaMemcpyKind) {
    PTXEMU_API_BEGIN;
    return symbol_copy(s, d, nullptr, n, off, false);
}
cudaError_t cudaMemcpyFromSymbolAsync(void* d, const void* s, size_t n, size_t off, cudaMemcpyKind,
                                      cudaStream_t) {
    PTXEMU_API_BEGIN;
    return symbol_copy(s, d, nullptr, n, off, false);
}

static int pool_tag;
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* p, int) {
    *p = (cudaMemPool_t)&pool_tag;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* p, int) {
    *p = (cudaMemPool_t)&pool_tag;
    return cudaSuccess;
}
cudaError_t cudaDeviceSetMemPool(int, cudaMemPool_t) { return cudaSuccess; }
cudaError_t cudaMemPoolCreate(cudaMemPool_t* p, const cudaMemPoolProps*) {
    *p = (cudaMemPool_t)&pool_tag;
    return cudaSuccess;
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr a, void* v) {
    if (a >= cudaMemPoolAttrReleaseThreshold)
        *(u64*)v = a == cudaMemPoolAttrUsedMemCurrent || a == cudaMemPoolAttrReservedMemCurrent
                       ? mem_used()
                       : 0;
    else
        *(int*)v = 1;
    return cudaSuccess;
}
cudaError_t cudaMemPoolSetAccess(cudaMemPool_t, const cudaMemAccessDesc*, size_t) {
    return cudaSuccess;
}
cudaError_t cudaMemPrefetchAsync(const void*, size_t, cudaMemLocation, unsigned, cudaStream_t) {
    return cudaSuccess;
}
cudaError_t cudaMemAdvise(const void*, size_t, cudaMemoryAdvise, cudaMemLocation) {
    return cudaSuccess;
}
}

// For the library stand-ins: where to touch n bytes at p, or a report and null.
extern "C" void* ptxemu_range(const void* p, size_t n, const char* what) {
    std::lock_guard<std::recursive_mutex> l(api_lock());
    Alloc x;
    if (p && mem_find((u64)p, x) && (u64)p + n <= x.hi) {
        mark_init((u64)p, n);  // the libraries may write there
        return host_view((u64)p);
    }
    report(Fault::Oob, nullptr, (const Ins*)((u64)p ^ n), 0, (u64)p, true,
           std::string(what) + " of " + std::to_string(n) +
               " bytes is not device memory: " + mem_describe((u64)p, n));
    return nullptr;
}

#define ALIAS(name, suffix) extern "C" decltype(name) name##_##suffix __attribute__((alias(#name)));

ALIAS(cudaMemset, ptds);
ALIAS(cudaMemcpy2D, ptds);
ALIAS(cudaMemcpy2DAsync, ptsz);
ALIAS(cudaMemcpyToSymbol, ptds);
ALIAS(cudaMemcpyFromSymbol, ptds);
ALIAS(cudaMemcpyToSymbolAsync, ptsz);
ALIAS(cudaMemcpyFromSymbolAsync, ptsz);
ALIAS(cudaMallocFromPoolAsync, ptsz);
ALIAS(cudaMemset2DAsync, ptsz);
