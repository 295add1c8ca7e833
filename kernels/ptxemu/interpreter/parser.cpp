#include "kernels/ptxemu/interpreter/parser.h"

#include <cctype>
#include <cstdlib>

namespace ptxemu {

Ty parse_ty(const std::string& s) {
    static const std::unordered_map<std::string, Ty> m = {
        {"u8", Ty::U8},         {"u16", Ty::U16},     {"u32", Ty::U32},     {"u64", Ty::U64},
        {"s8", Ty::S8},         {"s16", Ty::S16},     {"s32", Ty::S32},     {"s64", Ty::S64},
        {"b8", Ty::B8},         {"b16", Ty::B16},     {"b32", Ty::B32},     {"b64", Ty::B64},
        {"b128", Ty::B128},     {"f16", Ty::F16},     {"f16x2", Ty::F16x2}, {"bf16", Ty::BF16},
        {"bf16x2", Ty::BF16x2}, {"f32", Ty::F32},     {"f32x2", Ty::F32x2}, {"f64", Ty::F64},
        {"tf32", Ty::TF32},     {"e4m3", Ty::E4M3},   {"e5m2", Ty::E5M2},   {"e4m3x2", Ty::E4M3x2},
        {"e5m2x2", Ty::E5M2x2}, {"u16x2", Ty::U16x2}, {"s16x2", Ty::S16x2}, {"pred", Ty::Pred}};
    auto it = m.find(s);
    return it == m.end() ? Ty::None : it->second;
}

int ty_size(Ty t) {
    switch (t) {
        case Ty::U8:
        case Ty::S8:
        case Ty::B8:
        case Ty::E4M3:
        case Ty::E5M2:
            return 1;
        case Ty::U16:
        case Ty::S16:
        case Ty::B16:
        case Ty::F16:
        case Ty::BF16:
        case Ty::E4M3x2:
        case Ty::E5M2x2:
            return 2;
        case Ty::U64:
        case Ty::S64:
        case Ty::B64:
        case Ty::F64:
        case Ty::F32x2:
            return 8;
        case Ty::B128:
            return 16;
        default:
            return 4;
    }
}

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

struct Tok {
    enum K : u8 { End, Id, Dot, Num, Str, Punct } k = End;
    std::string s;
    u64 v = 0;
    char num_kind = 'i';  // i, f (0f), d (0d or decimal)
    u32 line = 0;
};

class Lexer {
  public:
    explicit Lexer(const std::string& t) : t_(t) {}
    Tok next() {
        skip();
        Tok r;
        r.line = line_;
        if (p_ >= t_.size() || t_[p_] == 0) return r;
        char c = t_[p_];
        if (c == '"') {
            size_t e = t_.find('"', p_ + 1);
            r.k = Tok::Str;
            r.s = t_.substr(p_ + 1, e - p_ - 1);
            p_ = e + 1;
            return r;
        }
        if (isdigit((unsigned char)c)) return number(r);
        if (c == '.' || id_char(c)) {
            r.k = c == '.' ? Tok::Dot : Tok::Id;
            size_t b = p_++;
            while (p_ < t_.size()) {
                char d = t_[p_];
                if (id_char(d) || isdigit((unsigned char)d))
                    ++p_;
                else if (d == '.' && r.k == Tok::Id && p_ + 1 < t_.size() &&
                         (id_char(t_[p_ + 1]) || isdigit((unsigned char)t_[p_ + 1])))
                    ++p_;
                else if (d == ':' && p_ + 1 < t_.size() && t_[p_ + 1] == ':')
                    p_ += 2;
                else
                    break;
            }
            r.s = t_.substr(b, p_ - b);
            return r;
        }
        r.k = Tok::Punct;
        r.s = std::string(1, c);
        ++p_;
        return r;
    }

  private:
    static bool id_char(char c) {
        return isalpha((unsigned char)c) || c == '_' || c == '$' || c == '%';
    }
    void skip() {
        while (p_ < t_.size()) {
            char c = t_[p_];
            if (c == '\n') {
                ++line_;
                ++p_;
            } else if (isspace((unsigned char)c))
                ++p_;
            else if (c == '/' && t_[p_ + 1] == '/') {
                while (p_ < t_.size() && t_[p_] != '\n') ++p_;
            } else if (c == '/' && t_[p_ + 1] == '*') {
                p_ += 2;
                while (p_ + 1 < t_.size() && !(t_[p_] == '*' && t_[p_ + 1] == '/'))
                    line_ += t_[p_++] == '\n';
                p_ += 2;
            } else
                break;
        }
    }
    Tok number(Tok r) {
        r.k = Tok::Num;
        size_t b = p_;
        char c1 = p_ + 1 < t_.size() ? t_[p_ + 1] : 0;
        if (t_[p_] == '0' && (c1 == 'f' || c1 == 'F' || c1 == 'd' || c1 == 'D')) {
            p_ += 2;
            size_t s = p_;
            while (isxdigit((unsigned char)t_[p_])) ++p_;
            r.v = strtoull(t_.substr(s, p_ - s).c_str(), nullptr, 16);
            r.num_kind = (c1 | 32);
        } else if (t_[p_] == '0' && (c1 == 'x' || c1 == 'X')) {
            p_ += 2;
            while (isxdigit((unsigned char)t_[p_])) ++p_;
            r.v = strtoull(t_.substr(b, p_ - b).c_str(), nullptr, 16);
        } else if (t_[p_] == '0' && (c1 == 'b' || c1 == 'B')) {
            p_ += 2;
            size_t s = p_;
            while (isdigit((unsigned char)t_[p_])) ++p_;
            r.v = strtoull(t_.substr(s, p_ - s).c_str(), nullptr, 2);
        } else {
            while (isdigit((unsigned char)t_[p_])) ++p_;
            bool fl = t_[p_] == '.' && isdigit((unsigned char)t_[p_ + 1]);
            if (fl) {
                ++p_;
                while (isdigit((unsigned char)t_[p_]) || t_[p_] == 'e' || t_[p_] == 'E') ++p_;
                r.v = std::bit_cast<u64>(strtod(t_.substr(b, p_ - b).c_str(), nullptr));
                r.num_kind = 'd';
            } else
                r.v = strtoull(t_.substr(b, p_ - b).c_str(), nullptr, t_[b] == '0' ? 8 : 10);
        }
        if (t_[p_] == 'U' || t_[p_] == 'u') ++p_;
        r.s = t_.substr(b, p_ - b);
        return r;
    }
    const std::string& t_;
    size_t p_ = 0;
    u32 line_ = 1;
};

class Parser {
  public:
    explicit Parser(const std::string& t) : lex_(t) {
        cur_ = lex_.next();
        ahead_ = lex_.next();
    }
    std::unique_ptr<PModule> run() {
        m_ = std::make_unique<PModule>();
        while (cur_.k != Tok::End) top_level();
        return std::move(m_);
    }

  private:
    [[noreturn]] void fail(const std::string& why) {
        throw ParseError("PTX line " + std::to_string(cur_.line) + ": " + why + " near '" + cur_.s +
                         "'");
    }
    Tok take() {
        Tok t = std::move(cur_);
        cur_ = std::move(ahead_);
        ahead_ = lex_.next();
        return t;
    }
    bool is(const char* s) const { return cur_.k != Tok::Str && cur_.s == s; }
    bool accept(const char* s) {
        if (!is(s)) return false;
        take();
        return true;
    }
    void expect(const char* s) {
        if (!accept(s)) fail(std::string("expected ") + s);
    }
    i64 int_value() {
        bool n = accept("-");
        if (cur_.k != Tok::Num) fail("expected a number");
        i64 v = (i64)take().v;
        return n ? -v : v;
    }
    void skip_to(const char* s) {
        while (cur_.k != Tok::End && !is(s)) take();
        accept(s);
    }

    void top_level() {
        if (is(".version")) {
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
        if (is(".address_size")) {
            take();
            take();
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

    // after the space keyword: [.align n] [.attribute(..)] .type name [dims] [= init]
    PVar variable(const std::string& space) {
        PVar v;
        v.space = space;
        bool have_align = false;
        u32 vec = 1;
        for (;;) {
            if (accept(".align")) {
                v.align = (u32)int_value();
                have_align = true;
            } else if (accept(".attribute"))
                skip_to(")");
            else if (accept(".ptr")) {
                while (is(".global") || is(".shared") || is(".const") || is(".local")) take();
            } else if (accept(".v2"))
                vec = 2;
            else if (accept(".v4"))
                vec = 4;
            else if (cur_.k == Tok::Dot) {
                Ty t = parse_ty(cur_.s.substr(1));
                if (t == Ty::None) {
                    if (is(".texref") || is(".samplerref") || is(".surfref"))
                        t = Ty::U64;
                    else
                        fail("unknown type");
                }
                v.type = t;
                take();
            } else
                break;
        }
        v.name = take().s;
        u64 n = vec;
        bool open = false;
        while (accept("[")) {
            if (is("]"))
                open = true;
            else
                n *= (u64)int_value();
            expect("]");
        }
        u32 es = ty_size(v.type);
        if (!have_align) v.align = es * vec;
        if (accept("=")) {
            initialiser(v, es);
            if (open) n = v.init.size() / es;
        }
        v.bytes = open && v.init.empty() ? 0 : n * es;
        if (!v.init.empty()) v.init.resize(v.bytes, 0);
        return v;
    }
    void initialiser(PVar& v, u32 es) {
        if (accept("{")) {
            while (!is("}")) {
                initialiser(v, es);
                accept(",");
            }
            expect("}");
            return;
        }
        u64 bits = 0;
        bool neg = accept("-");
        if (cur_.k == Tok::Num) {
            Tok t = take();
            bits = t.num_kind == 'd' && es == 4
                       ? std::bit_cast<u32>((float)std::bit_cast<double>(t.v))
                       : t.v;
            if (neg) bits = 0 - bits;
            if (accept("(")) fail("unsupported initialiser");  // 0xFF(sym): byte of an address
        } else {
            std::string s = take().s;
            while (accept("(")) {
                s = take().s;
                expect(")");
            }
            i64 add = 0;
            if (is("+") || is("-")) {
                bool n2 = take().s == "-";
                add = int_value();
                if (n2) add = -add;
            }
            v.refs.push_back({v.init.size(), es, s, add});
        }
        const u8* p = (const u8*)&bits;
        for (u32 i = 0; i < es; ++i) v.init.push_back(i < 8 ? p[i] : 0);
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

    Lexer lex_;
    Tok cur_, ahead_;
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
