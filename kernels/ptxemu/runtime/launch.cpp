// Registration of modules and kernels, launches, function attributes, occupancy.
#include <algorithm>
#include <cstdio>
#include <map>
#include <unordered_map>

#include "kernels/ptxemu/runtime/profile.h"
#include "kernels/ptxemu/runtime/runtime.h"

namespace ptxemu {

namespace {
auto& modules = *new std::vector<std::unique_ptr<FatModule>>;  // these outlive every destructor
auto& kernels =
    *new std::unordered_map<const void*, std::unique_ptr<KernelRec>>;  // by host function
auto& handles = *new std::unordered_map<const void*, KernelRec*>;
auto& variables = *new std::unordered_map<const void*, VarRec>;
struct Config {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
};
thread_local std::vector<Config> configs;
u64 launches = 0;
}  // namespace

int newest_ptx() {
    int best = 0;
    for (auto& m : modules)
        for (auto& e : m->entries)
            if (e.ptx) best = std::max(best, e.arch);
    return best;
}

static Module& loaded(FatModule& f) {
    if (f.mod) return *f.mod;
    const FatEntry* best = nullptr;
    bool any_ptx = false;
    for (auto& e : f.entries) {
        any_ptx |= e.ptx;
        if (e.ptx && e.arch <= device_profile().capability && (!best || e.arch > best->arch))
            best = &e;
    }
    if (!best) {
        std::string s = any_ptx ? "the program's PTX is for a newer architecture than PTXEMU_CC=" +
                                      std::to_string(device_profile().capability)
                                : "the program holds only SASS; build it with -gencode "
                                  "arch=compute_XX,code=compute_XX so that PTX is embedded";
        unsupported(s);
    }
    f.ptx = best;
    std::string text = fat_text(*best);
    if (const char* dump = getenv("PTXEMU_DUMP")) {
        static int n = 0;
        std::string p = std::string(dump) + "." + std::to_string(n++) + ".ptx";
        if (FILE* o = fopen(p.c_str(), "w")) {
            fwrite(text.data(), 1, text.size(), o);
            fclose(o);
        }
    }
    try {
        f.mod = load_module(text);
    } catch (ParseError& e) {
        unsupported(e.what());
    }
    return *f.mod;
}

Program* program_of(KernelRec& k) {
    if (k.prog) return k.prog;
    try {
        k.prog = program(loaded(*k.fm), k.name);
    } catch (ParseError& e) {
        unsupported("kernel " + demangle(k.name) + ": " + e.what());
    }
    if (!k.prog) unsupported("kernel " + demangle(k.name) + " is not in the program's PTX");
    return k.prog;
}

std::string ptx_text(FatModule& f) {
    loaded(f);
    return fat_text(*f.ptx);
}

std::vector<const FatEntry*> machine_code(const FatModule& f) {
    std::vector<const FatEntry*> v;
    for (auto& e : f.entries)
        if (!e.ptx) v.push_back(&e);
    return v;
}

KernelRec* kernel_of(const void* f) {
    auto it = kernels.find(f);
    if (it != kernels.end()) return it->second.get();
    auto h = handles.find(f);
    return h == handles.end() ? nullptr : h->second;
}

u64 symbol_address(const void* sym, size_t* size) {
    auto it = variables.find(sym);
    if (it == variables.end()) return 0;
    Module& m = loaded(*it->second.fm);
    auto g = m.globals.find(it->second.name);
    if (g == m.globals.end()) return 0;
    if (size) *size = it->second.size;
    return g->second;
}

namespace {
struct KernelWork : Work {
    Launch launch;
    void start() override {
        launch.ordered = order;
        launch.sms = (u32)device_profile().sms;
        if (launch.cooperative) {  // the barrier word of grid.sync()
            static u64 barrier_word = mem_alloc(8, AllocKind::Variable, "grid workspace");
            memset(host_view(barrier_word), 0, 8);
            launch.workspace = barrier_word;
        }
        try {
            run_launch(launch);
        } catch (LaunchAbort& a) {  // found at the next synchronising call, as on a device
            fprintf(stderr, "ptxemu: kernel %s stopped with CUDA error %d\n", label, a.cudaError);
            set_sticky((cudaError_t)a.cudaError);
        }
    }
};
}  // namespace

cudaError_t launch_kernel(KernelRec& k, dim3 grid, dim3 block, void** args, size_t shared,
                          bool coop, Stream& stream) {
    Program* p = program_of(k);
    Launch L;
    L.prog = p;
    L.grid = {grid.x, grid.y, grid.z};
    L.block = {block.x, block.y, block.z};
    L.dyn_shared = (u32)shared;
    L.cooperative = coop;
    if (opt().stats) L.blocks_per_sm = (u32)resident_blocks(k, (int)L.block.count(), shared);
    L.id = ++launches;
    if (cudaError_t e = launch_limits(k, grid, block, shared, coop)) return set_error(e);
    if (p->entry->cluster[0] * p->entry->cluster[1] * p->entry->cluster[2] > 1)
        unsupported("thread block clusters of more than one block (kernel " + demangle(k.name) +
                    ")");
    L.params.resize(p->param_bytes);
    for (size_t i = 0; i < p->param_off.size(); ++i)
        memcpy(L.params.data() + p->param_off[i], args[i], p->param_size[i]);
    if (opt().trace)
        fprintf(stderr, "ptxemu-trace launch %llu %s grid (%u,%u,%u) block (%u,%u,%u) shared %zu\n",
                (unsigned long long)L.id, demangle(k.name).c_str(), grid.x, grid.y, grid.z, block.x,
                block.y, block.z, shared);
    auto w = std::make_shared<KernelWork>();
    w->launch = std::move(L);
    w->label = k.label();
    submit({&stream}, w);
    return cudaSuccess;
}

}  // namespace ptxemu

using namespace ptxemu;

extern "C" {

void** __cudaRegisterFatBinary(void* w) {
    std::lock_guard l(api_lock());
    static std::once_flag checks;
    std::call_once(checks, [] {
        if (opt().leaks) at_end(report_leaks);
    });
    auto m = std::make_unique<FatModule>();
    m->entries = fat_entries(w);
    modules.push_back(std::move(m));
    return (void**)modules.back().get();
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void** h) {
    (void)h;
    return 1;
}

void __cudaRegisterFunction(void** h, const char* host_function, char*, const char* name, int,
                            uint3*, uint3*, dim3*, dim3*, int*) {
    std::lock_guard l(api_lock());
    auto k = std::make_unique<KernelRec>();
    k->fm = (FatModule*)h;
    k->name = name;
    handles[k.get()] = k.get();
    kernels[host_function] = std::move(k);
}
void __cudaRegisterVar(void** h, char* host_variable, char*, const char* name, int, size_t size,
                       int, int) {
    std::lock_guard l(api_lock());
    variables[host_variable] = {(FatModule*)h, name, size, nullptr};
}
void __cudaRegisterManagedVar(void** h, void** host_variable, char*, const char* name, int,
                              size_t size, int, int) {
    (void)h;
    (void)host_variable;
    (void)size;
    unsupported(std::string("__managed__ variable ") + name);
}
void __cudaRegisterHostVar(void**, const char*, char*, size_t) {}
void __cudaRegisterUnifiedTable(void**, void*) {}

unsigned __cudaPushCallConfiguration(dim3 g, dim3 b, size_t s, struct CUstream_st* st) {
    configs.push_back({g, b, s, st});
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* g, dim3* b, size_t* s, void* st) {
    if (configs.empty()) return cudaErrorInvalidConfiguration;
    Config c = configs.back();
    configs.pop_back();
    *g = c.grid;
    *b = c.block;
    *s = c.shared;
    *(cudaStream_t*)st = c.stream;
    return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* k, const void* f) {
    std::lock_guard l(api_lock());
    KernelRec* r = kernel_of(f);
    if (!r) return cudaErrorInvalidDeviceFunction;
    *k = (cudaKernel_t)r;
    return cudaSuccess;
}
cudaError_t cudaGetKernel(cudaKernel_t* k, const void* f) { return __cudaGetKernel(k, f); }
cudaError_t cudaGetFuncBySymbol(cudaFunction_t* k, const void* f) {
    return __cudaGetKernel((cudaKernel_t*)k, f);
}

cudaError_t cudaLaunchKernel(const void* f, dim3 g, dim3 b, void** a, size_t s, cudaStream_t st) {
    PTXEMU_STREAM(stream, st);
    KernelRec* k = kernel_of(f);
    if (!k) return set_error(cudaErrorInvalidDeviceFunction);
    return launch_kernel(*k, g, b, a, s, false, *stream);
}
cudaError_t __cudaLaunchKernel(cudaKernel_t f, dim3 g, dim3 b, void** a, size_t s,
                               cudaStream_t st) {
    return cudaLaunchKernel((const void*)f, g, b, a, s, st);
}
cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t f, dim3 g, dim3 b, void** a, size_t s,
                                    cudaStream_t st) {
    return cudaLaunchKernel((const void*)f, g, b, a, s, st);
}
cudaError_t cudaLaunchKernel_ptsz(const void* f, dim3 g, dim3 b, void** a, size_t s,
                                  cudaStream_t st) {
    return cudaLaunchKernel(f, g, b, a, s, st);
}
cudaError_t cudaLaunchCooperativeKernel(const void* f, dim3 g, dim3 b, void** a, size_t s,
                                        cudaStream_t st) {
    PTXEMU_STREAM(stream, st);
    KernelRec* k = kernel_of(f);
    if (!k) return set_error(cudaErrorInvalidDeviceFunction);
    return launch_kernel(*k, g, b, a, s, true, *stream);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* c, const void* f, void** a) {
    PTXEMU_STREAM(stream, c->stream);
    KernelRec* k = kernel_of(f);
    if (!k) return set_error(cudaErrorInvalidDeviceFunction);
    bool coop = false;
    for (unsigned i = 0; i < c->numAttrs; ++i) {
        auto& t = c->attrs[i];
        if (t.id == cudaLaunchAttributeCooperative) coop = t.val.cooperative;
        if (t.id == cudaLaunchAttributeClusterDimension &&
            t.val.clusterDim.x * t.val.clusterDim.y * t.val.clusterDim.z > 1)
            unsupported("thread block clusters of more than one block (kernel " +
                        demangle(k->name) + ")");
    }
    return launch_kernel(*k, c->gridDim, c->blockDim, a, c->dynamicSmemBytes, coop, *stream);
}
cudaError_t cudaLaunchKernelExC_ptsz(const cudaLaunchConfig_t* c, const void* f, void** a) {
    return cudaLaunchKernelExC(c, f, a);
}

cudaError_t cudaGetSymbolAddress(void** p, const void* s) {
    PTXEMU_API_BEGIN;
    u64 a = symbol_address(s, nullptr);
    if (!a) return set_error(cudaErrorInvalidSymbol);
    *p = (void*)a;
    return cudaSuccess;
}
cudaError_t cudaGetSymbolSize(size_t* n, const void* s) {
    PTXEMU_API_BEGIN;
    if (!symbol_address(s, n)) return set_error(cudaErrorInvalidSymbol);
    return cudaSuccess;
}
}

PTXEMU_ALIAS(cudaLaunchCooperativeKernel, ptsz);
