// mma.sync, ldmatrix, stmatrix, movmatrix.
#include <algorithm>
#include <cmath>

#include "kernels/ptxemu/interpreter/access.h"
#include "kernels/ptxemu/interpreter/lane.h"
#include "kernels/ptxemu/interpreter/smallfloat.h"

namespace ptxemu {
namespace {

enum Kind : u8 { KF16, KBF16, KTF32, KE4, KE5, KS8, KU8, KF64 };

inline float elem(Kind k, u32 word, int e) {
    switch (k) {
        case KF16:
            return to_f(f16{(u16)(word >> (16 * e))});
        case KBF16:
            return std::bit_cast<float>(e ? word & 0xffff0000u : word << 16);
        case KTF32:
            return std::bit_cast<float>(word & ~0x1fffu);  // the unit reads the upper 19 bits
        case KE4:
            return E4M3f::to((word >> (8 * e)) & 0xff);
        case KE5:
            return E5M2f::to((word >> (8 * e)) & 0xff);
        case KS8:
            return (float)(i8)(word >> (8 * e));
        default:
            return (float)(u8)(word >> (8 * e));
    }
}

// ext: d regs, a regs, b regs, c regs. sub A kind, sub2 B kind, sub3 elements a register, sub4
// accumulators: 0 f32 1 f16 2 s32 3 s32 sat n: number of A registers (M = 16) ; msize 8 when M = 8
Ctl mma(Warp& w, const Ins& i, u32 m) {
    if (m != ~0u) {
        if (m != w.live || w.live != ~0u) {
            if (w.live == ~0u) return WaitWarp;
            report(Fault::WarpSync, &w, &i, __builtin_ctz(m), 0, false, "mma with lanes missing");
        }
    }
    const Kind ka = (Kind)i.sub, kb = (Kind)i.sub2;
    const int e = i.sub3, na = i.n, rows = i.msize;
    const int per_k = rows == 16 ? 2 : 1;
    const int K = na / per_k * 4 * e;
    const int nb = na / per_k, nc = i.sub4 == 1 ? rows / 8 : rows / 4;
    alignas(64) double A[16][32], B[32][8], acc[16][8];
    const u32* x = i.ext.data();
    const u32 *xd = x, *xa = x + nc, *xb = xa + na, *xc = xb + nb;
    for (int r = 0; r < na; ++r) {
        const u32* v = w.reg<u32>(xa[r]);
        int row8 = rows == 16 ? 8 * (r & 1) : 0, col0 = (rows == 16 ? r >> 1 : r) * 4 * e;
        for (int l = 0; l < 32; ++l)
            for (int q = 0; q < e; ++q)
                A[(l >> 2) + row8][col0 + (l & 3) * e + q] = elem(ka, v[l], q);
    }
    for (int r = 0; r < nb; ++r) {
        const u32* v = w.reg<u32>(xb[r]);
        for (int l = 0; l < 32; ++l)
            for (int q = 0; q < e; ++q) B[r * 4 * e + (l & 3) * e + q][l >> 2] = elem(kb, v[l], q);
    }
    for (int r = 0; r < nc; ++r) {
        const u32* v = w.reg<u32>(xc[r]);
        for (int l = 0; l < 32; ++l) {
            int row = l >> 2, col = (l & 3) * 2;
            if (i.sub4 == 1) {
                acc[row + 8 * r][col] = to_f(f16{(u16)v[l]});
                acc[row + 8 * r][col + 1] = to_f(f16{(u16)(v[l] >> 16)});
            } else if (i.sub4 >= 2)
                acc[row + 8 * (r >> 1)][col + (r & 1)] = (double)(i32)v[l];
            else
                acc[row + 8 * (r >> 1)][col + (r & 1)] = std::bit_cast<float>(v[l]);
        }
    }
    for (int r = 0; r < rows; ++r)
        for (int k = 0; k < K; ++k) {
            double a = A[r][k];
            for (int c = 0; c < 8; ++c) acc[r][c] += a * B[k][c];
        }
    for (int r = 0; r < nc; ++r) {
        u32* v = w.reg<u32>(xd[r]);
        for (int l = 0; l < 32; ++l) {
            int row = l >> 2, col = (l & 3) * 2;
            u32 o;
            if (i.sub4 == 1)
                o = (u32)to_h(acc[row + 8 * r][col]).v | (u32)to_h(acc[row + 8 * r][col + 1]).v
                                                             << 16;
            else {
                double z = acc[row + 8 * (r >> 1)][col + (r & 1)];
                if (i.sub4 == 2)
                    o = (u32)(i64)z;
                else if (i.sub4 == 3)
                    o = (u32)(i32)std::clamp(z, -2147483648.0, 2147483647.0);
                else
                    o = std::bit_cast<u32>(canon((float)z));
            }
            v[l] = o;
        }
    }
    if (w.wk->stats) {
        w.wk->stats->mma++;
        w.wk->stats->mma_flop += 2ull * (u32)rows * 8 * (u32)K;
    }
    return Next;
}

// f64: m8n8k4, m16n8k4/k8/k16. n: A registers, msize rows
Ctl mma_f64(Warp& w, const Ins& i, u32 m) {
    if (m != ~0u) return WaitWarp;
    const int rows = i.msize, na = i.n, per = rows / 8, nb = na / per, nc = rows / 4, K = nb * 4;
    double A[16][16], B[16][8], acc[16][8];
    const u32 *xd = i.ext.data(), *xa = xd + nc, *xb = xa + na, *xc = xb + nb;
    for (int l = 0; l < 32; ++l) {
        for (int r = 0; r < na; ++r)
            A[(l >> 2) + 8 * (r % per)][(l & 3) + 4 * (r / per)] = w.reg<double>(xa[r])[l];
        for (int r = 0; r < nb; ++r) B[(l & 3) + 4 * r][l >> 2] = w.reg<double>(xb[r])[l];
        for (int r = 0; r < nc; ++r)
            acc[(l >> 2) + 8 * (r >> 1)][(l & 3) * 2 + (r & 1)] = w.reg<double>(xc[r])[l];
    }
    for (int r = 0; r < rows; ++r)
        for (int k = 0; k < K; ++k)
            for (int c = 0; c < 8; ++c) acc[r][c] = std::fma(A[r][k], B[k][c], acc[r][c]);
    for (int l = 0; l < 32; ++l)
        for (int r = 0; r < nc; ++r)
            w.reg<double>(xd[r])[l] = acc[(l >> 2) + 8 * (r >> 1)][(l & 3) * 2 + (r & 1)];
    if (w.wk->stats) {
        w.wk->stats->mma++;
        w.wk->stats->mma_flop += 2ull * (u32)rows * 8 * (u32)K;
    }
    return Next;
}

// ext: registers; sub: trans; n: matrices
Ctl ldmatrix(Warp& w, const Ins& i, u32 m) {
    if (m != ~0u) {
        if (w.live == ~0u) return WaitWarp;
        report(Fault::WarpSync, &w, &i, __builtin_ctz(m), 0, false, "ldmatrix with lanes missing");
    }
    u64 A[32];
    addresses(w, i, 1, A);
    u16 rows[4][8][8];
    for (int k = 0; k < i.n * 8; ++k) {
        u64 a = A[k];
        if (a - kSharedWindow < kWindowSize) a -= kSharedWindow;
        if (a & 15) misaligned(w, i, k, a, 16);
        u8* p = shared_at(w, i, k, a, 16);
        if (w.blk->shadow) w.blk->shadow->read(w, i, k, (u32)a - kSharedBase, 16, true);
        memcpy(rows[k / 8][k % 8], p, 16);
    }
    if (w.wk->stats)
        for (int q = 0; q < i.n; ++q) {
            u32 sh[32];
            for (int l = 0; l < 32; ++l) sh[l] = (u32)A[q * 8 + l / 4] + (l & 3) * 4;
            w.wk->stats->shared(sh, ~0u, 4);
        }
    for (int q = 0; q < i.n; ++q) {
        u32* d = w.reg<u32>(i.ext[q]);
        for (int l = 0; l < 32; ++l)
            d[l] = i.sub ? (u32)rows[q][(l & 3) * 2][l >> 2] | (u32)rows[q][(l & 3) * 2 + 1][l >> 2]
                                                                   << 16
                         : (u32)rows[q][l >> 2][(l & 3) * 2] | (u32)rows[q][l >> 2][(l & 3) * 2 + 1]
                                                                   << 16;
    }
    return Next;
}
Ctl stmatrix(Warp& w, const Ins& i, u32 m) {
    if (m != ~0u) {
        if (w.live == ~0u) return WaitWarp;
        report(Fault::WarpSync, &w, &i, __builtin_ctz(m), 0, false, "stmatrix with lanes missing");
    }
    u64 A[32];
    addresses(w, i, 1, A);
    for (int q = 0; q < i.n; ++q) {
        u16 rows[8][8];
        const u32* s = w.reg<u32>(i.ext[q]);
        for (int l = 0; l < 32; ++l)
            for (int h = 0; h < 2; ++h) {
                u16 v = (u16)(s[l] >> (16 * h));
                if (i.sub)
                    rows[(l & 3) * 2 + h][l >> 2] = v;
                else
                    rows[l >> 2][(l & 3) * 2 + h] = v;
            }
        for (int r = 0; r < 8; ++r) {
            int lane = q * 8 + r;
            u64 a = A[lane];
            if (a - kSharedWindow < kWindowSize) a -= kSharedWindow;
            if (a & 15) misaligned(w, i, lane, a, 16);
            u8* p = shared_at(w, i, lane, a, 16);
            if (w.blk->shadow)
                w.blk->shadow->write(w, i, lane, (u32)a - kSharedBase, 16, p, (u8*)rows[r]);
            memcpy(p, rows[r], 16);
        }
    }
    return Next;
}
Ctl movmatrix(Warp& w, const Ins& i, u32 m) {
    if (m != ~0u && w.live == ~0u) return WaitWarp;
    u16 t[8][8];
    u32 *d = w.reg<u32>(i.o[0]), *s = w.reg<u32>(i.o[1]);
    for (int l = 0; l < 32; ++l)
        for (int h = 0; h < 2; ++h) t[l >> 2][(l & 3) * 2 + h] = (u16)(s[l] >> (16 * h));
    for (int l = 0; l < 32; ++l)
        d[l] = (u32)t[(l & 3) * 2][l >> 2] | (u32)t[(l & 3) * 2 + 1][l >> 2] << 16;
    return Next;
}
}  // namespace

bool dec_mma(Dec& d) {
    Ins& in = d.in;
    const std::string& o = d.I.op;
    in.cls = Cls::Mma;
    if (o == "movmatrix") {
        in.fn = movmatrix;
        in.o[1] = d.src(1, 4);
        in.o[0] = d.dst(0, 4);
        return true;
    }
    if (o == "ldmatrix" || o == "stmatrix") {
        if (!d.has("m8n8") || !d.has("b16")) return false;
        bool ld = o == "ldmatrix";
        in.cls = ld ? Cls::LdShared : Cls::StShared;
        in.fn = ld ? ldmatrix : stmatrix;
        in.sub = d.has("trans");
        in.n = (u8)(d.has("x4") ? 4 : d.has("x2") ? 2 : 1);
        const Opnd& r = d.op(ld ? 0 : 1);
        if (r.k == Opnd::Vec)
            for (auto& x : r.sub) in.ext.push_back(ld ? d.dst(x, 4) : d.src(x, 4));
        else
            in.ext.push_back(ld ? d.dst(r, 4) : d.src(r, 4));
        if ((int)in.ext.size() != in.n) return false;
        address_of(d, d.op(ld ? 1 : 0), 1);
        return true;
    }
    if (o != "mma" || !d.has("sync") || d.types.size() != 4) return false;
    if (d.has("sp") || d.has("sp::ordered_metadata") || d.has("block_scale")) return false;
    std::string shape;
    for (auto& m : d.I.mods)
        if (m.size() > 4 && m[0] == 'm' && isdigit((unsigned char)m[1])) shape = m;
    int M = 0, N = 0, K = 0;
    if (sscanf(shape.c_str(), "m%dn%dk%d", &M, &N, &K) != 3 || N != 8 || (M != 16 && M != 8))
        return false;
    Ty dt = d.ty(0), at = d.ty(1), bt = d.ty(2);
    auto kind = [&](Ty t) -> int {
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
            case Ty::F64:
                return KF64;
            default:
                return -1;
        }
    };
    int ka = kind(at), kb = kind(bt);
    if (ka < 0 || kb < 0) return false;
    int slot = ka == KF64 ? 8 : 4;
    if (!d.has("row") || !d.has("col")) return false;
    auto regs = [&](int k, bool dst) {
        const Opnd& v = d.op(k);
        if (v.k == Opnd::Vec)
            for (auto& x : v.sub) in.ext.push_back(dst ? d.dst(x, slot) : d.src(x, slot));
        else
            in.ext.push_back(dst ? d.dst(v, slot) : d.src(v, slot));
    };
    auto count = [&](int k) { return d.op(k).k == Opnd::Vec ? (int)d.op(k).sub.size() : 1; };
    for (int k = 0; k < 4; ++k) regs(k, k == 0);
    in.n = (u8)count(1);
    in.msize = (u8)M;
    in.sub = (u8)ka;
    in.sub2 = (u8)kb;
    if (ka == KF64) {
        if (count(1) * 32 != M * K) return false;
        in.fn = mma_f64;
        return true;
    }
    int e = ka == KTF32 ? 1 : ka <= KBF16 ? 2 : 4;
    if (M == 8 && K == 4) return false;  // Volta's shape
    in.sub3 = (u8)e;
    in.sub4 = dt == Ty::F32 ? 0 : dt == Ty::F16 ? 1 : d.has("satfinite") ? 3 : 2;
    if (dt != Ty::F32 && dt != Ty::F16 && dt != Ty::S32) return false;
    if (d.ty(3) != dt) return false;
    if (count(1) * e * 32 != M * K || count(2) * e * 32 != 8 * K) return false;
    in.fn = mma;
    return true;
}

}  // namespace ptxemu
