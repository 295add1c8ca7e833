// cvt of pairs and of 8-bit formats.
#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/lane.h"
#include "kernels/ptxemu/interpreter/smallfloat.h"

namespace ptxemu {
namespace {
template <class S>
u32 pack8(float hi, float lo, bool relu) {
    if (relu) {
        hi = hi > 0 || hi != hi ? hi : 0;
        lo = lo > 0 || lo != lo ? lo : 0;
    }
    return S::from(hi, Rnd::RN, true) << 8 | S::from(lo, Rnd::RN, true);
}
float half(u32 v, bool b) { return b ? to_f(bf16{(u16)v}) : to_f(f16{(u16)v}); }
}  // namespace

// A handler of such a conversion, or none.
Fn packed_cvt(Dec& d) {
    Ty dt = d.ty(0), st = d.ty(1);
    bool relu = d.has("relu"), rz = d.has("rz"), sf = d.has("satfinite");
    if (dt == Ty::E4M3x2 || dt == Ty::E5M2x2) {
        bool e4 = dt == Ty::E4M3x2;
        if (st == Ty::F32)
            return e4 ? (relu ? handler([](float a, float b) { return pack8<E4M3f>(a, b, true); })
                              : handler([](float a, float b) { return pack8<E4M3f>(a, b, false); }))
                      : (relu
                             ? handler([](float a, float b) { return pack8<E5M2f>(a, b, true); })
                             : handler([](float a, float b) { return pack8<E5M2f>(a, b, false); }));
        if (st == Ty::F16x2)
            return e4 ? (relu
                             ? handler([](u32 a) {
                                   return pack8<E4M3f>(half(a >> 16, false), half(a, false), true);
                               })
                             : handler([](u32 a) {
                                   return pack8<E4M3f>(half(a >> 16, false), half(a, false), false);
                               }))
                      : (relu
                             ? handler([](u32 a) {
                                   return pack8<E5M2f>(half(a >> 16, false), half(a, false), true);
                               })
                             : handler([](u32 a) {
                                   return pack8<E5M2f>(half(a >> 16, false), half(a, false), false);
                               }));
        if (st == Ty::BF16x2)
            return e4 ? handler([](u32 a) {
                return pack8<E4M3f>(half(a >> 16, true), half(a, true), false);
            })
                      : handler([](u32 a) {
                            return pack8<E5M2f>(half(a >> 16, true), half(a, true), false);
                        });
        return nullptr;
    }
    if (st == Ty::E4M3x2 || st == Ty::E5M2x2) {
        bool e4 = st == Ty::E4M3x2;
        if (dt != Ty::F16x2) return nullptr;
        if (relu)
            return e4 ? handler([](u32 a) -> u32 {
                auto f = [](u32 v) {
                    float x = E4M3f::to(v & 0xff);
                    return (u32)to_h(x > 0 || x != x ? x : 0.0f).v;
                };
                return f(a >> 8) << 16 | f(a);
            })
                      : handler([](u32 a) -> u32 {
                            auto f = [](u32 v) {
                                float x = E5M2f::to(v & 0xff);
                                return (u32)to_h(x > 0 || x != x ? x : 0.0f).v;
                            };
                            return f(a >> 8) << 16 | f(a);
                        });
        return e4 ? handler([](u32 a) -> u32 {
            return (u32)to_h(E4M3f::to((a >> 8) & 0xff)).v << 16 | to_h(E4M3f::to(a & 0xff)).v;
        })
                  : handler([](u32 a) -> u32 {
                        return (u32)to_h(E5M2f::to((a >> 8) & 0xff)).v << 16 |
                               to_h(E5M2f::to(a & 0xff)).v;
                    });
    }
    if ((dt == Ty::BF16x2 || dt == Ty::F16x2) && st == Ty::F32) {
        bool b = dt == Ty::BF16x2;
        if (sf || (rz && !b) || (rz && relu)) {
            if (b)
                return rz ? handler([](float hi, float lo) -> u32 {
                    return (u32)Small<8, 7, true>::from(hi, Rnd::RZ, true) << 16 |
                           Small<8, 7, true>::from(lo, Rnd::RZ, true);
                })
                          : handler([](float hi, float lo) -> u32 {
                                return (u32)Small<8, 7, true>::from(hi, Rnd::RN, true) << 16 |
                                       Small<8, 7, true>::from(lo, Rnd::RN, true);
                            });
            if (relu || (sf && rz)) return nullptr;
            return rz ? handler([](float hi, float lo) -> u32 {
                return Half::from(hi, Rnd::RZ, false) << 16 | Half::from(lo, Rnd::RZ, false);
            })
                      : handler([](float hi, float lo) -> u32 {
                            return Half::from(hi, Rnd::RN, true) << 16 |
                                   Half::from(lo, Rnd::RN, true);
                        });
        }
        if (b)
            return rz     ? handler([](float hi, float lo) -> u32 {
                return (u32)to_brz(hi).v << 16 | to_brz(lo).v;
            })
                   : relu ? handler([](float hi, float lo) -> u32 {
                         hi = hi > 0 || hi != hi ? hi : 0;
                         lo = lo > 0 || lo != lo ? lo : 0;
                         return (u32)to_b(hi).v << 16 | to_b(lo).v;
                     })
                          : handler([](float hi, float lo) -> u32 {
                                return (u32)to_b(hi).v << 16 | to_b(lo).v;
                            });
        return relu ? handler([](float hi, float lo) -> u32 {
            hi = hi > 0 || hi != hi ? hi : 0;
            lo = lo > 0 || lo != lo ? lo : 0;
            return (u32)to_h(hi).v << 16 | to_h(lo).v;
        })
                    : handler([](float hi, float lo) -> u32 {
                          return (u32)to_h(hi).v << 16 | to_h(lo).v;
                      });
    }
    return nullptr;
}

}  // namespace ptxemu
