// Not formatted: clang-format never comes to rest on lists of macros.
// clang-format off
// Integer arithmetic and bit operations against C++.
#include "common.h"
#define K32(name, text) OP3(name, u32, u32, text, "=r", "r", "r", "r")
#define K64(name, text) OP3(name, u64, u64, text, "=l", "l", "l", "l")
K32(k_add, "add.s32 %0, %1, %2;")
K32(k_sub, "sub.u32 %0, %1, %2;")
K32(k_addsat, "add.sat.s32 %0, %1, %2;")
K32(k_subsat, "sub.sat.s32 %0, %1, %2;")
K32(k_mullo, "mul.lo.s32 %0, %1, %2;")
K32(k_mulhis,
    "mul.hi.s32 %0, %1, %2;") K32(k_mulhiu,
                                  "mul.hi.u32 %0, %1, %2;") K32(k_mad, "mad.lo.s32 %0, %1, %2, %3;")
    K32(k_madhi, "mad.hi.u32 %0, %1, %2, %3;") K32(k_mul24, "mul24.lo.s32 %0, %1, %2;") K32(
        k_mad24,
        "mad24.lo.u32 %0, %1, "
        "%2, %3;") K32(k_divs, "div.s32 %0, %1, %2;") K32(k_divu, "div.u32 %0, %1, %2;")
        K32(k_rems, "rem.s32 %0, %1, %2;") K32(k_remu, "rem.u32 %0, %1, %2;") K32(
            k_mins, "min.s32 %0, %1, %2;") K32(k_maxu, "max.u32 %0, %1, %2;") K32(k_neg,
                                                                                  "neg.s32 %0, %1;")
            K32(k_abs, "abs.s32 %0, %1;") K32(k_sad, "sad.s32 %0, %1, %2, %3;") K32(
                k_dp4a,
                "dp4a.s32.s32 %0, %1, %2, "
                "%3;") K32(k_dp4au,
                           "dp4a.u32.u32 %0, "
                           "%1, %2, %3;") K32(k_dp2a,
                                              "dp2a.lo.s32.s32 %0, "
                                              "%1, %2, %3;") K32(k_and, "and.b32 %0, %1, %2;")
                K32(k_or, "or.b32 %0, %1, %2;") K32(k_xor, "xor.b32 %0, %1, %2;") K32(
                    k_not, "not.b32 %0, %1;") K32(k_cnot, "cnot.b32 %0, %1;")
                    K32(k_lop3, "lop3.b32 %0, %1, %2, %3, 0xCA;") K32(
                        k_lop3b,
                        "lop3.b32 %0, %1, %2, %3, "
                        "0x96;") K32(k_shl,
                                     "shl.b32 %0, "
                                     "%1, %2;") K32(k_shru,
                                                    "shr.u32 %0, %1, %2;") K32(k_shrs,
                                                                               "shr.s32 %0, %1, "
                                                                               "%2;")
                        K32(k_shfl, "shf.l.wrap.b32 %0, %1, %2, %3;") K32(
                            k_shfr,
                            "shf.r.clamp.b32 %0, %1, "
                            "%2, %3;") K32(k_prmt,
                                           "prmt.b32 "
                                           "%0, %1, "
                                           "%2, %3;") K32(k_prmtf4e, "prmt.b32.f4e %0, %1, %2, %3;")
                            K32(k_bfeu, "bfe.u32 %0, %1, %2, %3;") K32(
                                k_bfes, "bfe.s32 %0, %1, %2, %3;") K32(k_brev,
                                                                       "brev"
                                                                       ".b32"
                                                                       " %0,"
                                                                       " %"
                                                                       "1;")
                                K32(k_clz, "clz.b32 %0, %1;") K32(k_popc, "popc.b32 %0, %1;") K32(
                                    k_bfindu,
                                    "bfind.u32 %0, %1;") K32(k_bfinds,
                                                             "bfind.s32 %0, %1;") K32(k_bfi,
                                                                                      "{.reg .b32 "
                                                                                      "t; mov.b32 "
                                                                                      "t, 7; "
                                                                                      "bfi.b32 %0, "
                                                                                      "%1, %2, %3, "
                                                                                      "t;}")
                                    K32(k_selp,
                                        "{.reg .pred p; setp.lt.s32 p, %1, %2; selp.b32 %0, %1, "
                                        "%3, p;}") K32(k_slct,
                                                       "slct.u32.s32 %0, %1, %2, %3;") K32(k_fns,
                                                                                           "fns."
                                                                                           "b32 "
                                                                                           "%0, "
                                                                                           "%1, "
                                                                                           "%2, "
                                                                                           "%3;")
                                        K32(k_szext, "bmsk.clamp.b32 %0, %1, %2;") K32(
                                            k_addc,
                                            "{.reg .u32 t; add.cc.u32 t, %1, %2; addc.u32 %0, %3, "
                                            "t;}") K32(k_subc,
                                                       "{.reg .u32 t; sub.cc.u32 t, %1, %2; "
                                                       "subc.u32 %0, %3, t;}") K32(k_madc,
                                                                                   "{.reg .u32 t; "
                                                                                   "mad.lo.cc.u32 "
                                                                                   "t, %1, %2, %3; "
                                                                                   "madc.hi.u32 "
                                                                                   "%0, %1, %2, "
                                                                                   "0;}")
                                            K64(k_add64, "add.s64 %0, %1, %2;") K64(
                                                k_mul64,
                                                "mul.lo.s64 %0, %1, %2;") K64(k_mulhi64,
                                                                              "mul.hi.s64 %0, %1, "
                                                                              "%2;") K64(k_mulhiu64,
                                                                                         "mul.hi."
                                                                                         "u64 %0, "
                                                                                         "%1, %2;")
                                                K64(k_div64, "div.s64 %0, %1, %2;") K64(
                                                    k_remu64,
                                                    "rem.u64 %0, %1, %2;") K64(k_shl64,
                                                                               "{.reg .u32 t; "
                                                                               "cvt.u32.u64 t, %2; "
                                                                               "shl.b64 %0, %1, "
                                                                               "t;}")
                                                    K64(k_shr64,
                                                        "{.reg .u32 t; cvt.u32.u64 t, %2; shr.s64 "
                                                        "%0, %1, t;}") K64(k_popc64,
                                                                           "{.reg .u32 t; popc.b64 "
                                                                           "t, %1; cvt.u64.u32 %0, "
                                                                           "t;}") K64(k_clz64,
                                                                                      "{.reg .u32 "
                                                                                      "t; clz.b64 "
                                                                                      "t, %1; "
                                                                                      "cvt.u64.u32 "
                                                                                      "%0, t;}")
                                                        K64(k_brev64, "brev.b64 %0, %1;") K64(
                                                            k_wide,
                                                            "{.reg .s32 x, y; cvt.s32.s64 x, %1; "
                                                            "cvt.s32.s64 y, %2; mad.wide.s32 %0, "
                                                            "x, y, %3;}") K64(k_min64,
                                                                              "min.s64 %0, %1, %2;")
                                                            K64(k_mov2,
                                                                "{.reg .b32 x, y; mov.b64 {x, y}, "
                                                                "%1; mov.b64 %0, {y, x};}")
                                                                K64(k_bfe64,
                                                                    "{.reg .u32 x; cvt.u32.u64 x, "
                                                                    "%2; bfe.s64 %0, %1, x, 9;}")
                                                                    K64(k_xor64,
                                                                        "xor.b64 %0, %1, %2;")
                                                                        K64(k_abs64,
                                                                            "abs.s64 %0, %1;")
                                                                            K64(k_u16,
                                                                                "{.reg .u16 x, y, "
                                                                                "z; cvt.u16.u64 x, "
                                                                                "%1; cvt.u16.u64 "
                                                                                "y, %2; mul.lo.u16 "
                                                                                "z, x, y; add.s16 "
                                                                                "z, z, y; shr.s16 "
                                                                                "z, z, 3; "
                                                                                "cvt.s64.s16 %0, "
                                                                                "z;}")

                                                                                template <class T,
                                                                                          class F>
                                                                                void run(
                                                                                    const char*
                                                                                        name,
                                                                                    void (*k)(
                                                                                        const T*,
                                                                                        const T*,
                                                                                        const T*,
                                                                                        T*, int),
                                                                                    F ref,
                                                                                    bool nonzero_b =
                                                                                        false) {
    const int n = 4096;
    std::vector<T> a, b, c;
    if constexpr (sizeof(T) == 4) {
        a = ints32(n);
        b = ints32(n);
        c = ints32(n);
        for (int i = 0; i < 324; ++i) b[i] = a[(i / 18) % 18 + 0], c[i] = (u32)i;
    } else {
        a = ints64(n);
        b = ints64(n);
        c = ints64(n);
        for (int i = 0; i < 121; ++i) b[i] = a[i / 11];
    }
    if (nonzero_b)
        for (int i = 0; i < n; ++i) {
            if (b[i] == 0) b[i] = 3;
            if (b[i] == (T)-1) b[i] = 5;
        }
    Dev<T> da(a), db(b), dc(c), dd(n);
    k<<<n / 128, 128>>>(da.p, db.p, dc.p, dd.p, n);
    bool ok = cuda_ok();
    auto d = dd.get();
    for (int i = 0; i < n && ok; ++i) {
        T r = (T)ref(a[i], b[i], c[i]);
        if (r != d[i]) {
            ok = false;
            printf("%s: i=%d a=%llx b=%llx c=%llx got %llx want %llx\n", name, i,
                   (unsigned long long)a[i], (unsigned long long)b[i], (unsigned long long)c[i],
                   (unsigned long long)d[i], (unsigned long long)r);
        }
    }
    check(ok, name);
}
#define R32(k, expr)                                 \
    run<u32>(#k, k, [](u32 a, u32 b, u32 c) -> u32 { \
        i32 sa = (i32)a, sb = (i32)b, sc = (i32)c;   \
        (void)sa;                                    \
        (void)sb;                                    \
        (void)sc;                                    \
        return expr;                                 \
    });
#define R32Z(k, expr)                     \
    run<u32>(                             \
        #k, k,                            \
        [](u32 a, u32 b, u32 c) -> u32 {  \
            i32 sa = (i32)a, sb = (i32)b; \
            (void)sa;                     \
            (void)sb;                     \
            (void)c;                      \
            return expr;                  \
        },                                \
        true);
#define R64(k, expr)                                 \
    run<u64>(#k, k, [](u64 a, u64 b, u64 c) -> u64 { \
        i64 sa = (i64)a, sb = (i64)b;                \
        (void)sa;                                    \
        (void)sb;                                    \
        (void)c;                                     \
        return expr;                                 \
    });
#define R64Z(k, expr)                     \
    run<u64>(                             \
        #k, k,                            \
        [](u64 a, u64 b, u64 c) -> u64 {  \
            i64 sa = (i64)a, sb = (i64)b; \
            (void)sa;                     \
            (void)sb;                     \
            (void)c;                      \
            return expr;                  \
        },                                \
        true);
static i64 clamp32(i64 v) {
    return v > 2147483647ll ? 2147483647ll : v < -2147483648ll ? -2147483648ll : v;
}
static u32 byte_of(u32 v, int k) { return (v >> (8 * k)) & 255; }
static u32 prm(u32 a, u32 b, u32 c) {
    u8 t[8];
    memcpy(t, &a, 4);
    memcpy(t + 4, &b, 4);
    u32 r = 0;
    for (int k = 0; k < 4; ++k) {
        u32 s = (c >> (4 * k)) & 15;
        u8 x = t[s & 7];
        if (s & 8) x = (i8)x < 0 ? 255 : 0;
        r |= (u32)x << (8 * k);
    }
    return r;
}
static u32 bfe_s32(u32 a, u32 pos, u32 len) {
    pos &= 255;
    len &= 255;
    u32 r = 0;
    bool sg = len && ((a >> (pos + len - 1 < 31 ? pos + len - 1 : 31)) & 1);
    for (u32 k = 0; k < 32; ++k) {
        bool bit = k < len && pos + k <= 31 ? (a >> (pos + k)) & 1 : sg;
        r |= (u32)bit << k;
    }
    return r;
}
static u32 bfe_u32(u32 a, u32 pos, u32 len) {
    pos &= 255;
    len &= 255;
    u32 r = 0;
    for (u32 k = 0; k < 32; ++k)
        r |= (u32)(k < len && pos + k <= 31 ? (a >> (pos + k)) & 1 : 0) << k;
    return r;
}
static u32 bfi_reference(u32 a, u32 b, u32 pos, u32 len) {
    pos &= 255;
    u32 r = b;
    for (u32 k = 0; k < len && pos + k <= 31; ++k)
        r = (r & ~(1u << (pos + k))) | (((a >> k) & 1) << (pos + k));
    return r;
}
static u32 rev(u32 a) {
    u32 r = 0;
    for (int k = 0; k < 32; ++k)
        if ((a >> k) & 1) r |= 1u << (31 - k);
    return r;
}
static u32 lz(u64 a, int n) {
    int k = 0;
    while (k < n && !((a >> (n - 1 - k)) & 1)) ++k;
    return k;
}
static u32 pc(u64 a) {
    int k = 0;
    for (; a; a &= a - 1) ++k;
    return k;
}
static u32 fns_reference(u32 m, u32 base, i32 off) {
    base &= 0xffffffff;
    if (off == 0) return base < 32 && ((m >> base) & 1) ? base : ~0u;
    i64 pos = (i32)base;
    int need = abs(off), got = 0;
    for (; pos >= 0 && pos<32; pos += off> 0 ? 1 : -1)
        if ((m >> pos) & 1)
            if (++got == need) return (u32)pos;
    return ~0u;
}
int main() {
    R32(k_add, a + b)
    R32(k_sub, a - b)
    R32(k_addsat, clamp32((i64)sa + sb))
    R32(k_subsat, clamp32((i64)sa - sb))
    R32(k_mullo, a * b)
    R32(k_mulhis, ((i64)sa * sb) >> 32) R32(k_mulhiu, ((u64)a * b) >> 32) R32(k_mad, a * b + c) R32(
        k_madhi, (u32)(((u64)a * b) >> 32) +
                     c) R32(k_mul24, (u32)(((i64)((i32)(a << 8) >> 8)) *
                                           ((i32)(b << 8) >>
                                            8))) R32(k_mad24, (a & 0xffffff) * (b & 0xffffff) + c)
        R32Z(k_divs, sb == -1 ? 0 - a : sa / sb) R32Z(k_divu, a / b) R32Z(
            k_rems,
            sb == -1
                ? 0
                : sa %
                      sb) R32Z(k_remu,
                               a % b) R32(k_mins, sa < sb ? a : b)
            R32(k_maxu, a > b ? a : b) R32(k_neg, 0 - a) R32(k_abs, sa < 0 ? 0 - a : a) R32(
                k_sad, c + (sa < sb
                                ? b - a
                                : a - b)) R32(k_dp4a,
                                              c + (u32)((i8)byte_of(a, 0) * (i8)byte_of(b, 0) +
                                                        (i8)byte_of(a, 1) * (i8)byte_of(b, 1) +
                                                        (i8)byte_of(a, 2) * (i8)byte_of(b, 2) +
                                                        (i8)byte_of(a, 3) * (i8)byte_of(b, 3)))
                R32(k_dp4au,
                    c + byte_of(a, 0) * byte_of(b, 0) +
                        byte_of(a, 1) * byte_of(b, 1) +
                        byte_of(a, 2) * byte_of(b, 2) +
                        byte_of(a, 3) *
                            byte_of(b, 3)) R32(k_dp2a,
                                              c + (u32)((i16)a * (i8)b +
                                                        (i16)(a >> 16) *
                                                            (i8)(b >> 8))) R32(k_and, a & b)
                    R32(k_or, a | b) R32(k_xor, a ^ b) R32(k_not, ~a) R32(k_cnot, a == 0) R32(
                        k_lop3,
                        (a & b) | (~a &
                                   c)) R32(k_lop3b, a ^ b ^ c) R32(k_shl, b > 31 ? 0 : a << b)
                        R32(k_shru, b > 31 ? 0 : a >> b) R32(k_shrs, sa >> (b > 31 ? 31 : b)) R32(
                            k_shfl,
                            (c & 31) ? (b << (c & 31)) | (a >> (32 - (c & 31)))
                                     : b) R32(k_shfr,
                                              c >= 32
                                                  ? b
                                              : c ? (b << (32 - c)) | (a >> c)
                                                  : a) R32(k_prmt, prm(a, b, c))
                            R32(k_prmtf4e,
                                prm(a, b,
                                    (c & 3) == 0   ? 0x3210
                                    : (c & 3) == 1 ? 0x4321
                                    : (c & 3) == 2 ? 0x5432
                                                   : 0x6543)) R32(k_bfeu, bfe_u32(a, b, c))
                                R32(k_bfes, bfe_s32(a, b, c)) R32(k_brev, rev(a)) R32(
                                    k_clz,
                                    lz(a, 32)) R32(k_popc,
                                                   pc(a)) R32(k_bfindu, a ? 31 - lz(a, 32) : ~0u)
                                    R32(k_bfinds, (sa < 0 ? ~a : a) ? 31 - lz(sa < 0 ? ~a : a, 32) : ~0u) R32(
                                        k_bfi,
                                        bfi_reference(a, b, c,
                                             7)) R32(k_selp,
                                                     sa < sb
                                                         ? a
                                                         : c) R32(k_slct, sc >= 0 ? a : b)
                                        R32(k_addc, c + (a + b) + (u32)(((u64)a + b) >> 32)) R32(
                                            k_subc,
                                            c - (a - b) -
                                                (a <
                                                 b)) R32(k_madc,
                                                         (u32)(((u64)a * b) >> 32) +
                                                             (u32)(((u64)(a * b) + c) >>
                                                                   32)) R64(k_add64, a + b)
                                            R64(k_mul64,
                                                a * b) R64(k_mulhi64,
                                                           (u64)(((__int128)sa * sb) >> 64))
                                                R64(k_mulhiu64, (u64)(((unsigned __int128)a * b) >> 64)) R64Z(
                                                    k_div64,
                                                    sb == -1
                                                        ? 0 - a
                                                        : (u64)(sa / sb)) R64Z(k_remu64, a % b)
                                                    R64(k_shl64, (u32)b > 63 ? 0 : a << (u32)b) R64(
                                                        k_shr64,
                                                        (u64)(sa >> ((u32)b > 63 ? 63 : (u32)b)))
                                                        R64(k_popc64, pc(a)) R64(
                                                            k_clz64,
                                                            lz(a, 64)) R64(k_brev64,
                                                                           (
                                                                               u64)rev((u32)a)
                                                                                   << 32 |
                                                                               rev((u32)(a >> 32)))
                                                            R64(k_wide,
                                                                (u64)((i64)(i32)a * (i32)b) +
                                                                    c) R64(k_min64, sa < sb ? a : b)
                                                                R64(k_mov2, a << 32 | a >> 32) R64(
                                                                    k_xor64, a ^ b)
                                                                    R64(k_abs64, sa < 0 ? 0 - a : a) R64(
                                                                        k_u16,
                                                                        (u64)(i64)((i16)(u16)((u16)a *
                                                                                                  (u16)
                                                                                                      b +
                                                                                              (u16)
                                                                                                  b) >>
                                                                                   3)) {
        const int n = 4096;
        auto a = ints32(n), b = ints32(n), c = ints32(n);
        for (int i = 0; i < n; ++i) {
            b[i] &= 31;
            c[i] = (u32)((int)(c[i] % 9) - 4);
        }
        Dev<u32> da(a), db(b), dc(c), dd(n);
        k_fns<<<n / 128, 128>>>(da.p, db.p, dc.p, dd.p, n);
        bool ok = cuda_ok();
        auto d = dd.get();
        for (int i = 0; i < n; ++i)
            if (d[i] != fns_reference(a[i], b[i], (i32)c[i])) {
                ok = false;
                printf("fns %x %u %d got %x\n", a[i], b[i], (i32)c[i], d[i]);
                break;
            }
        check(ok, "fns");
    }
    return finish();
}
