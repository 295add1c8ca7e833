// Allocation of the run-time API: device and pinned memory, memory pools.
#include <algorithm>
#include <map>
#include <string>

#include "kernels/ptxemu/interpreter/global_shadow.h"
#include "kernels/ptxemu/runtime/profile.h"
#include "kernels/ptxemu/runtime/runtime.h"

using namespace ptxemu;

namespace {

// Freed memory is never used again, which is what finds its late users: what a pool keeps is only
// counted, and lacks elsewhere.
struct Pool {
    u64 release_threshold = 0;
    u64 used = 0, kept = 0;
};
Pool& default_pool() {
    static Pool& p = *new Pool;
    return p;
}
auto& owners = *new std::map<void*, std::pair<Pool*, u64>>;  // of live memory: its pool and size
u64 kept_by_pools = 0;

// As if the pool's kept memory, where it has some, were the first to be used.
u64 unkept(const Pool* pool, u64 n) { return n - std::min(n, pool ? pool->kept : 0); }

void set_kept(Pool& pool, u64 kept) {
    kept_by_pools += kept - pool.kept;
    pool.kept = kept;
}
void give_back(void* p) {
    auto it = owners.find(p);
    if (it == owners.end()) return;
    auto [pool, n] = it->second;
    owners.erase(it);
    pool->used -= n;
    u64 room = pool->release_threshold - std::min(pool->release_threshold, pool->kept);
    set_kept(*pool, pool->kept + std::min(n, room));
}

cudaError_t allocate(void** p, size_t n, AllocKind kind, u32 born = 0, Pool* pool = nullptr) {
    if (!p) return set_error(cudaErrorInvalidValue);
    *p = nullptr;
    if (n == 0) return cudaSuccess;
    if (kind == AllocKind::Device && mem_used() + kept_by_pools + unkept(pool, n) > device_memory())
        return set_error(cudaErrorMemoryAllocation);
    u64 a = mem_alloc(n, kind, "", born);
    if (!a) return set_error(cudaErrorMemoryAllocation);
    *p = (void*)a;
    if (pool) {
        set_kept(*pool, pool->kept - std::min<u64>(pool->kept, n));
        pool->used += n;
        owners[*p] = {pool, n};
    }
    return cudaSuccess;
}

bool starts_allocation(const void* p) {
    Alloc x;
    return mem_find((u64)p, x) && x.lo == (u64)p && x.kind != AllocKind::Registered &&
           x.kind != AllocKind::Variable;
}

// The device must be idle for these.
cudaError_t release(void* p) {
    if (!p) return cudaSuccess;
    if (!starts_allocation(p)) return set_error(cudaErrorInvalidValue);
    wait_all();
    order().host_waited_for_all();
    if (mem_free((u64)p)) give_back(p);
    return set_error(sticky_error());
}

// The two ends of an allocation in a stream's order.
struct Birth : Work {
    Birth() { label = "cudaMallocAsync"; }
    void start() override {}
};
struct Death : Work {
    void* p = nullptr;
    Death() { label = "cudaFreeAsync"; }
    void start() override {
        if (mem_free((u64)p, &order))
            give_back(p);
        else
            live_use({p, 1, false, "free"});
    }
};

cudaError_t allocate_in(Stream& s, void** p, size_t n, Pool& pool) {
    auto birth = std::make_shared<Birth>();
    submit({&s}, birth);
    return allocate(p, n, AllocKind::Device, birth->order.id, &pool);
}

cudaError_t release_in(Stream& s, void* p) {
    if (!p) return cudaSuccess;
    if (!starts_allocation(p)) return set_error(cudaErrorInvalidValue);
    auto death = std::make_shared<Death>();
    death->p = p;
    submit({&s}, death);
    return cudaSuccess;
}

}  // namespace

namespace ptxemu {

bool live_use(const MemoryUse& use) {
    u64 a = (u64)use.at;
    if (!is_device(a)) return true;
    Alloc x;
    if (mem_find(a, x) && a + use.bytes <= x.hi) return true;
    report(Fault::Oob, nullptr, (const Ins*)(a ^ use.bytes), 0, a, true,
           std::string(use.what) + " of " + std::to_string(use.bytes) +
               " bytes at device address " + std::to_string(a) + ": " + mem_describe(a, use.bytes));
    return false;
}

void check_use(const MemoryUse& use, const Work& by) {
    if (!live_use(use)) return;
    mem_use((u64)use.at, by.order);
    global_range((u64)use.at, use.bytes, use.write, by.order);
}

}  // namespace ptxemu

extern "C" {

void* ptxemu_host_view(const void* p) { return host_view((u64)p); }
void* ptxemu_range(const void* p, size_t n, const char* what) {
    std::lock_guard l(api_lock());
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

cudaError_t cudaMalloc(void** p, size_t n) {
    PTXEMU_API_BEGIN;
    return allocate(p, n, AllocKind::Device);
}
cudaError_t cudaMallocAsync(void** p, size_t n, cudaStream_t handle) {
    PTXEMU_STREAM(s, handle);
    return allocate_in(*s, p, n, default_pool());
}
cudaError_t cudaMallocFromPoolAsync(void** p, size_t n, cudaMemPool_t pool, cudaStream_t handle) {
    PTXEMU_STREAM(s, handle);
    if (!pool) return set_error(cudaErrorInvalidValue);
    return allocate_in(*s, p, n, *(Pool*)pool);
}
cudaError_t cudaMallocManaged(void** p, size_t n, unsigned) {
    PTXEMU_API_BEGIN;
    return allocate(p, n, AllocKind::Managed);
}
cudaError_t cudaMallocHost(void** p, size_t n) {
    PTXEMU_API_BEGIN;
    return allocate(p, n, AllocKind::Host);
}
cudaError_t cudaHostAlloc(void** p, size_t n, unsigned flags) {
    PTXEMU_API_BEGIN;
    if (flags &
        ~(unsigned)(cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined))
        return set_error(cudaErrorInvalidValue);
    return allocate(p, n, AllocKind::Host);
}
cudaError_t cudaMallocPitch(void** p, size_t* pitch, size_t width, size_t height) {
    PTXEMU_API_BEGIN;
    *pitch = (width + 511) / 512 * 512;
    return allocate(p, *pitch * height, AllocKind::Device);
}
cudaError_t cudaFree(void* p) {
    PTXEMU_API_BEGIN;
    return release(p);
}
cudaError_t cudaFreeHost(void* p) {
    PTXEMU_API_BEGIN;
    return release(p);
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t handle) {
    PTXEMU_STREAM(s, handle);
    return release_in(*s, p);
}

cudaError_t cudaHostRegister(void* p, size_t n, unsigned) {
    PTXEMU_API_BEGIN;
    if (!p || !n) return set_error(cudaErrorInvalidValue);
    Alloc x;
    if (mem_find((u64)p, x) || mem_find((u64)p + n - 1, x))
        return set_error(cudaErrorHostMemoryAlreadyRegistered);
    mem_register((u64)p, n, AllocKind::Registered);
    return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* p) {
    PTXEMU_API_BEGIN;
    wait_all();
    return mem_unregister((u64)p) ? cudaSuccess : set_error(cudaErrorHostMemoryNotRegistered);
}
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
    PTXEMU_API_BEGIN;
    Alloc x;
    if (!mem_find((u64)host, x)) return set_error(cudaErrorInvalidValue);
    *device = host;
    return cudaSuccess;
}
cudaError_t cudaHostGetFlags(unsigned* flags, void* p) {
    PTXEMU_API_BEGIN;
    Alloc x;
    if (!mem_find((u64)p, x) || is_device((u64)p)) return set_error(cudaErrorInvalidValue);
    *flags = cudaHostAllocMapped;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    PTXEMU_API_BEGIN;
    *total = device_memory();
    *free = device_memory() - mem_used() - kept_by_pools;
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
    bool host = x.kind == AllocKind::Host || x.kind == AllocKind::Registered;
    a->type = x.kind == AllocKind::Managed ? cudaMemoryTypeManaged
              : host                       ? cudaMemoryTypeHost
                                           : cudaMemoryTypeDevice;
    a->devicePointer = (void*)p;
    a->hostPointer = a->type == cudaMemoryTypeDevice ? nullptr : (void*)p;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
    *pool = (cudaMemPool_t)&default_pool();
    return cudaSuccess;
}
cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* pool, int d) {
    return cudaDeviceGetDefaultMemPool(pool, d);
}
cudaError_t cudaDeviceSetMemPool(int, cudaMemPool_t) { return cudaSuccess; }
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
    *pool = (cudaMemPool_t) new Pool;
    ptxemu_created(*pool, "a memory pool");
    return cudaSuccess;
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
    if (!pool || (Pool*)pool == &default_pool()) return set_error(cudaErrorInvalidValue);
    ptxemu_destroyed(pool);
    set_kept(*(Pool*)pool, 0);
    std::erase_if(owners, [&](const auto& owner) { return owner.second.first == (Pool*)pool; });
    delete (Pool*)pool;
    return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t least) {
    PTXEMU_API_BEGIN;
    if (!pool) return set_error(cudaErrorInvalidValue);
    Pool& of = *(Pool*)pool;
    set_kept(of, std::min(of.kept, least - std::min(least, of.used)));
    return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr a, void* v) {
    if (!pool) return set_error(cudaErrorInvalidValue);
    if (a == cudaMemPoolAttrReleaseThreshold) ((Pool*)pool)->release_threshold = *(u64*)v;
    return cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr a, void* v) {
    if (!pool) return set_error(cudaErrorInvalidValue);
    const Pool& of = *(Pool*)pool;
    if (a < cudaMemPoolAttrReleaseThreshold)
        *(int*)v = 1;
    else if (a == cudaMemPoolAttrReleaseThreshold)
        *(u64*)v = of.release_threshold;
    else
        *(u64*)v = of.used + (a == cudaMemPoolAttrReservedMemCurrent ? of.kept : 0);
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

PTXEMU_ALIAS(cudaMallocAsync, ptsz)
PTXEMU_ALIAS(cudaMallocFromPoolAsync, ptsz)
PTXEMU_ALIAS(cudaFreeAsync, ptsz)
}
