// Layout, found by experiment: a 16-byte header (magic ba55ed50, u16 version, u16 header bytes, u64
// payload bytes), then entries:
//   u16 kind (1 PTX, 2 ELF)  u16 version  u32 header bytes  u64 payload bytes (padded)  u32
//   compressed bytes (0: plain) u32 ?  u16 minor u16 major  u32 arch  u32 name offset  u32 name
//   bytes  u64 flags  u64 ?  u64 plain bytes
#include "kernels/ptxemu/interpreter/fatbin.h"

#include <lz4.h>
#include <zstd.h>

#include <cstdio>

#include "kernels/ptxemu/interpreter/report.h"

namespace ptxemu {

namespace {
struct Wrapper {
    int magic, version;
    const u8* data;
    void* extra;
};
template <class T>
T get(const u8* p) {
    T v;
    memcpy(&v, p, sizeof v);
    return v;
}
}  // namespace

std::vector<FatEntry> fat_entries(const void* wrapper) {
    std::vector<FatEntry> out;
    const Wrapper* w = (const Wrapper*)wrapper;
    if (w->magic != 0x466243b1) unsupported("unknown fat binary wrapper");
    const u8* p = w->data;
    if (get<u32>(p) != 0xba55ed50) unsupported("unknown fat binary header");
    const u8* end = p + get<u16>(p + 6) + get<u64>(p + 8);
    p += get<u16>(p + 6);
    while (p + 64 <= end) {
        FatEntry e;
        u16 kind = get<u16>(p);
        u32 head = get<u32>(p + 4);
        u64 payload = get<u64>(p + 8);
        u32 packed = get<u32>(p + 16);
        e.ptx = kind == 1;
        e.arch = (int)get<u32>(p + 28);
        e.flags = get<u64>(p + 40);
        e.data = p + head;
        e.stored = packed ? packed : payload;
        e.size = packed ? get<u64>(p + 56) : payload;
        if (!packed) e.flags = 0;
        out.push_back(e);
        p += head + payload;
    }
    return out;
}

std::string fat_bytes(const FatEntry& e) {
    std::string s;
    if (e.stored == e.size && !e.flags) {
        s.assign((const char*)e.data, e.size);
    } else {
        s.resize(e.size);
        if (get<u32>(e.data) == 0xfd2fb528) {
            size_t n = ZSTD_decompress(s.data(), s.size(), e.data, e.stored);
            if (ZSTD_isError(n))
                unsupported(
                    "cannot decompress the fat binary (zstd); build with nvcc --no-compress");
            s.resize(n);
        } else {
            int n =
                LZ4_decompress_safe((const char*)e.data, s.data(), (int)e.stored, (int)s.size());
            if (n < 0)
                unsupported(
                    "cannot decompress the fat binary (lz4); build with nvcc --no-compress");
            s.resize((size_t)n);
        }
    }
    return s;
}

std::string fat_text(const FatEntry& e) {
    std::string s = fat_bytes(e);
    size_t z = s.find('\0');
    if (z != std::string::npos) s.resize(z);
    return s;
}

}  // namespace ptxemu
