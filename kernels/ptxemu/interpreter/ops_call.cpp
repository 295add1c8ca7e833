// Calls, and what a kernel may call of the system: printf, assert, malloc, free.
#include <cstdio>

#include "kernels/ptxemu/interpreter/decode.h"
#include "kernels/ptxemu/interpreter/lane.h"
#include "kernels/ptxemu/interpreter/memory.h"

namespace ptxemu {
namespace {

// local buffer of a lane
u8* lbuf(Warp& w, int l) { return w.local + (size_t)w.blk->L->prog->local_bytes * l; }

Ctl call_direct(Warp& w, const Ins& i, u32 m) {
    const FuncImage* f = (const FuncImage*)i.imm;
    u32* r = w.reg<u32>(f->ret_pc_slot);
    const u32* e = i.ext.data();
    u32 n_in = e[0];
    lanes(m, [&](int l) {
        r[l] = w.pc + 1;
        u8* b = lbuf(w, l);
        for (u32 k = 0; k < n_in; ++k) memmove(b + e[2 + k * 3], b + e[1 + k * 3], e[3 + k * 3]);
    });
    jump_lanes(w, m, f->entry_pc);
    return Jumped;
}
// after the return: results into the caller's variables
Ctl call_return(Warp& w, const Ins& i, u32 m) {
    const u32* e = i.ext.data();
    lanes(m, [&](int l) {
        u8* b = lbuf(w, l);
        for (u32 k = 0; k < e[0]; ++k) memmove(b + e[2 + k * 3], b + e[1 + k * 3], e[3 + k * 3]);
    });
    return Next;
}

// Calls through a pointer. o[0]: address; ext: arguments' places in the caller, then results'
// places; sub: number of arguments
const FuncImage* callee_at(Warp& w, const Ins& i, int l) {
    u64 a = w.reg<u64>(i.o[0])[l];
    const std::string* n = function_name(a);
    if (n)
        for (auto& im : w.blk->L->prog->images)
            if (im->f->name == *n && !im->f->entry) return im.get();
    report(Fault::Other, &w, &i, l, a, true, "call of an address that is no device function");
    abort_launch(719);
}
Ctl call_indirect(Warp& w, const Ins& i, u32 m) {
    while (m) {
        const FuncImage* f = callee_at(w, i, __builtin_ctz(m));
        if (f->param_off.size() != i.sub) {
            report(Fault::Other, &w, &i, __builtin_ctz(m), 0, false,
                   "indirect call with the wrong number of arguments");
            abort_launch(719);
        }
        u32 set = 0;
        lanes(m, [&](int l) {
            if (callee_at(w, i, l) != f) return;
            set |= 1u << l;
            w.reg<u32>(f->ret_pc_slot)[l] = w.pc + 1;
            u8* b = lbuf(w, l);
            for (u32 k = 0; k < i.sub; ++k)
                memmove(b + f->param_off[k], b + i.ext[k], f->f->params[k].bytes);
        });
        jump_lanes(w, set, f->entry_pc);
        m &= ~set;
    }
    return Jumped;
}
Ctl indirect_return(Warp& w, const Ins& i, u32 m) {
    lanes(m, [&](int l) {
        const FuncImage* f = callee_at(w, i, l);
        u8* b = lbuf(w, l);
        for (size_t k = 0; k + i.sub < i.ext.size() && k < f->ret_off.size(); ++k)
            memmove(b + i.ext[i.sub + k], b + f->ret_off[k], f->f->rets[k].bytes);
    });
    return Next;
}

std::string device_string(u64 a) {
    Alloc x;
    std::string s;
    if (!mem_find(a, x)) return s;
    for (const char* p = (const char*)host_view(a); a < x.hi && *p; ++p, ++a) s += *p;
    return s;
}

const u8* generic_read(Warp& w, int l, u64 a) {
    if (a - kLocalWindow < kWindowSize) return lbuf(w, l) + (a - kLocalWindow);
    if (a - kSharedWindow < kWindowSize) return w.blk->smem + (a - kSharedWindow - kSharedBase);
    Alloc x;
    return mem_find(a, x) ? host_view(a) : nullptr;
}

Ctl vprintf_op(Warp& w, const Ins& i, u32 m) {
    lanes(m, [&](int l) {
        u8* b = lbuf(w, l);
        u64 fmt_a, arg_a;
        memcpy(&fmt_a, b + i.ext[0], 8);
        memcpy(&arg_a, b + i.ext[1], 8);
        std::string f = device_string(fmt_a), out;
        const u8* arg = arg_a ? generic_read(w, l, arg_a) : nullptr;
        u32 at = 0;
        auto take = [&](u32 n) {
            at = (at + n - 1) / n * n;
            u64 v = 0;
            if (arg) memcpy(&v, arg + at, n);
            at += n;
            return v;
        };
        int cnt = 0;
        for (size_t k = 0; k < f.size(); ++k) {
            if (f[k] != '%') {
                out += f[k];
                continue;
            }
            if (f[k + 1] == '%') {
                out += '%';
                ++k;
                continue;
            }
            std::string spec = "%";
            size_t e = k + 1;
            int longs = 0;
            while (e < f.size() && !isalpha((unsigned char)f[e])) {
                if (f[e] == '*')
                    spec += std::to_string((i32)take(4));
                else
                    spec += f[e];
                ++e;
            }
            while (e < f.size() &&
                   (f[e] == 'l' || f[e] == 'h' || f[e] == 'z' || f[e] == 'j' || f[e] == 't')) {
                longs += f[e] == 'h' ? 0 : f[e] == 'l' ? 1 : 2;
                ++e;
            }
            char c = e < f.size() ? f[e] : 'd', tmp[512];
            ++cnt;
            if (strchr("fFeEgGaA", c))
                snprintf(tmp, sizeof tmp, (spec + c).c_str(), std::bit_cast<double>(take(8)));
            else if (c == 's') {
                std::string s = device_string(take(8));
                snprintf(tmp, sizeof tmp, (spec + "s").c_str(), s.c_str());
            } else if (c == 'p')
                snprintf(tmp, sizeof tmp, "0x%llx", (unsigned long long)take(8));
            else if (c == 'c')
                snprintf(tmp, sizeof tmp, (spec + "c").c_str(), (int)take(4));
            else if (longs)
                snprintf(tmp, sizeof tmp, (spec + "ll" + c).c_str(), (long long)take(8));
            else
                snprintf(tmp, sizeof tmp, (spec + c).c_str(), (int)take(4));
            out += tmp;
            k = e;
        }
        fputs(out.c_str(), stdout);
        if (i.ext.size() > 2) memcpy(b + i.ext[2], &cnt, 4);
    });
    return Next;
}

Ctl assert_op(Warp& w, const Ins& i, u32 m) {
    int l = __builtin_ctz(m);
    u8* b = lbuf(w, l);
    u64 a[3];
    u32 line;
    memcpy(&a[0], b + i.ext[0], 8);
    memcpy(&a[1], b + i.ext[1], 8);
    memcpy(&line, b + i.ext[2], 4);
    memcpy(&a[2], b + i.ext[3], 8);
    report(Fault::Other, &w, &i, l, 0, false,
           "assertion failed: " + device_string(a[0]) + " at " + device_string(a[1]) + ":" +
               std::to_string(line));
    abort_launch(710);
}
Ctl malloc_op(Warp& w, const Ins& i, u32 m) {
    lanes(m, [&](int l) {
        u8* b = lbuf(w, l);
        u64 n, a;
        memcpy(&n, b + i.ext[0], 8);
        a = mem_alloc(n, AllocKind::Device, "kernel malloc");
        memcpy(b + i.ext[1], &a, 8);
    });
    return Next;
}
Ctl free_op(Warp& w, const Ins& i, u32 m) {
    lanes(m, [&](int l) {
        u64 a;
        memcpy(&a, lbuf(w, l) + i.ext[0], 8);
        if (a) mem_free(a);
    });
    return Next;
}

}  // namespace

bool dec_call(Dec& d) {
    Ins& in = d.in;
    size_t k = 0;
    const Opnd* rets = nullptr;
    if (d.op(0).k == Opnd::List) {
        rets = &d.op(0);
        k = 1;
    }
    const Opnd& callee = d.op((int)k);
    const Opnd* args =
        k + 1 < d.I.ops.size() && d.op((int)k + 1).k == Opnd::List ? &d.op((int)k + 1) : nullptr;
    auto off = [&](const Opnd& o) -> u32 {
        auto it = d.F.local_off.find(o.name);
        if (it == d.F.local_off.end()) d.fail("call argument " + o.name + " is no .param variable");
        return it->second;
    };
    std::vector<u32> a, r;
    if (args)
        for (auto& o : args->sub) a.push_back(off(o));
    if (rets)
        for (auto& o : rets->sub) r.push_back(off(o));
    if (callee.k == Opnd::Reg) {
        in.fn = call_indirect;
        in.o[0] = d.src(callee, 8);
        in.ext = a;
        in.ext.insert(in.ext.end(), r.begin(), r.end());
        in.sub = (u8)a.size();
        Ins after = in;
        after.fn = indirect_return;
        d.after.push_back(after);
        return true;
    }
    if (callee.k != Opnd::Sym) d.fail("callee");
    auto al = d.P.mod->ast->aliases.find(callee.name);
    std::string name = al == d.P.mod->ast->aliases.end() ? callee.name : al->second;
    auto plain = [&](Fn fn) {
        in.fn = fn;
        in.ext = a;
        in.ext.insert(in.ext.end(), r.begin(), r.end());
        return true;
    };
    if (name == "vprintf") return plain(vprintf_op);
    if (name == "__assertfail") return plain(assert_op);
    if (name == "malloc") return plain(malloc_op);
    if (name == "free") return plain(free_op);
    FuncImage* f = nullptr;
    for (auto& im : d.P.images)
        if (im->f->name == name) f = im.get();
    if (!f) d.fail("call of undefined function " + name);
    if (f == &d.F) d.fail("recursion is not supported");
    in.fn = call_direct;
    in.imm = (i64)f;
    in.ext.push_back((u32)a.size());
    for (size_t j = 0; j < a.size(); ++j) {
        in.ext.push_back(a[j]);
        in.ext.push_back(f->param_off.at(j));
        in.ext.push_back((u32)f->f->params[j].bytes);
    }
    if (!r.empty()) {
        Ins after;
        after.fn = call_return;
        after.src = in.src;
        after.fi = in.fi;
        after.guard = in.guard;
        after.guard_neg = in.guard_neg;
        after.ext.push_back((u32)r.size());
        for (size_t j = 0; j < r.size(); ++j) {
            after.ext.push_back(f->ret_off.at(j));
            after.ext.push_back(r[j]);
            after.ext.push_back((u32)f->f->rets[j].bytes);
        }
        d.after.push_back(after);
    }
    return true;
}

}  // namespace ptxemu
