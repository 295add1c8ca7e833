#include "kernels/ptxemu/runtime/registers.h"

#include <elf.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "kernels/ptxemu/runtime/profile.h"

extern char** environ;

namespace ptxemu {

namespace {

namespace fs = std::filesystem;

template <class T>
bool read_at(const std::string& d, size_t at, T& v) {
    if (at + sizeof v > d.size()) return false;
    memcpy(&v, d.data() + at, sizeof v);
    return true;
}

// The machine code says it in its section .nv.info: entries of a format, an attribute and a size;
// those of a function hold the number of its symbol and a value.
std::optional<MachineResources> in_machine_code(const std::string& elf, const std::string& kernel) {
    constexpr u8 kWithSize = 4, kRegisters = 0x2f, kFrame = 0x11;
    Elf64_Ehdr head;
    if (!read_at(elf, 0, head) || memcmp(head.e_ident, ELFMAG, SELFMAG)) return {};
    std::vector<Elf64_Shdr> sections(head.e_shnum);
    for (size_t k = 0; k < sections.size(); ++k)
        if (!read_at(elf, head.e_shoff + k * head.e_shentsize, sections[k])) return {};
    auto text = [&](size_t table, size_t at) {
        return std::string(elf.c_str() + sections.at(table).sh_offset + at);
    };

    std::vector<std::string> symbols;
    for (auto& s : sections)
        for (size_t k = 0; s.sh_type == SHT_SYMTAB && k < s.sh_size / sizeof(Elf64_Sym); ++k) {
            Elf64_Sym symbol;
            if (!read_at(elf, s.sh_offset + k * sizeof symbol, symbol)) return {};
            symbols.push_back(text(s.sh_link, symbol.st_name));
        }
    std::optional<MachineResources> found;
    for (auto& s : sections) {
        if (text(head.e_shstrndx, s.sh_name) != ".nv.info") continue;
        struct {
            u8 format, attribute;
            u16 size;
        } entry;
        for (size_t at = s.sh_offset; at < s.sh_offset + s.sh_size && read_at(elf, at, entry);) {
            at += sizeof entry;
            if (entry.format != kWithSize) continue;
            u32 value[2] = {};
            if (entry.size == sizeof value && read_at(elf, at, value) &&
                value[0] < symbols.size() && symbols[value[0]] == kernel) {
                if (!found) found.emplace();
                if (entry.attribute == kRegisters) found->registers = (int)value[1];
                if (entry.attribute == kFrame) found->stack_bytes = value[1];
            }
            at += entry.size;
        }
    }
    return found && found->registers ? found : std::nullopt;
}

// ---------------------------------------------------------------- ptxas

std::string ptxas() {
    if (const char* p = getenv("PTXEMU_PTXAS")) return p;
    return access(PTXEMU_TOOLKIT_PTXAS, X_OK) == 0 ? PTXEMU_TOOLKIT_PTXAS : "";
}

bool run(const std::vector<std::string>& command) {
    std::vector<char*> argv;
    for (auto& s : command) argv.push_back((char*)s.c_str());
    argv.push_back(nullptr);
    std::vector<char*> environment;  // without the emulator's own libraries
    for (char** e = environ; *e; ++e)
        if (strncmp(*e, "LD_", 3)) environment.push_back(*e);
    environment.push_back(nullptr);
    pid_t pid;
    int status = -1;
    if (posix_spawnp(&pid, argv[0], nullptr, nullptr, argv.data(), environment.data()))
        return false;
    waitpid(pid, &status, 0);
    return status == 0;
}

std::string contents(const fs::path& p) {
    std::ifstream in(p, std::ios::binary);
    std::stringstream s;
    s << in.rdbuf();
    return s.str();
}

fs::path cache_folder() {
    if (const char* p = getenv("PTXEMU_CACHE")) return p;
    if (const char* p = getenv("XDG_CACHE_HOME")) return fs::path(p) / "ptxemu";
    const char* home = getenv("HOME");
    return fs::path(home ? home : "/tmp") / ".cache" / "ptxemu";
}

// FNV-1a: the name of a cached result.
u64 hash(std::initializer_list<std::string> parts) {
    u64 h = 14695981039346656037ull;
    for (auto& s : parts)
        for (size_t k = 0; k <= s.size(); ++k) h = (h ^ (u8)s.c_str()[k]) * 1099511628211ull;
    return h;
}

std::optional<MachineResources> by_ptxas(const std::string& ptx, const std::string& target,
                                         const std::string& kernel) {
    std::string program = ptxas();
    if (program.empty()) return {};
    char name[32];
    snprintf(name, sizeof name, "%016llx",
             (unsigned long long)hash({ptx, target, kernel, program}));
    std::error_code failed;
    fs::path cached = cache_folder() / name;
    MachineResources r;
    if (std::ifstream in(cached); in >> r.registers >> r.stack_bytes) return r;

    fs::create_directories(cached.parent_path(), failed);
    fs::path base = cached;
    base += ".";
    base += std::to_string(getpid());
    fs::path source = base, code = base;
    source += ".ptx";
    code += ".cubin";
    std::ofstream(source, std::ios::binary) << ptx;
    std::optional<MachineResources> result;
    if (run({program, "-arch=" + target, "-e", kernel, source, "-o", code}))
        result = in_machine_code(contents(code), kernel);
    if (result) {
        std::ofstream(base) << result->registers << ' ' << result->stack_bytes << '\n';
        fs::rename(base, cached, failed);
    }
    for (auto& p : {base, source, code}) fs::remove(p, failed);
    return result;
}

std::optional<MachineResources> look_up(KernelRec& k) {
    int cc = device_profile().capability;
    for (const FatEntry* e : machine_code(*k.fm))
        if (e->arch / 10 == cc / 10 && e->arch <= cc)
            if (auto r = in_machine_code(fat_bytes(*e), k.name)) return r;
    const Program& p = *program_of(k);
    std::string target = "sm_";
    target += std::to_string(cc);
    if (p.mod->ast->arch_specific) target += "a";
    return by_ptxas(ptx_text(*k.fm), target, k.name);
}

}  // namespace

std::optional<MachineResources> machine_resources(KernelRec& k) {
    static auto& known = *new std::map<const KernelRec*, std::optional<MachineResources>>;
    auto it = known.find(&k);
    if (it == known.end()) it = known.emplace(&k, look_up(k)).first;
    return it->second;
}

}  // namespace ptxemu
