// PTX text -> syntax tree. Registers and labels are resolved to scoped unique names here, nothing
// else is.
#pragma once
#include <map>
#include <memory>
#include <stdexcept>
#include <unordered_map>

#include "kernels/ptxemu/interpreter/types.h"

namespace ptxemu {

struct ParseError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Opnd {
    enum K : u8 { None, Reg, Special, Int, F32, F64, Sym, Addr, Vec, Pair, Sink, List } k = None;
    bool neg = false;       // !p, or a negated register
    int reg = -1;           // index in PFunc::regs
    u64 bits = 0;           // immediate bits, or address offset
    std::string name;       // symbol, label or special register
    std::vector<Opnd> sub;  // Vec/Pair/List members; Addr: base and further parts
};

struct PInstr {
    std::string op;                 // first component: "ld"
    std::vector<std::string> mods;  // the rest: "global", "f32"
    std::vector<Opnd> ops;
    int guard = -1;
    bool guard_neg = false;
    u32 line = 0, loc_file = 0, loc_line = 0;
    std::string text() const;  // full opcode
    bool has(const char* m) const;
};

struct PReg {
    std::string name;
    Ty type;
};

struct PVar {
    std::string name, space;  // global const shared local param
    Ty type = Ty::B8;
    u32 align = 1;
    u64 bytes = 0;
    bool external = false;
    std::vector<u8> init;
    struct Ref {
        u64 at;
        u32 size;
        std::string sym;
        i64 add;
    };
    std::vector<Ref> refs;  // addresses inside the initialiser
};

struct PFunc {
    std::string name;
    bool entry = false, defined = false;
    std::vector<PVar> params, rets, vars;  // vars: shared/local/param declared in the body
    std::vector<PReg> regs;
    std::vector<PInstr> body;
    std::unordered_map<std::string, u32> labels;                       // name -> instruction index
    std::unordered_map<std::string, std::vector<std::string>> tables;  // .branchtargets
    u32 reqntid[3] = {0, 0, 0}, maxntid = 0;
    u32 cluster[3] = {0, 0, 0};
};

struct PModule {
    int target = 0;
    bool arch_specific = false;
    std::vector<PVar> globals;  // global, const, shared at module scope
    std::map<std::string, std::unique_ptr<PFunc>> funcs;
    std::map<u32, std::string> files;
    std::map<std::string, std::string> aliases;
};

std::unique_ptr<PModule> parse_ptx(const std::string& text);

}  // namespace ptxemu
