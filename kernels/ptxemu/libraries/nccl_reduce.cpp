#include "kernels/ptxemu/libraries/nccl_reduce.h"

#include <cstring>

#include "kernels/ptxemu/interpreter/smallfloat.h"

namespace ptxemu {

namespace {

template <class A>
A combine(A a, A b, int op) {
    switch (op) {
        case ncclProd:
            return (A)(a * b);
        case ncclMax:
            return b > a || b != b ? b : a;
        case ncclMin:
            return b < a || b != b ? b : a;
        default:  // the average divides at the end
            return (A)(a + b);
    }
}

// T in memory, A to compute in.
template <class T, class A, class Up, class Down>
void reduce_as(u8* out, const std::vector<const u8*>& in, size_t n, int op, double scale, Up up,
               Down down) {
    for (size_t i = 0; i < n; ++i) {
        A sum{};
        for (size_t r = 0; r < in.size(); ++r) {
            T t;
            memcpy(&t, in[r] + i * sizeof(T), sizeof(T));
            A v = up(t);
            if (scale != 1) v = (A)(v * scale);
            sum = r == 0 ? v : combine(sum, v, op);
        }
        if (op == ncclAvg) sum = (A)(sum / (A)in.size());
        T t = down(sum);
        memcpy(out + i * sizeof(T), &t, sizeof(T));
    }
}

}  // namespace

void reduce_elements(u8* out, const std::vector<const u8*>& in, size_t n, ncclDataType_t type,
                     int op, double scale) {
    auto same = [&]<class T>(T) {
        auto identity = [](T v) { return v; };
        reduce_as<T, T>(out, in, n, op, scale, identity, identity);
    };
    auto as_float = [&]<class T>(T, auto up, auto down) {
        reduce_as<T, float>(out, in, n, op, scale, up, down);
    };
    switch (type) {
        case ncclInt8:
            return same(i8{});
        case ncclUint8:
            return same(u8{});
        case ncclInt32:
            return same(i32{});
        case ncclUint32:
            return same(u32{});
        case ncclInt64:
            return same(i64{});
        case ncclUint64:
            return same(u64{});
        case ncclFloat64:
            return same(double{});
        case ncclFloat16:
            return as_float(
                u16{}, [](u16 v) { return to_f(f16{v}); }, [](float f) { return to_h(f).v; });
        case ncclBfloat16:
            return as_float(
                u16{}, [](u16 v) { return to_f(bf16{v}); }, [](float f) { return to_b(f).v; });
        case ncclFloat8e4m3:
            return as_float(
                u8{}, [](u8 v) { return E4M3f::to(v); },
                [](float f) { return (u8)E4M3f::from(f, Rnd::RN, true); });
        case ncclFloat8e5m2:
            return as_float(
                u8{}, [](u8 v) { return E5M2f::to(v); },
                [](float f) { return (u8)E5M2f::from(f, Rnd::RN, true); });
        default:
            return same(float{});
    }
}

}  // namespace ptxemu
