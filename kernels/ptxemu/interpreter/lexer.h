// Words of PTX, and a stream of them that parsers take from.
#pragma once
#include "kernels/ptxemu/interpreter/parser.h"

namespace ptxemu {

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
    Tok next();

  private:
    void skip();
    Tok number(Tok r);
    const std::string& t_;
    size_t p_ = 0;
    u32 line_ = 1;
};

class TokenStream {
  public:
    explicit TokenStream(const std::string& t) : lex_(t) {
        cur_ = lex_.next();
        ahead_ = lex_.next();
    }

  protected:
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
    // after the space keyword: [.align n] [.attribute(..)] .type name [dims] [= init]
    PVar variable(const std::string& space);

    Lexer lex_;
    Tok cur_, ahead_;

  private:
    void initialiser(PVar& v, u32 es);
};

Ty parse_ty(const std::string& s);

}  // namespace ptxemu
