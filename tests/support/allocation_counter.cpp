#include "tests/support/allocation_counter.h"

#include <link.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <string_view>

extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* data, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
}

namespace {

std::atomic<int64_t> heap{0};
std::atomic<int64_t> onednn{0};
std::atomic<int64_t> system_calls{0};

/// Where oneDNN's code lies.
struct CodeRange {
    uintptr_t begin = 0;
    uintptr_t end = 0;
};

int find_onednn(dl_phdr_info* object, size_t, void* found) {
    if (std::string_view(object->dlpi_name).find("libdnnl") == std::string_view::npos) {
        return 0;
    }
    for (int i = 0; i < object->dlpi_phnum; ++i) {
        const auto& segment = object->dlpi_phdr[i];
        if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0) {
            const uintptr_t begin = object->dlpi_addr + segment.p_vaddr;
            *static_cast<CodeRange*>(found) = {begin, begin + segment.p_memsz};
        }
    }
    return 1;
}

void count(const void* caller) {
    // Found on the first call, when every library of the program has been loaded.
    static const CodeRange code = [] {
        CodeRange range;
        dl_iterate_phdr(find_onednn, &range);
        return range;
    }();
    const auto address = reinterpret_cast<uintptr_t>(caller);
    heap.fetch_add(1, std::memory_order_relaxed);
    onednn.fetch_add(address >= code.begin && address < code.end ? 1 : 0,
                     std::memory_order_relaxed);
}

void* or_throw(void* data) {
    if (data == nullptr) {
        throw std::bad_alloc();
    }
    return data;
}

}  // namespace

namespace lathe::testing {

Allocations allocations() { return {.heap = heap, .onednn = onednn, .system = system_calls}; }

}  // namespace lathe::testing

// Every one of these is called in place of the C library's or the C++ library's own.

extern "C" {

void* malloc(size_t size) {
    count(__builtin_return_address(0));
    return __libc_malloc(size);
}

void* calloc(size_t number, size_t size) {
    count(__builtin_return_address(0));
    return __libc_calloc(number, size);
}

void* realloc(void* data, size_t size) {
    count(__builtin_return_address(0));
    return __libc_realloc(data, size);
}

void* aligned_alloc(size_t alignment, size_t size) {
    system_calls.fetch_add(1, std::memory_order_relaxed);
    count(__builtin_return_address(0));
    return __libc_memalign(alignment, size);
}

int posix_memalign(void** data, size_t alignment, size_t size) {
    count(__builtin_return_address(0));
    *data = __libc_memalign(alignment, size);
    return *data == nullptr ? ENOMEM : 0;
}

void* mmap(void* address, size_t length, int protection, int flags, int file, off_t offset) {
    system_calls.fetch_add(1, std::memory_order_relaxed);
    return reinterpret_cast<void*>(
        syscall(SYS_mmap, address, length, protection, flags, file, offset));
}

}  // extern "C"

void* operator new(size_t size) {
    count(__builtin_return_address(0));
    return or_throw(__libc_malloc(size));
}

void* operator new[](size_t size) {
    count(__builtin_return_address(0));
    return or_throw(__libc_malloc(size));
}

void* operator new(size_t size, std::align_val_t alignment) {
    count(__builtin_return_address(0));
    return or_throw(__libc_memalign(static_cast<size_t>(alignment), size));
}

void operator delete(void* data) noexcept { std::free(data); }
void operator delete[](void* data) noexcept { std::free(data); }
void operator delete(void* data, size_t) noexcept { std::free(data); }
void operator delete[](void* data, size_t) noexcept { std::free(data); }
void operator delete(void* data, std::align_val_t) noexcept { std::free(data); }
void operator delete(void* data, size_t, std::align_val_t) noexcept { std::free(data); }
