// wgmma (sm_90a). Each warp of the warpgroup computes its 16 rows; results are there at once, the
// waits do nothing: PTX moves accumulators between registers while products are under way, so a
// poison would hit correct programs.
#include <algorithm>
#include <cmath>

#include "kernels/ptxemu/interpreter/access.h"
#include "kernels/ptxemu/interpreter/lane.h"
#include "kernels/ptxemu/interpreter/smallfloat.h"

namespace ptxemu {
namespace {

enum Kind : u8 { KF16, KBF16, KTF32, KE4, KE5, KS8, KU8 };
int bytes_of(Kind k) { return k == KTF32 ? 4 : k <= KBF16 ? 2 : 1; }
float value(Kind k, const u8* p) {
    u16 h;
    u32 w;
    switch (k) {
        case KF16:
            memcpy(&h, p, 2);
            return to_f(f16{h});
        case KBF16:
            memcpy(&h, p, 2);
            return to_f(bf16{h});
        case KTF32:
            memcpy(&w, p, 4);
            return std::bit_cast<float>(w & ~0x1fffu);
        case KE4:
            return E4M3f::to(*p);
        case KE5:
            return E5M2f::to(*p);
        case KS8:
            return (float)(i8)*p;
        default:
            return (float)*p;
    }
}

// A shared-memory matrix descriptor. Rows are the M or N index, columns the K index.
struct Matrix {
    u32 start, lead, stride, swizzle;  // swizzle: 0 none, 1 128 bytes, 2 64, 3 32
    bool mn_major;
    int es;
    Matrix(u64 d, bool mn, int bytes) : mn_major(mn), es(bytes) {
        start = (u32)(d & 0x3fff) << 4;
        lead = (u32)((d >> 16) & 0x3fff) << 4;
        stride = (u32)((d >> 32) & 0x3fff) << 4;
        swizzle = (u32)(d >> 62);
    }
    u32 address(u32 row, u32 k) const {
        const u32 width = swizzle == 0   ? 16
                          : swizzle == 1 ? 128
                          : swizzle == 2 ? 64
                                         : 32;  // bytes of a line of the atom
        u32 a;
        if (!mn_major) {
            u32 kb = k * (u32)es;
            a = swizzle == 0 ? start + row / 8 * stride + row % 8 * 16 + kb / 16 * lead + kb % 16
                             : start + row / 8 * stride + row % 8 * width + kb;
        } else {
            u32 per = width / (u32)es;  // elements of a line
            if (swizzle == 0)
                a = start + row / per * stride + k / 8 * lead + k % 8 * 16 + row % per * (u32)es;
            else
                a = start + row / per * lead + k / 8 * stride + k % 8 * width + row % per * (u32)es;
        }
        u32 mask = swizzle == 0 ? 0 : swizzle == 1 ? 7 : swizzle == 2 ? 3 : 1;
        return a ^ (((a >> 7) & mask) << 4);
    }
};

// One 16-byte-at-a-time check of what the product reads.
void touch(Warp& w, const Ins& i, u32 a, u32 n) {
    shared_at(w, i, 0, a, n);
    if (w.blk->shadow) w.blk->shadow->read(w, i, 0, a - kSharedBase, n, true);
}

// ext: d registers, then a registers (if not from shared); o[1] A descriptor, o[2] B descriptor,
// o[3] scale-d predicate sub A kind, sub2 B kind, sub3: 0 f32 1 f16 2 s32; sub4 bits: 1 negate A, 2
// negate B, 4 trans A, 8 trans B, 16 A in registers, 32 not predicate; imm N
Ctl wgmma(Warp& w, const Ins& i, u32 m) {
    if (m != ~0u) return WaitWarp;
    const Kind ka = (Kind)i.sub, kb = (Kind)i.sub2;
    const int es = bytes_of(ka), K = 32 / es, N = (int)i.imm, nd = i.sub3 == 1 ? N / 4 : N / 2;
    const u32 warp = w.id % 4;
    double A[16][32];
    std::vector<double> B((size_t)K * (size_t)N), acc(16 * (size_t)N);
    if (i.sub4 & 16) {
        const int e = 4 / es;
        for (int r = 0; r < 4; ++r) {
            const u32* v = w.reg<u32>(i.ext[(size_t)(nd + r)]);
            for (int l = 0; l < 32; ++l)
                for (int q = 0; q < e; ++q) {
                    u32 x = v[l];
                    A[(l >> 2) + 8 * (r & 1)][(r >> 1) * 4 * e + (l & 3) * e + q] =
                        value(ka, (const u8*)&x + q * es);
                }
        }
    } else {
        Matrix M(w.reg<u64>(i.o[1])[0], i.sub4 & 4, es);
        for (u32 r = 0; r < 16; ++r)
            for (int k = 0; k < K; ++k) {
                u32 a = M.address(warp * 16 + r, (u32)k);
                touch(w, i, a, (u32)es);
                A[r][k] = value(ka, w.blk->smem + (a - kSharedBase));
            }
    }
    Matrix M(w.reg<u64>(i.o[2])[0], i.sub4 & 8, es);
    for (u32 c = 0; c < (u32)N; ++c)
        for (int k = 0; k < K; ++k) {
            u32 a = M.address(c, (u32)k);
            touch(w, i, a, (u32)es);
            B[(size_t)k * (size_t)N + c] = value(kb, w.blk->smem + (a - kSharedBase));
        }
    u32 p = w.pred(i.o[3]);
    bool add = ((i.sub4 & 32) ? ~p : p) & 1;
    auto cell = [&](int l, int q) -> double& {  // q-th value of the lane
        int row = (l >> 2) + 8 * ((q >> 1) & 1), col = q / 4 * 8 + (l & 3) * 2 + (q & 1);
        return acc[(size_t)row * (size_t)N + (size_t)col];
    };
    for (int l = 0; l < 32; ++l)
        for (int q = 0; q < N / 2; ++q) {
            double c = 0;
            if (add) {
                if (i.sub3 == 1)
                    c = to_f(f16{(u16)(w.reg<u32>(i.ext[(size_t)(q / 2)])[l] >> (16 * (q & 1)))});
                else if (i.sub3 == 2)
                    c = (double)(i32)w.reg<u32>(i.ext[(size_t)q])[l];
                else
                    c = w.reg<float>(i.ext[(size_t)q])[l];
            }
            cell(l, q) = c;
        }
    const double sg = ((i.sub4 & 1) != 0) != ((i.sub4 & 2) != 0) ? -1 : 1;
    for (int r = 0; r < 16; ++r)
        for (int k = 0; k < K; ++k) {
            double a = sg * A[r][k];
            const double* b = &B[(size_t)k * (size_t)N];
            double* d = &acc[(size_t)r * (size_t)N];
            for (int c = 0; c < N; ++c) d[c] += a * b[c];
        }
    for (int l = 0; l < 32; ++l)
        for (int q = 0; q < N / 2; ++q) {
            double v = cell(l, q);
            if (i.sub3 == 1) {
                u32& d = w.reg<u32>(i.ext[(size_t)(q / 2)])[l];
                u32 h = to_h(v).v;
                d = q & 1 ? (d & 0xffff) | h << 16 : (d & 0xffff0000u) | h;
            } else if (i.sub3 == 2)
                w.reg<u32>(i.ext[(size_t)q])[l] = (u32)(i64)v;
            else
                w.reg<float>(i.ext[(size_t)q])[l] = canon((float)v);
        }
    if (w.wk->stats) {
        w.wk->stats->mma++;
        w.wk->stats->mma_flop += 2ull * 16 * (u32)N * (u32)K;
    }
    return Next;
}
Ctl nop(Warp&, const Ins&, u32) { return Next; }
}  // namespace

bool dec_wgmma(Dec& d) {
    if (d.I.op != "wgmma") return false;
    Ins& in = d.in;
    in.cls = Cls::Mma;
    if (d.has("fence") || d.has("commit_group") || d.has("wait_group")) {
        in.fn = nop;
        return true;
    }
    if (!d.has("mma_async") || d.has("sp") || d.types.size() != 3) return false;
    int M = 0, N = 0, K = 0;
    for (auto& s : d.I.mods)
        if (s.size() > 4 && s[0] == 'm' && isdigit((unsigned char)s[1]))
            sscanf(s.c_str(), "m%dn%dk%d", &M, &N, &K);
    if (M != 64 || N < 8 || N > 256) return false;
    auto kind = [](Ty t) -> int {
        switch (t) {
            case Ty::F16:
                return KF16;
            case Ty::BF16:
                return KBF16;
            case Ty::TF32:
                return KTF32;
            case Ty::E4M3:
                return KE4;
            case Ty::E5M2:
                return KE5;
            case Ty::S8:
                return KS8;
            case Ty::U8:
                return KU8;
            default:
                return -1;
        }
    };
    int ka = kind(d.ty(1)), kb = kind(d.ty(2));
    if (ka < 0 || kb < 0) return false;
    in.sub = (u8)ka;
    in.sub2 = (u8)kb;
    in.sub3 = d.ty(0) == Ty::F32 ? 0 : d.ty(0) == Ty::F16 ? 1 : 2;
    in.imm = N;
    for (auto& r : d.op(0).sub) in.ext.push_back(d.dst(r, 4));
    if ((int)in.ext.size() != (in.sub3 == 1 ? N / 4 : N / 2)) return false;
    if (d.op(1).k == Opnd::Vec) {
        in.sub4 |= 16;
        for (auto& r : d.op(1).sub) in.ext.push_back(d.src(r, 4));
    } else
        in.o[1] = d.src(1, 8);
    in.o[2] = d.src(2, 8);
    bool neg;
    in.o[3] = d.pred_src(d.op(3), neg);
    if (neg) in.sub4 |= 32;
    i64 v;
    int k = 4;
    if (in.sub3 != 2) {
        if (d.immediate(d.op(k++), v) && v == -1) in.sub4 |= 1;
        if (d.immediate(d.op(k++), v) && v == -1) in.sub4 |= 2;
        if (ka <= KBF16) {
            if (!(in.sub4 & 16) && d.immediate(d.op(k++), v) && v == 1) in.sub4 |= 4;
            if (d.immediate(d.op(k++), v) && v == 1) in.sub4 |= 8;
        }
    }
    in.fn = wgmma;
    return true;
}

}  // namespace ptxemu
