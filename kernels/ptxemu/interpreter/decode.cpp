#include "kernels/ptxemu/interpreter/decode.h"

#include <algorithm>
#include <functional>
#include <set>

#include "kernels/ptxemu/interpreter/lane.h"
#include "kernels/ptxemu/interpreter/memory.h"

namespace ptxemu {

const char* cls_name(Cls c) {
    static const char* n[] = {"int",       "float",     "half",    "double",    "special",
                              "cvt",       "move",      "control", "ld.global", "st.global",
                              "ld.shared", "st.shared", "local",   "param",     "atomic",
                              "sync",      "warp",      "async",   "mma"};
    return n[(int)c];
}

u32 alloc_slot(Program& p, int bytes) {
    u32 o = p.reg_bytes;
    p.reg_bytes += 32 * bytes;
    return o;
}

Dec::Dec(Program& p, FuncImage& f, const PInstr& i) : P(p), F(f), I(i) {
    in.src = &i;
    in.fi = &f;
    for (auto& m : i.mods) {
        Ty t = parse_ty(m);
        if (t != Ty::None) types.push_back(t);
    }
    if (i.guard >= 0) {
        in.guard = f.reg_off[i.guard];
        in.guard_neg = i.guard_neg;
    }
}

const Opnd& Dec::op(int k) const {
    if (k >= (int)I.ops.size())
        throw ParseError("PTX line " + std::to_string(I.line) + ": too few operands for " +
                         I.text());
    return I.ops[k];
}
void Dec::fail(const std::string& why) {
    throw ParseError("PTX line " + std::to_string(I.line) + ": cannot decode " + I.text() +
                     (why.empty() ? "" : ": " + why));
}

u32 Dec::temp(int bytes) { return alloc_slot(P, bytes); }

u32 Dec::constant(u64 v, int bytes) {
    auto [it, fresh] = P.const_at.try_emplace({v, bytes}, 0);
    if (!fresh) return it->second;
    std::vector<u8> img(32 * bytes);
    for (int l = 0; l < 32; ++l) memcpy(&img[l * bytes], &v, std::min(bytes, 8));
    u32 o = it->second = alloc_slot(P, bytes);
    P.consts.push_back({o, img});
    return o;
}

int Dec::reg_width(const Opnd& o) const {
    if (o.k != Opnd::Reg) return 0;
    int s = ty_size(F.f->regs[o.reg].type);
    return s <= 4 ? 4 : s;
}

bool Dec::immediate(const Opnd& o, i64& v) const {
    if (o.k != Opnd::Int) return false;
    v = (i64)o.bits;
    return true;
}

namespace {
Ctl narrow64(Warp& w, const Ins& i, u32 m) {
    u32* d = w.reg<u32>(i.o[0]);
    u64* s = w.reg<u64>(i.o[1]);
    lanes(m, [&](int l) { d[l] = (u32)s[l]; });
    return Next;
}
Ctl widen32(Warp& w, const Ins& i, u32 m) {
    u64* d = w.reg<u64>(i.o[0]);
    u32* s = w.reg<u32>(i.o[1]);
    lanes(m, [&](int l) { d[l] = s[l]; });
    return Next;
}
Ctl refresh_special(Warp& w, const Ins& i, u32) {
    static u64 fake = 1000;
    u64 v;
    switch (i.sub) {
        case SpClock:
        case SpClock64:
            v = w.wk->instrs * 4 + w.id;
            break;
        case SpClockHi:
            v = (w.wk->instrs * 4) >> 32;
            break;
        default:
            v = fake += 32;
            break;
    }
    if (i.sub == SpGlobalTimerHi) v >>= 32;
    if (i.sub2 == 8)
        for (int l = 0; l < 32; ++l) w.reg<u64>(i.o[0])[l] = v;
    else
        for (int l = 0; l < 32; ++l) w.reg<u32>(i.o[0])[l] = (u32)v;
    return Next;
}
Ctl negate_value(Warp& w, const Ins& i, u32 m) {
    lanes(m, [&](int l) { w.reg<u32>(i.o[0])[l] = 0 - w.reg<u32>(i.o[1])[l]; });
    return Next;
}
}  // namespace

u32 Dec::special(const std::string& n) {
    static const std::unordered_map<std::string, std::pair<int, int>> map = {
        {"%tid.x", {SpTidX, 4}},
        {"%tid.y", {SpTidY, 4}},
        {"%tid.z", {SpTidZ, 4}},
        {"%ntid.x", {SpNtidX, 4}},
        {"%ntid.y", {SpNtidY, 4}},
        {"%ntid.z", {SpNtidZ, 4}},
        {"%ctaid.x", {SpCtaX, 4}},
        {"%ctaid.y", {SpCtaY, 4}},
        {"%ctaid.z", {SpCtaZ, 4}},
        {"%nctaid.x", {SpNctaX, 4}},
        {"%nctaid.y", {SpNctaY, 4}},
        {"%nctaid.z", {SpNctaZ, 4}},
        {"%laneid", {SpLane, 4}},
        {"%warpid", {SpWarp, 4}},
        {"%nwarpid", {SpNwarp, 4}},
        {"%smid", {SpSm, 4}},
        {"%nsmid", {SpNsm, 4}},
        {"%gridid", {SpGrid64, 8}},
        {"%lanemask_eq", {SpEq, 4}},
        {"%lanemask_le", {SpLe, 4}},
        {"%lanemask_lt", {SpLt, 4}},
        {"%lanemask_ge", {SpGe, 4}},
        {"%lanemask_gt", {SpGt, 4}},
        {"%dynamic_smem_size", {SpDynSmem, 4}},
        {"%total_smem_size", {SpTotalSmem, 4}},
        {"%aggr_smem_size", {SpAggrSmem, 4}},
        {"%clusterid.x", {SpCtaX, 4}},
        {"%clusterid.y", {SpCtaY, 4}},
        {"%clusterid.z", {SpCtaZ, 4}},
        {"%nclusterid.x", {SpNctaX, 4}},
        {"%nclusterid.y", {SpNctaY, 4}},
        {"%nclusterid.z", {SpNctaZ, 4}},
        {"%cluster_ctaid.x", {SpZero, 4}},
        {"%cluster_ctaid.y", {SpZero, 4}},
        {"%cluster_ctaid.z", {SpZero, 4}},
        {"%cluster_nctaid.x", {SpOne, 4}},
        {"%cluster_nctaid.y", {SpOne, 4}},
        {"%cluster_nctaid.z", {SpOne, 4}},
        {"%cluster_ctarank", {SpZero, 4}},
        {"%cluster_nctarank", {SpOne, 4}},
        {"%is_explicit_cluster", {SpZero, 4}},
        {"%reserved_smem_offset_begin", {SpZero, 4}},
        {"%reserved_smem_offset_end", {SpResShared, 4}},
        {"%reserved_smem_offset_0", {SpZero, 4}},
        {"%reserved_smem_offset_1", {SpZero, 4}},
        {"%envreg0", {SpZero, 4}},
        {"%envreg1", {SpEnv1, 4}},
        {"%envreg2", {SpEnv2, 4}},
        {"%clock", {SpClock, 4}},
        {"%clock_hi", {SpClockHi, 4}},
        {"%clock64", {SpClock64, 8}},
        {"%globaltimer", {SpGlobalTimer, 8}},
        {"%globaltimer_lo", {SpGlobalTimerLo, 4}},
        {"%globaltimer_hi", {SpGlobalTimerHi, 4}}};
    auto it = map.find(n);
    if (it == map.end()) fail("unknown register " + n);
    auto [id, bytes] = it->second;
    if (id >= SpClock) {
        Ins r;
        r.fn = refresh_special;
        r.src = &I;
        r.fi = &F;
        r.sub = (u8)id;
        r.sub2 = (u8)bytes;
        r.o[0] = temp(bytes);
        before.push_back(r);
        return r.o[0];
    }
    for (auto& s : P.specials)
        if (s.id == id) return s.off;
    u32 o = alloc_slot(P, bytes);
    P.specials.push_back({id, o});
    return o;
}

u32 Dec::src(const Opnd& o, int bytes) {
    switch (o.k) {
        case Opnd::Reg: {
            u32 off = F.reg_off[o.reg];
            int w = reg_width(o);
            if (F.f->regs[o.reg].type == Ty::Pred) fail("predicate where a value is expected");
            Ins f;
            f.src = &I;
            f.fi = &F;
            f.guard = in.guard;
            f.guard_neg = in.guard_neg;
            if (o.neg) {
                f.fn = negate_value;
                f.o[0] = temp(4);
                f.o[1] = off;
                before.push_back(f);
                off = f.o[0];
            }
            if (w == bytes) return off;
            f.o[0] = temp(bytes);
            f.o[1] = off;
            if (w == 8 && bytes == 4)
                f.fn = narrow64;
            else if (w == 4 && bytes == 8)
                f.fn = widen32;
            else
                fail("register width");
            before.push_back(f);
            return f.o[0];
        }
        case Opnd::Special: {
            u32 off = special(o.name);
            bool wide = o.name == "%gridid" || o.name == "%clock64" || o.name == "%globaltimer";
            if ((wide ? 8 : 4) == bytes) return off;
            Ins f;
            f.src = &I;
            f.fi = &F;
            f.o[0] = temp(bytes);
            f.o[1] = off;
            f.fn = wide ? narrow64 : widen32;
            before.push_back(f);
            return f.o[0];
        }
        case Opnd::Int:
            return constant(bytes == 4 ? (u32)o.bits : o.bits, bytes);
        case Opnd::F32:
            if (bytes == 8)
                return constant(std::bit_cast<u64>((double)std::bit_cast<float>((u32)o.bits)), 8);
            return constant(o.bits, 4);
        case Opnd::F64:
            if (bytes == 4)
                return constant(std::bit_cast<u32>((float)std::bit_cast<double>(o.bits)), 4);
            return constant(o.bits, 8);
        case Opnd::Sink:
            return 0;
        case Opnd::Sym: {
            auto s = P.shared_off.find(o.name);
            if (s != P.shared_off.end()) {
                P.uses_shared = true;
                return constant(kSharedBase + s->second + o.bits, bytes);
            }
            auto l = F.local_off.find(o.name);
            if (l != F.local_off.end()) return constant(l->second + o.bits, bytes);
            auto g = P.mod->globals.find(o.name);
            if (g != P.mod->globals.end()) return constant(g->second + o.bits, bytes);
            for (size_t k = 0; k < F.f->params.size(); ++k)
                if (F.f->params[k].name == o.name)
                    return constant((F.f->entry ? P.param_off[k] : F.param_off[k]) + o.bits, bytes);
            if (P.mod->ast->funcs.count(o.name) || P.mod->ast->aliases.count(o.name))
                return constant(function_address(*P.mod, o.name), bytes);
            fail("unknown symbol " + o.name);
        }
        default:
            fail("bad operand");
    }
}

u32 Dec::dst(const Opnd& o, int bytes) {
    if (o.k == Opnd::Sink) return 0;
    if (o.k != Opnd::Reg) fail("bad destination");
    u32 off = F.reg_off[o.reg];
    int w = reg_width(o);
    if (w == bytes) return off;
    Ins f;
    f.src = &I;
    f.fi = &F;
    f.guard = in.guard;
    f.guard_neg = in.guard_neg;
    f.o[0] = off;
    f.o[1] = temp(bytes);
    if (w == 8 && bytes == 4)
        f.fn = widen32;
    else if (w == 4 && bytes == 8)
        f.fn = narrow64;
    else
        fail("register width");
    after.push_back(f);
    return f.o[1];
}

u32 Dec::pred_src(const Opnd& o, bool& neg) {
    neg = o.neg;
    if (o.k == Opnd::Int) return constant(o.bits ? ~0u : 0, 4);
    if (o.k != Opnd::Reg || F.f->regs[o.reg].type != Ty::Pred) fail("predicate expected");
    return F.reg_off[o.reg];
}
u32 Dec::pred_dst(const Opnd& o) {
    if (o.k == Opnd::Sink) return 0;
    if (o.k != Opnd::Reg || F.f->regs[o.reg].type != Ty::Pred) fail("predicate expected");
    return F.reg_off[o.reg];
}

static std::vector<std::pair<Module*, std::string>> g_func_addrs;
u64 function_address(Module& m, const std::string& name) {
    auto it = m.func_addr.find(name);
    if (it != m.func_addr.end()) return it->second;
    g_func_addrs.push_back({&m, name});
    return m.func_addr[name] = 0x130000000000ull + g_func_addrs.size() * 16;
}

const std::string* function_name(u64 a) {
    u64 k = (a - 0x130000000000ull) / 16 - 1;
    return a >= 0x130000000010ull && k < g_func_addrs.size() ? &g_func_addrs[k].second : nullptr;
}

std::unique_ptr<Module> load_module(const std::string& ptx) {
    auto m = std::make_unique<Module>();
    m->ast = parse_ptx(ptx);
    for (auto& v : m->ast->globals) {
        if (v.space == "shared" || v.external) continue;
        u64 n = std::max<u64>(v.bytes, 1);
        u64 a = mem_alloc(n, AllocKind::Variable, v.name);
        memset(host_view(a), 0, n);
        if (!v.init.empty()) memcpy(host_view(a), v.init.data(), v.init.size());
        m->globals[v.name] = a;
        m->global_size[v.name] = n;
    }
    for (auto& v : m->ast->globals)
        for (auto& r : v.refs) {
            auto g = m->globals.find(r.sym);
            u64 val = g != m->globals.end() ? g->second : function_address(*m, r.sym);
            val += (u64)r.add;
            memcpy(host_view(m->globals[v.name]) + r.at, &val, r.size);
        }
    return m;
}

}  // namespace ptxemu
