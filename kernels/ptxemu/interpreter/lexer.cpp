#include "kernels/ptxemu/interpreter/lexer.h"

#include <bit>
#include <cctype>
#include <cstdlib>

namespace ptxemu {
namespace {

bool id_char(char c) { return isalpha((unsigned char)c) || c == '_' || c == '$' || c == '%'; }

}  // namespace

Tok Lexer::next() {
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

void Lexer::skip() {
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

Tok Lexer::number(Tok r) {
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

}  // namespace ptxemu
