// Tensor copies: cuTensorMapEncodeTiled and cp.async.bulk.tensor (tile mode, no interleave, blocks
// without clusters).
#include <cuda.h>

#include <algorithm>
#include <cmath>

#include "kernels/ptxemu/interpreter/access.h"
#include "kernels/ptxemu/interpreter/async.h"
#include "kernels/ptxemu/interpreter/lane.h"
#include "kernels/ptxemu/interpreter/smallfloat.h"

namespace ptxemu {
namespace {

constexpr u32 kMagic = 0x7e45a901;
// What cuTensorMapEncodeTiled writes into the 128 opaque bytes.
struct Map {
    u32 magic;
    u8 type, rank, swizzle, nan_fill;
    u64 base;
    u32 dim[5];
    u16 box[5];
    u8 estride[5], elem;
    u64 stride[4];
};
static_assert(sizeof(Map) <= 128);

int elem_size(CUtensorMapDataType t) {
    switch (t) {
        case CU_TENSOR_MAP_DATA_TYPE_UINT8:
            return 1;
        case CU_TENSOR_MAP_DATA_TYPE_UINT16:
        case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
        case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
            return 2;
        case CU_TENSOR_MAP_DATA_TYPE_UINT64:
        case CU_TENSOR_MAP_DATA_TYPE_INT64:
        case CU_TENSOR_MAP_DATA_TYPE_FLOAT64:
            return 8;
        case CU_TENSOR_MAP_DATA_TYPE_UINT32:
        case CU_TENSOR_MAP_DATA_TYPE_INT32:
        case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
        case CU_TENSOR_MAP_DATA_TYPE_FLOAT32_FTZ:
        case CU_TENSOR_MAP_DATA_TYPE_TFLOAT32:
        case CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ:
            return 4;
        default:
            return 0;
    }
}

CUresult encode_tiled(CUtensorMap* out, CUtensorMapDataType type, cuuint32_t rank, void* addr,
                      const cuuint64_t* dim, const cuuint64_t* stride, const cuuint32_t* box,
                      const cuuint32_t* estride, CUtensorMapInterleave inter, CUtensorMapSwizzle sw,
                      CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill) {
    int es = elem_size(type);
    if (!out || !es || rank < 1 || rank > 5 || ((u64)addr & 15) ||
        inter != CU_TENSOR_MAP_INTERLEAVE_NONE || sw > CU_TENSOR_MAP_SWIZZLE_128B)
        return CUDA_ERROR_INVALID_VALUE;
    Map m{};
    m.magic = kMagic;
    m.type = (u8)type;
    m.rank = (u8)rank;
    m.swizzle = (u8)sw;
    m.nan_fill = fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA;
    m.base = (u64)addr;
    m.elem = (u8)es;
    for (u32 k = 0; k < rank; ++k) {
        if (dim[k] == 0 || dim[k] > (1ull << 32) || box[k] == 0 || box[k] > 256 ||
            estride[k] == 0 || estride[k] > 8)
            return CUDA_ERROR_INVALID_VALUE;
        m.dim[k] = (u32)dim[k];
        m.box[k] = (u16)box[k];
        m.estride[k] = (u8)estride[k];
        if (k + 1 < rank) {
            if (stride[k] % 16 || stride[k] >= (1ull << 40)) return CUDA_ERROR_INVALID_VALUE;
            m.stride[k] = stride[k];
        }
    }
    u32 inner = box[0] * (u32)es;
    if (inner % 16 || (sw && inner > (16u << sw))) return CUDA_ERROR_INVALID_VALUE;
    memset(out, 0, sizeof *out);
    memcpy(out, &m, sizeof m);
    return CUDA_SUCCESS;
}

u32 swizzled(const Map& m, u32 a) {
    u32 mask = m.swizzle == 0 ? 0 : m.swizzle == 1 ? 1 : m.swizzle == 2 ? 3 : 7;
    return a ^ (((a >> 7) & mask) << 4);
}

// f(shared address, global address or 0 when outside) for every element of the box
template <class F>
void each_element(const Map& m, u32 dst, const i32* c, F&& f) {
    u32 n = 1;
    for (int k = 0; k < m.rank; ++k) n *= m.box[k];
    for (u32 e = 0; e < n; ++e) {
        u32 r = e;
        u64 g = m.base;
        bool in = true;
        for (int k = 0; k < m.rank; ++k) {
            i64 x = (i64)c[k] + (i64)(r % m.box[k]) * m.estride[k];
            r /= m.box[k];
            if (x < 0 || x >= (i64)m.dim[k]) {
                in = false;
                continue;
            }
            g += (u64)x * (k == 0 ? m.elem : m.stride[k - 1]);
        }
        f(swizzled(m, dst + e * m.elem), in ? g : 0);
    }
}

// o[1] shared, o[2] map, o[3] mbarrier; ext: offsets of the three, then coordinates; sub: 0 load 1
// store 2 reduce add; n rank
Ctl tensor(Warp& w, const Ins& i, u32 m) {
    Block& b = *w.blk;
    lanes(m, [&](int l) {
        u64 sa = w.reg<u64>(i.o[1])[l] + i.ext[0], ma = w.reg<u64>(i.o[2])[l] + i.ext[1];
        if (sa - kSharedWindow < kWindowSize) sa -= kSharedWindow;
        Map map;
        memcpy(&map, place<SpGeneric>(w, i, l, ma, 128).p, sizeof map);
        if (map.magic != kMagic || map.rank != i.n || (ma & 63)) {
            report(Fault::Other, &w, &i, l, ma, true,
                   "this is no tensor map of rank " + std::to_string(i.n));
            abort_launch(719);
        }
        i32 c[5] = {};
        for (int k = 0; k < i.n; ++k) c[k] = (i32)w.reg<u32>(i.ext[(size_t)(3 + k)])[l];
        u32 bytes = map.elem;
        for (int k = 0; k < map.rank; ++k) bytes *= map.box[k];
        if (sa & 127) misaligned(w, i, l, sa, 128);
        u8* to = shared_at(w, i, l, sa, bytes);
        u32 off = (u32)sa - kSharedBase, es = map.elem;
        if (i.sub == 0) {
            u64 mb = w.reg<u64>(i.o[3])[l] + i.ext[2];
            if (mb - kSharedWindow < kWindowSize) mb -= kSharedWindow;
            shared_at(w, i, l, mb, 8);
            std::vector<u8> img(bytes, 0);
            each_element(map, (u32)sa, c, [&](u32 s, u64 g) {
                if (s - (u32)sa + es > bytes) {
                    report(Fault::Misaligned, &w, &i, l, sa, true,
                           "swizzled tile is not aligned to its pattern");
                    abort_launch(716);
                }
                u8* p = &img[s - (u32)sa];
                if (g) {
                    memcpy(p, global(w, i, l, g, es), es);
                    if (races(w)) global_range(w, i, l, g, es, false);
                    if (g_init) check_init(w, i, l, g, es);
                } else if (map.nan_fill)
                    memset(p, 0xFF, es);
            });
            if (b.shadow) b.shadow->issue(w, i, l, off, bytes);
            memset(to, 0xFF, bytes);
            Warp* wp = &w;
            b.bulk.push_back({(u32)mb,
                              [to, img = std::move(img), wp, off, l] {
                                  memcpy(to, img.data(), img.size());
                                  if (wp->blk->shadow)
                                      wp->blk->shadow->deliver(*wp, l, off, (u32)img.size(), false);
                              },
                              bytes});
            return;
        }
        if (b.shadow) b.shadow->read(w, i, l, off, bytes);
        each_element(map, (u32)sa, c, [&](u32 s, u64 g) {
            if (!g) return;
            const u8* from = w.blk->smem + (s - kSharedBase);
            u8* d = global(w, i, l, g, es);
            if (g_init) set_init(g, es);
            if (races(w)) global_range(w, i, l, g, es, true);
            if (i.sub == 1) {
                memcpy(d, from, es);
                return;
            }
            if (es == 4) {
                float x, y;
                memcpy(&x, d, 4);
                memcpy(&y, from, 4);
                x += y;
                memcpy(d, &x, 4);
                return;
            }
            u16 x, y;
            memcpy(&x, d, 2);
            memcpy(&y, from, 2);
            x = map.type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 ? to_b(to_f(bf16{x}) + to_f(bf16{y})).v
                                                             : to_h(to_f(f16{x}) + to_f(f16{y})).v;
            memcpy(d, &x, 2);
        });
    });
    return Next;
}
Ctl nop(Warp&, const Ins&, u32) { return Next; }
}  // namespace

bool dec_tma(Dec& d) {
    Ins& in = d.in;
    in.cls = Cls::Async;
    if (d.I.op == "tensormap") {
        in.fn = nop;
        return false;
    }
    if (d.I.op != "cp" || !d.has("bulk") || !d.has("tensor") || d.has("im2col")) return false;
    if (d.has("prefetch")) {
        in.fn = nop;
        return true;
    }
    for (int r = 1; r <= 5; ++r)
        if (d.has((std::to_string(r) + "d").c_str())) in.n = (u8)r;
    bool store = d.has("bulk_group"), red = d.has("reduce");
    if (red && !d.has("add")) return false;
    in.sub = red ? 2 : store ? 1 : 0;
    in.order = red ? kStrong : 0;
    const Opnd &sh = d.op(store ? 1 : 0), &tm = d.op(store ? 0 : 1);
    if (tm.k != Opnd::Addr || tm.sub.size() != 2 || tm.sub[1].k != Opnd::Vec ||
        (int)tm.sub[1].sub.size() != in.n)
        return false;
    in.o[1] = d.src(sh.sub[0], 8);
    in.o[2] = d.src(tm.sub[0], 8);
    in.ext = {(u32)sh.bits, (u32)tm.bits, 0};
    if (!store) {
        in.o[3] = d.src(d.op(2).sub[0], 8);
        in.ext[2] = (u32)d.op(2).bits;
    }
    for (auto& c : tm.sub[1].sub) in.ext.push_back(d.src(c, 4));
    in.fn = tensor;
    return true;
}

}  // namespace ptxemu

extern "C" void* ptxemu_driver_entry(const char* name) {
    return !strcmp(name, "cuTensorMapEncodeTiled") ? (void*)&ptxemu::encode_tiled : nullptr;
}
