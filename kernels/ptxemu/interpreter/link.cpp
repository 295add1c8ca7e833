// Programs: a kernel and the functions that it calls as one piece of code.
#include <algorithm>
#include <functional>
#include <set>

#include "kernels/ptxemu/interpreter/decode.h"

namespace ptxemu {

namespace {
bool decode_any(Dec& d) {
    return dec_int(d) || dec_move(d) || dec_bits(d) || dec_float(d) || dec_half(d) || dec_cmp(d) ||
           dec_cvt(d) || dec_mem(d) || dec_atom(d) || dec_warp(d) || dec_ctrl(d) || dec_async(d) ||
           dec_mma(d) || dec_wgmma(d) || dec_tma(d);
}

u32 align_up(u32 v, u32 a) { return (v + a - 1) / a * a; }

void unknown_ins(Dec& d, const std::string& why) {
    // Decoding failures are reported only when the instruction is reached.
    static std::vector<std::unique_ptr<std::string>> keep;
    keep.push_back(std::make_unique<std::string>(why));
    d.before.clear();
    d.after.clear();
    d.in.imm = (i64)keep.back().get();
    d.in.fn = [](Warp& w, const Ins& i, u32 m) -> Ctl {
        report(Fault::Unsupported, &w, &i, __builtin_ctz(m), 0, false, *(std::string*)i.imm);
        abort_launch(999);
    };
}

class Linker {
  public:
    explicit Linker(Program& p) : P(p) {}
    void run() {
        alloc_slot(P, 16);  // offset 0: where sinks go
        layout_shared();
        add(*P.entry);
        for (size_t k = 0; k < P.images.size(); ++k) discover(*P.images[k]);
        for (auto& im : P.images) emit(*im);
        patch();
        P.local_bytes = align_up(P.local_bytes, 16);
        P.reg_bytes = align_up(P.reg_bytes, 64);
    }

  private:
    Program& P;
    std::unordered_map<std::string, FuncImage*> by_name_;
    std::vector<std::unordered_map<u32, u32>> pc_of_;

    std::string real(const std::string& n) const {
        auto it = P.mod->ast->aliases.find(n);
        return it == P.mod->ast->aliases.end() ? n : it->second;
    }

    void layout_shared() {
        u32 off = 0;
        auto place = [&](const PVar& v) {
            if (v.space != "shared" || v.bytes == 0 || P.shared_off.count(v.name)) return;
            off = align_up(off, std::max(v.align, 1u));
            P.shared_off[v.name] = off;
            off += (u32)v.bytes;
        };
        // only the module variables that this kernel (or a function) names
        std::set<std::string> used;
        auto scan = [&](const PFunc& f) {
            for (auto& i : f.body) {
                std::function<void(const Opnd&)> walk = [&](const Opnd& o) {
                    if (o.k == Opnd::Sym) used.insert(o.name);
                    for (auto& s : o.sub) walk(s);
                };
                for (auto& o : i.ops) walk(o);
            }
        };
        scan(*P.entry);
        for (auto& [n, f] : P.mod->ast->funcs)
            if (!f->entry) scan(*f);
        std::vector<const PVar*> vars;
        for (auto& v : P.mod->ast->globals)
            if (used.count(v.name)) vars.push_back(&v);
        for (auto& v : P.entry->vars) vars.push_back(&v);
        for (auto& [n, f] : P.mod->ast->funcs)
            if (!f->entry)
                for (auto& v : f->vars) vars.push_back(&v);
        for (auto* v : vars) place(*v);
        u32 dyn_align = 1;
        for (auto* v : vars)
            if (v->space == "shared" && v->bytes == 0) dyn_align = std::max(dyn_align, v->align);
        P.dyn_align = std::max(dyn_align, 16u);
        off = align_up(off, std::max(dyn_align, 1u));
        for (auto* v : vars)
            if (v->space == "shared" && v->bytes == 0) P.shared_off[v->name] = off;
        P.static_shared = off;
    }

    FuncImage* add(const PFunc& f) {
        auto it = by_name_.find(f.name);
        if (it != by_name_.end()) return it->second;
        auto im = std::make_unique<FuncImage>();
        im->f = &f;
        for (auto& r : f.regs) {
            int s = ty_size(r.type);
            im->reg_off.push_back(alloc_slot(P, s <= 4 ? 4 : s));
            ++P.n_regs32;
        }
        im->ret_pc_slot = alloc_slot(P, 4);
        auto place_local = [&](const PVar& v) {
            P.local_bytes = align_up(P.local_bytes, std::max(v.align, 8u));
            u32 o = P.local_bytes;
            P.local_bytes += (u32)v.bytes;
            return o;
        };
        for (auto& v : f.vars)
            if (v.space == "local" || v.space == "param") im->local_off[v.name] = place_local(v);
        if (!f.entry) {
            for (auto& v : f.params) {
                im->param_off.push_back(place_local(v));
                im->local_off[v.name] = im->param_off.back();
            }
            for (auto& v : f.rets) {
                im->ret_off.push_back(place_local(v));
                im->local_off[v.name] = im->ret_off.back();
            }
        } else {
            u32 o = 0;
            for (auto& v : f.params) {
                o = align_up(o, std::max(v.align, 1u));
                P.param_off.push_back(o);
                P.param_size.push_back((u32)v.bytes);
                o += (u32)v.bytes;
            }
            P.param_bytes = o;
        }
        FuncImage* r = im.get();
        by_name_[f.name] = r;
        P.images.push_back(std::move(im));
        return r;
    }

    void discover(FuncImage& im) {
        bool indirect = false;
        for (auto& i : im.f->body) {
            if (i.op != "call") continue;
            for (auto& o : i.ops) {
                if (o.k == Opnd::Reg) indirect = true;
                if (o.k != Opnd::Sym) continue;
                auto f = P.mod->ast->funcs.find(real(o.name));
                if (f != P.mod->ast->funcs.end() && f->second->defined) add(*f->second);
            }
        }
        if (indirect)
            for (auto& [n, f] : P.mod->ast->funcs)
                if (!f->entry && f->defined) add(*f);
    }

    void emit(FuncImage& im) {
        im.entry_pc = (u32)P.code.size();
        std::unordered_map<u32, u32> map;
        auto& body = im.f->body;
        for (u32 k = 0; k < body.size(); ++k) {
            map[k] = (u32)P.code.size();
            Dec d(P, im, body[k]);
            try {
                if (!decode_any(d))
                    unknown_ins(d, "instruction not implemented: " + body[k].text());
            } catch (ParseError& e) {
                unknown_ins(d, e.what());
            }
            for (auto& x : d.before) P.code.push_back(std::move(x));
            P.code.push_back(std::move(d.in));
            for (auto& x : d.after) P.code.push_back(std::move(x));
        }
        map[(u32)body.size()] = (u32)P.code.size();
        // falling off the end
        static const PInstr ret = [] {
            PInstr r;
            r.op = "ret";
            return r;
        }();
        Dec d(P, im, ret);
        dec_ctrl(d);
        P.code.push_back(d.in);
        im.end_pc = (u32)P.code.size();
        pc_of_.push_back(std::move(map));
    }

    void patch() {
        for (size_t k = 0; k < P.images.size(); ++k) {
            FuncImage& im = *P.images[k];
            auto target = [&](const std::string& n) -> i64 {
                auto it = im.f->labels.find(n);
                if (it == im.f->labels.end())
                    throw ParseError("unknown label " + n + " in " + im.f->name);
                return pc_of_[k][it->second];
            };
            for (u32 pc = im.entry_pc; pc < im.end_pc; ++pc) {
                Ins& in = P.code[pc];
                const PInstr& s = *in.src;
                if (in.sub4 != 0xFB) continue;  // marked by dec_ctrl: needs a target
                if (s.op == "bra")
                    in.imm = target(s.ops[0].name);
                else if (s.op == "brx") {
                    auto t = im.f->tables.find(s.ops[1].name);
                    if (t == im.f->tables.end())
                        throw ParseError("unknown branch table " + s.ops[1].name);
                    std::string scope = s.ops[1].name.find('@') == std::string::npos
                                            ? ""
                                            : s.ops[1].name.substr(s.ops[1].name.find('@'));
                    for (auto& n : t->second)
                        in.targets.push_back(
                            (u32)target(im.f->labels.count(n + scope) ? n + scope : n));
                }
            }
        }
    }
};
}  // namespace

Program* program(Module& m, const std::string& entry) {
    auto& p = m.programs[entry];
    if (p) return p.get();
    auto f = m.ast->funcs.find(entry);
    if (f == m.ast->funcs.end() || !f->second->defined) return nullptr;
    p = std::make_unique<Program>();
    p->mod = &m;
    p->entry = f->second.get();
    Linker(*p).run();
    return p.get();
}

}  // namespace ptxemu
