// Resolving addresses of every space, with the checks. Used by loads, stores, atomics and the
// matrix loads.
#pragma once
#include "kernels/ptxemu/interpreter/block_order.h"
#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/global_shadow.h"
#include "kernels/ptxemu/interpreter/memory.h"
#include "kernels/ptxemu/interpreter/shadow.h"
#include "kernels/ptxemu/interpreter/stats.h"

namespace ptxemu {

[[noreturn]] void shared_oob(Warp& w, const Ins& i, int lane, u64 addr, u32 size);
[[noreturn]] void misaligned(Warp& w, const Ins& i, int lane, u64 addr, u32 size);
[[noreturn]] void local_oob(Warp& w, const Ins& i, int lane, u64 addr, u32 size);
[[noreturn]] void param_oob(Warp& w, const Ins& i, int lane, u64 addr, u32 size);

inline u8* shared_at(Warp& w, const Ins& i, int l, u64 a, u32 size) {
    u64 off = a - kSharedBase;
    if (__builtin_expect(off >= w.blk->L->shared_bytes || off + size > w.blk->L->shared_bytes, 0))
        shared_oob(w, i, l, a, size);
    return w.blk->smem + off;
}
inline u8* local_at(Warp& w, const Ins& i, int l, u64 a, u32 size) {
    u32 n = w.blk->L->prog->local_bytes;
    if (__builtin_expect(a + size > n, 0)) local_oob(w, i, l, a, size);
    return w.local + (size_t)n * (u32)l + a;
}
inline u8* param_at(Warp& w, const Ins& i, int l, u64 a, u32 size) {
    auto& p = w.blk->L->params;
    if (__builtin_expect(a + size > p.size(), 0)) param_oob(w, i, l, a, size);
    return (u8*)p.data() + a;
}

struct Place {
    u8* p;
    bool shared;
    u32 off;
};
template <Space S>
inline Place place(Warp& w, const Ins& i, int l, u64 a, u32 size) {
    if constexpr (S == SpGlobal || S == SpConst)
        return {global(w, i, l, a, size), false, 0};
    else if constexpr (S == SpShared) {
        if (a - kSharedWindow < kWindowSize) a -= kSharedWindow;
        return {shared_at(w, i, l, a, size), true, (u32)(a - kSharedBase)};
    } else if constexpr (S == SpLocal || S == SpParamFn)
        return {local_at(w, i, l, a, size), false, 0};
    else if constexpr (S == SpParam)
        return {param_at(w, i, l, a - kParamWindow < kWindowSize ? a - kParamWindow : a, size),
                false, 0};
    else {
        if (a - kSharedWindow < kWindowSize) {
            a -= kSharedWindow;
            return {shared_at(w, i, l, a, size), true, (u32)(a - kSharedBase)};
        }
        if (a - kLocalWindow < kWindowSize)
            return {local_at(w, i, l, a - kLocalWindow, size), false, 0};
        if (a - kParamWindow < kWindowSize)
            return {param_at(w, i, l, a - kParamWindow, size), false, 0};
        return {global(w, i, l, a, size), false, 0};
    }
}

// addresses of all lanes; sub2: the base register has 32 bits
inline void addresses(Warp& w, const Ins& i, int slot, u64* A) {
    if (i.sub2) {
        const u32* a = w.reg<u32>(i.o[slot]);
        for (int l = 0; l < 32; ++l) A[l] = (u32)(a[l] + (u32)i.imm);
    } else {
        const u64* a = w.reg<u64>(i.o[slot]);
        for (int l = 0; l < 32; ++l) A[l] = a[l] + (u64)i.imm;
    }
}

// The part of the check for races in global memory that every kind of access needs (lanes that go
// elsewhere have no shadow).
inline bool races(const Warp& w) { return w.blk->order != nullptr; }
u8 order_of(Dec& d);  // kStrong and so on, by the instruction's qualifiers
// After a read, and before a write.
void note_read(Warp& w, const Ins& i, const u64* addresses, u32 lanes, u32 bytes);
template <class Same>
void note_write(Warp& w, const Ins& i, const u64* addresses, u32 lanes, u32 bytes, Same&& same) {
    u32 clock = w.clock;
    if (i.order & kStrong)
        ptxemu::lanes(lanes, [&](int l) {
            clock = std::min(clock, order_write(w, addresses[l], i.order, false));
        });
    global_write(w, i, addresses, lanes, bytes, clock, SameValue(same));
}

void count_access(Warp& w, const Ins& i, u32 m, const u64* A, u32 bytes, bool load, Space s);

// fills o[slot], imm and sub2 from an address operand, and finds the space
Space address_of(Dec& d, const Opnd& o, int slot);

}  // namespace ptxemu
