#include "kernels/ptxemu/interpreter/parser.h"

#include <cctype>
#include <cstdlib>

#include "kernels/ptxemu/interpreter/lexer.h"

namespace ptxemu {

std::string PInstr::text() const {
    std::string s = op;
    for (auto& m : mods) s += "." + m;
    return s;
}
bool PInstr::has(const char* m) const {
    for (auto& x : mods)
        if (x == m) return true;
    return false;
}

namespace {

class Parser : TokenStream {
  public:
    explicit Parser(const std::string& t) : TokenStream(t) {}
    std::unique_ptr<PModule> run() {
        m_ = std::make_unique<PModule>();
        while (cur_.k != Tok::End) top_level();
        return std::move(m_);
    }

  private:
    void top_level() {
        if (is(".version") || is(".address_size")) {
            take();
            take();
            return;
        }
        if (is(".target")) {
            take();
            while (cur_.k == Tok::Id) {
                std::string s = take().s;
                if (s.rfind("sm_", 0) == 0) {
                    m_->target = atoi(s.c_str() + 3);
                    m_->arch_specific = isalpha((unsigned char)s.back());
                }
                if (!accept(",")) break;
            }
            return;
        }
        if (is(".file")) {
            file_directive();
            return;
        }
        if (is(".loc")) {
            loc();
            return;
        }
        if (is(".section")) {
            while (!is("}") && cur_.k != Tok::End) take();
            accept("}");
            return;
        }
        if (is(".pragma")) {
            skip_to(";");
            return;
        }
        if (is(".alias")) {
            take();
            std::string a = take().s;
            expect(",");
            m_->aliases[a] = take().s;
            expect(";");
            return;
        }
        if (accept("@@DWARF")) return;
        bool ext = false;
        while (is(".visible") || is(".extern") || is(".weak") || is(".common"))
            ext |= take().s == ".extern";
        if (is(".entry") || is(".func")) return function();
        if (is(".global") || is(".const") || is(".shared")) {
            PVar v = variable(take().s.substr(1));
            v.external = ext;
            m_->globals.push_back(std::move(v));
            while (accept(",")) fail("several variables in one declaration");
            expect(";");
            return;
        }
        fail("unknown directive");
    }

    void file_directive() {
        take();
        u32 n = (u32)int_value();
        m_->files[n] = take().s;
        while (accept(",")) int_value();
    }
    void loc() {
        take();
        loc_file_ = (u32)int_value();
        loc_line_ = (u32)int_value();
        int_value();
        if (accept(",")) {  // function_name label, inlined_at f l c
            take();
            while (!is(",") && !is("inlined_at")) take();
            accept(",");
            take();
            int_value();
            int_value();
            int_value();
        }
    }

    void param_list(std::vector<PVar>& out) {
        expect("(");
        while (!is(")")) {
            if (accept(".reg")) {
                out.push_back(variable("param"));
            } else {
                expect(".param");
                out.push_back(variable("param"));
            }
            accept(",");
        }
        expect(")");
    }

    void function() {
        auto f = std::make_unique<PFunc>();
        f->entry = take().s == ".entry";
        if (is("(")) param_list(f->rets);
        f->name = take().s;
        if (is("(")) param_list(f->params);
        while (cur_.k == Tok::Dot) {
            std::string d = take().s;
            u32 v[3] = {1, 1, 1};
            int n = 0;
            while (cur_.k == Tok::Num) {
                v[n < 2 ? n : 2] = (u32)take().v;
                ++n;
                if (!accept(",")) break;
            }
            if (d == ".reqntid") memcpy(f->reqntid, v, sizeof v);
            if (d == ".maxntid") f->maxntid = v[0] * v[1] * v[2];
            if (d == ".reqnctapercluster") memcpy(f->cluster, v, sizeof v);
        }
        if (accept(";")) {
            if (!m_->funcs.count(f->name)) m_->funcs[f->name] = std::move(f);
            return;
        }
        f->defined = true;
        f_ = f.get();
        scopes_.clear();
        parents_.clear();
        fix_.clear();
        loc_file_ = loc_line_ = 0;
        block();
        for (auto& x : fix_) resolve_label(x);
        m_->funcs[f->name] = std::move(f);
    }

    struct Scope {
        int id;
        std::unordered_map<std::string, int> regs;
    };

    void block() {
        expect("{");
        parents_.push_back(scopes_.empty() ? -1 : scopes_.back().id);
        scopes_.push_back({(int)parents_.size() - 1, {}});
        while (!is("}")) statement();
        expect("}");
        scopes_.pop_back();
    }
    std::string scoped(const std::string& n, int id) const {
        return id == 0 ? n : n + "@" + std::to_string(id);
    }

    struct Fix {
        u32 instr;
        int scope;
    };
    void resolve_label(const Fix& x) {
        for (auto& o : f_->body[x.instr].ops)
            if (o.k == Opnd::Sym)
                for (int s = x.scope; s >= 0; s = parents_[s])
                    if (f_->labels.count(scoped(o.name, s)) ||
                        f_->tables.count(scoped(o.name, s))) {
                        o.name = scoped(o.name, s);
                        break;
                    }
    }

    void statement() {
        if (is("{")) return block();
        if (accept(";")) return;
        if (cur_.k == Tok::Dot) {
            if (is(".reg")) return reg_decl();
            if (is(".loc")) return loc();
            if (is(".file")) return file_directive();
            if (is(".local") || is(".shared") || is(".param") || is(".global") || is(".const")) {
                std::string sp = take().s.substr(1);
                do {
                    f_->vars.push_back(variable(sp));
                } while (accept(","));
                expect(";");
                return;
            }
            if (is(".pragma") || is(".callprototype") || is(".calltargets")) return skip_to(";");
            fail("unknown directive");
        }
        if (cur_.k == Tok::Id && ahead_.s == ":") {
            std::string name = take().s;
            take();
            if (is(".branchtargets")) {
                take();
                auto& t = f_->tables[scoped(name, scopes_.back().id)];
                do t.push_back(take().s);
                while (accept(","));
                expect(";");
                return;
            }
            if (is(".callprototype") || is(".calltargets")) return skip_to(";");
            f_->labels[scoped(name, scopes_.back().id)] = (u32)f_->body.size();
            return;
        }
        instruction();
    }

    void reg_decl() {
        take();
        if (is(".v2") || is(".v4")) fail("vector registers");
        Ty t = parse_ty(take().s.substr(1));
        do {
            std::string n = take().s;
            auto& map = scopes_.back().regs;
            if (accept("<")) {
                int cnt = (int)int_value();
                expect(">");
                for (int i = 0; i < cnt; ++i) {
                    map[n + std::to_string(i)] = (int)f_->regs.size();
                    f_->regs.push_back({n + std::to_string(i), t});
                }
            } else {
                map[n] = (int)f_->regs.size();
                f_->regs.push_back({n, t});
            }
        } while (accept(","));
        expect(";");
    }
    int find_reg(const std::string& n) {
        for (size_t i = scopes_.size(); i-- > 0;) {
            auto it = scopes_[i].regs.find(n);
            if (it != scopes_[i].regs.end()) return it->second;
        }
        return -1;
    }

    void instruction() {
        PInstr I;
        I.line = cur_.line;
        I.loc_file = loc_file_;
        I.loc_line = loc_line_;
        if (accept("@")) {
            I.guard_neg = accept("!");
            std::string n = take().s;
            I.guard = find_reg(n);
            if (I.guard < 0) fail("unknown predicate " + n);
        }
        if (cur_.k != Tok::Id) fail("expected an instruction");
        std::string op = take().s;
        size_t b = 0, e;
        bool first = true;
        do {
            e = op.find('.', b);
            std::string part = op.substr(b, e == std::string::npos ? e : e - b);
            if (first)
                I.op = part;
            else
                I.mods.push_back(part);
            first = false;
            b = e + 1;
        } while (e != std::string::npos);
        while (!is(";")) {
            I.ops.push_back(operand());
            if (!accept(",")) break;
        }
        expect(";");
        fix_.push_back({(u32)f_->body.size(), scopes_.back().id});
        f_->body.push_back(std::move(I));
    }

    Opnd operand() {
        Opnd a = primary();
        if (accept("|")) {
            Opnd p;
            p.k = Opnd::Pair;
            p.sub.push_back(std::move(a));
            p.sub.push_back(primary());
            return p;
        }
        return a;
    }
    Opnd primary() {
        Opnd o;
        if (accept("[")) {
            o.k = Opnd::Addr;
            o.sub.push_back(operand());
            for (;;) {
                if (accept("+"))
                    o.bits += (u64)int_value();
                else if (is("-"))
                    o.bits += (u64)int_value();
                else if (accept(","))
                    o.sub.push_back(operand());
                else
                    break;
            }
            expect("]");
            if (o.sub[0].k == Opnd::Sym && o.sub[0].bits) {
                o.bits += o.sub[0].bits;
                o.sub[0].bits = 0;
            }
            return o;
        }
        if (is("{") || is("(")) {
            const char* close = is("{") ? "}" : ")";
            o.k = is("{") ? Opnd::Vec : Opnd::List;
            take();
            while (!is(close)) {
                o.sub.push_back(operand());
                accept(",");
            }
            expect(close);
            return o;
        }
        if (accept("!")) {
            o = primary();
            o.neg = true;
            return o;
        }
        if (is("-") || cur_.k == Tok::Num) {
            bool n = accept("-");
            if (cur_.k != Tok::Num) {
                o = primary();
                o.neg = true;
                return o;
            }
            Tok t = take();
            o.k = t.num_kind == 'i' ? Opnd::Int : t.num_kind == 'f' ? Opnd::F32 : Opnd::F64;
            o.bits = t.v;
            if (n)
                o.bits = o.k == Opnd::Int   ? 0 - o.bits
                         : o.k == Opnd::F32 ? o.bits ^ 0x80000000u
                                            : o.bits ^ (1ull << 63);
            return o;
        }
        if (cur_.k != Tok::Id) fail("bad operand");
        std::string n = take().s;
        if (n == "_") {
            o.k = Opnd::Sink;
            return o;
        }
        int r = find_reg(n);
        if (r >= 0) {
            o.k = Opnd::Reg;
            o.reg = r;
            return o;
        }
        o.name = n;
        if (n[0] == '%')
            o.k = Opnd::Special;
        else if (n == "WARP_SZ") {
            o.k = Opnd::Int;
            o.bits = 32;
        } else {
            o.k = Opnd::Sym;
            if (is("+")) {
                take();
                o.bits = (u64)int_value();
            }
        }
        return o;
    }

    std::unique_ptr<PModule> m_;
    PFunc* f_ = nullptr;
    std::vector<Scope> scopes_;
    std::vector<int> parents_;
    std::vector<Fix> fix_;
    u32 loc_file_ = 0, loc_line_ = 0;
};

}  // namespace

std::unique_ptr<PModule> parse_ptx(const std::string& text) { return Parser(text).run(); }

}  // namespace ptxemu
