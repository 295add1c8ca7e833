// What the places of a mutated kernel ask (scripts/mutation/places.py writes the questions, and
// copies this file into the tree of mutants): whether this is the chosen mutant. While recording,
// also notes which mutants would have done otherwise here.
#pragma once
#pragma GCC system_header  // comparisons of the sources, as templates, give warnings that the
                           // sources do not

#include <cuda_runtime.h>

#include <cstdlib>
#include <utility>
#include <vector>

namespace lathe::mutation {

inline constexpr int kRecord = -1;
inline constexpr int kNumbers = 16384;

/// LATHE_MUTANT, until choose() is called.
inline int& chosen_on_host() {
    static int chosen = [] {
        const char* text = std::getenv("LATHE_MUTANT");
        return text == nullptr ? 0 : std::atoi(text);
    }();
    return chosen;
}

inline std::vector<int>& differs_on_host() {
    static std::vector<int> differs(kNumbers);
    return differs;
}

/// A translation unit's copies on the device.
struct DeviceState {
    const void* chosen;
    const void* differs;
};

inline std::vector<DeviceState>& device_states() {
    static std::vector<DeviceState> states;
    return states;
}

/// A unit that asks nothing on the device has no such variables.
inline void forget_invalid_symbol() { static_cast<void>(cudaGetLastError()); }

inline void choose(int number) {
    chosen_on_host() = number;
    for (const DeviceState& state : device_states()) {
        if (cudaMemcpyToSymbol(state.chosen, &number, sizeof(number), 0, cudaMemcpyHostToDevice) !=
            cudaSuccess) {
            forget_invalid_symbol();
        }
    }
}

/// Before a kernel is launched.
inline void choose_by_environment() {
    static const bool is_chosen = (choose(chosen_on_host()), true);
    static_cast<void>(is_chosen);
}

/// By number: not zero where the mutant would have done otherwise since this was last called.
inline std::vector<int> take_differences() {
    std::vector<int> all = std::exchange(differs_on_host(), std::vector<int>(kNumbers));
    const std::vector<int> none(kNumbers);
    for (const DeviceState& state : device_states()) {
        std::vector<int> here(kNumbers);
        const size_t bytes = here.size() * sizeof(int);
        if (cudaMemcpyFromSymbol(here.data(), state.differs, bytes, 0, cudaMemcpyDeviceToHost) !=
                cudaSuccess ||
            cudaMemcpyToSymbol(state.differs, none.data(), bytes, 0, cudaMemcpyHostToDevice) !=
                cudaSuccess) {
            forget_invalid_symbol();
        }
        for (int i = 0; i < kNumbers; ++i) {
            all[i] |= here[i];
        }
    }
    return all;
}

#ifdef __CUDACC__
#define LATHE_MUTATION_FUNCTION static __host__ __device__ __forceinline__
static __device__ int lathe_chosen_on_device = 0;
static __device__ int lathe_differs_on_device[kNumbers];
template <typename T>
const void* symbol(const T& variable) {
    return &variable;
}
static const bool lathe_is_known =
    (device_states().push_back({symbol(lathe_chosen_on_device), symbol(lathe_differs_on_device)}),
     true);
#else
#define LATHE_MUTATION_FUNCTION inline
#endif

/// Asked only where the mutant does otherwise. A call on the device: what it does would double the
/// code at each place, again and again where loops are unrolled.
#ifdef __CUDACC__
[[maybe_unused]] static __device__ __noinline__ bool is_chosen_on_device(int number) {
    const int chosen = lathe_chosen_on_device;
    if (chosen == kRecord) {
        atomicOr(&lathe_differs_on_device[number], 1);  // which races with no other
    }
    return chosen == number;
}
#endif

LATHE_MUTATION_FUNCTION bool is_chosen(int number) {
#ifdef __CUDA_ARCH__
    return is_chosen_on_device(number);
#else
    if (chosen_on_host() == kRecord) {
        differs_on_host()[number] = 1;
    }
    return chosen_on_host() == number;
#endif
}

LATHE_MUTATION_FUNCTION bool decide(int number, bool original, bool mutated) {
    return original != mutated && is_chosen(number) ? mutated : original;
}

template <typename T>
LATHE_MUTATION_FUNCTION T least(int number, T a, T b) {
    const bool takes_b = b < a;
    return decide(number, takes_b, b > a) ? b : a;
}

/// a < shift(...) + b, the bound b more and less by one.
struct Shift {
    int number, other_way, by;
};

LATHE_MUTATION_FUNCTION Shift shift(int number, int other_way, int by) {
    return {number, other_way, by};
}

template <typename T>
struct Shifted {
    T bound;
    Shift shift;
};

LATHE_MUTATION_FUNCTION bool decide(const Shift& shift, bool original, bool mutated,
                                    bool other_way) {
    return decide(shift.other_way, decide(shift.number, original, mutated), other_way);
}

template <typename T>
LATHE_MUTATION_FUNCTION Shifted<T> operator+(const Shift& shift, T bound) {
    return {bound, shift};
}
template <typename T, typename U>
LATHE_MUTATION_FUNCTION auto operator+(const Shifted<T>& a, U b) {
    return Shifted<decltype(a.bound + b)>{a.bound + b, a.shift};
}
template <typename T, typename U>
LATHE_MUTATION_FUNCTION auto operator-(const Shifted<T>& a, U b) {
    return Shifted<decltype(a.bound - b)>{a.bound - b, a.shift};
}
#define LATHE_MUTATION_COMPARISON(op)                                           \
    template <typename A, typename T>                                           \
    LATHE_MUTATION_FUNCTION bool operator op(const A& a, const Shifted<T>& b) { \
        return decide(b.shift, a op b.bound, a op(b.bound + b.shift.by),        \
                      a op(b.bound - b.shift.by));                              \
    }
LATHE_MUTATION_COMPARISON(<)
LATHE_MUTATION_COMPARISON(<=)
LATHE_MUTATION_COMPARISON(>)
LATHE_MUTATION_COMPARISON(>=)

}  // namespace lathe::mutation
