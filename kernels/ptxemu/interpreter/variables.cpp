// Types, and declarations of variables with their initial values.
#include <bit>

#include "kernels/ptxemu/interpreter/lexer.h"

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

PVar TokenStream::variable(const std::string& space) {
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

void TokenStream::initialiser(PVar& v, u32 es) {
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
        bits = t.num_kind == 'd' && es == 4 ? std::bit_cast<u32>((float)std::bit_cast<double>(t.v))
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

}  // namespace ptxemu
