// Syntax tree -> executable instructions.
#pragma once
#include "kernels/ptxemu/interpreter/core.h"
#include "kernels/ptxemu/interpreter/report.h"

namespace ptxemu {

// Everything the family decoders need for one instruction.
class Dec {
  public:
    Dec(Program& p, FuncImage& f, const PInstr& i);
    Program& P;
    FuncImage& F;
    const PInstr& I;
    Ins in;
    std::vector<Ins> before, after;  // width fix-ups around it

    bool has(const char* m) const { return I.has(m); }
    Ty ty(int k) const { return k < (int)types.size() ? types[k] : Ty::None; }
    Ty last() const { return types.empty() ? Ty::None : types.back(); }
    std::vector<Ty> types;
    int nops() const { return (int)I.ops.size(); }
    const Opnd& op(int k) const;

    u32 src(const Opnd& o, int bytes);  // slot holding the value, width 4, 8 or 16
    u32 dst(const Opnd& o, int bytes);
    u32 src(int k, int bytes) { return src(op(k), bytes); }
    u32 dst(int k, int bytes) { return dst(op(k), bytes); }
    u32 src_t(int k, Ty t) { return src(k, slot(t)); }
    u32 dst_t(int k, Ty t) { return dst(k, slot(t)); }
    u32 pred_src(const Opnd& o, bool& neg);  // predicate slot
    u32 pred_dst(const Opnd& o);
    int reg_width(const Opnd& o) const;  // 4, 8, 16 bytes; 0 for no register
    u32 constant(u64 v, int bytes);
    bool immediate(const Opnd& o, i64& v) const;
    u32 temp(int bytes);
    u32 special(const std::string& n);
    static int slot(Ty t) {
        int s = ty_size(t);
        return s <= 4 ? 4 : s;
    }
    [[noreturn]] void fail(const std::string& why = "");
};

// A slot of the register file.
u32 alloc_slot(Program& p, int bytes);

// Each family takes an instruction or returns false.
bool dec_int(Dec& d);
bool dec_move(Dec& d);
bool dec_bits(Dec& d);
bool dec_float(Dec& d);
bool dec_half(Dec& d);
bool dec_cvt(Dec& d);
bool dec_cmp(Dec& d);
bool dec_mem(Dec& d);
bool dec_atom(Dec& d);
bool dec_warp(Dec& d);
bool dec_ctrl(Dec& d);
bool dec_call(Dec& d);  // of dec_ctrl
bool dec_async(Dec& d);
bool dec_mma(Dec& d);
bool dec_wgmma(Dec& d);
bool dec_tma(Dec& d);

enum Space : u8 { SpGlobal, SpShared, SpLocal, SpConst, SpParam, SpGeneric, SpParamFn };

// A loaded PTX module with its variables placed.
struct Module {
    std::unique_ptr<PModule> ast;
    std::string file_name;
    std::unordered_map<std::string, u64> globals;  // device address
    std::unordered_map<std::string, u64> global_size;
    std::map<std::string, std::unique_ptr<Program>> programs;
    std::map<std::string, u64> func_addr;  // for function pointers
};
std::unique_ptr<Module> load_module(const std::string& ptx);
Program* program(Module& m, const std::string& entry);

// function pointers: unique small addresses
u64 function_address(Module& m, const std::string& name);
const std::string* function_name(u64 address);

}  // namespace ptxemu
