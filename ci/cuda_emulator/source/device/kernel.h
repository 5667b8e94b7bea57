// What is put before every kernel's source when g++ compiles it: CUDA's keywords, the built-in variables and functions, and how
// a kernel tells the emulator what arguments it takes. Included by the emulator too, for `State` and `Kernel`.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulator {

struct Index {
    unsigned x, y, z;
};

// Of the thread that runs now. There is one; `execute` gives each kernel's library its address.
struct State {
    Index thread, block, block_size, grid_size;
    char* shared;                // dynamic shared memory
    unsigned number;             // of the thread in its block
    char (*exchange)[16];        // a slot for each thread of the block: what shuffles pass on
    void (*wait_for_block)();    // __syncthreads
    void (*wait_for_warp)(unsigned mask);
    unsigned (*alive_in_warp)();
};

struct Kernel {
    void (*function)();
    void (*call)(void (*function)(), void** arguments);
    const size_t* sizes;  // of the arguments, in bytes
    size_t count;
};

}  // namespace emulator

#ifdef CUDA_EMULATOR_KERNEL

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include <vector_types.h>

#include <cuda_fp16.h>

extern "C" {
extern emulator::State* emulator_state;
}

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ static  // one block runs at a time
#define __restrict__ __restrict

#define threadIdx (emulator_state->thread)
#define blockIdx (emulator_state->block)
#define blockDim (emulator_state->block_size)
#define gridDim (emulator_state->grid_size)
constexpr int warpSize = 32;

namespace emulator {

template <class... A>
struct Signature {
    static constexpr size_t sizes[sizeof...(A) ? sizeof...(A) : 1] = {sizeof(A)...};
    template <size_t... I>
    static void call(void (*function)(A...), void** arguments, std::index_sequence<I...>) {
        function(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
    }
    static void call(void (*function)(), void** arguments) {
        call(reinterpret_cast<void (*)(A...)>(function), arguments, std::index_sequence_for<A...>{});
    }
};

template <class... A>
Kernel describe(void (*function)(A...)) {
    using S = Signature<std::remove_const_t<A>...>;
    return {reinterpret_cast<void (*)()>(function), static_cast<void (*)(void (*)(), void**)>(&S::call), S::sizes, sizeof...(A)};
}

template <class T>
T exchange(unsigned mask, T value, unsigned source) {
    static_assert(sizeof(T) <= 16, "a shuffle passes at most 16 bytes");
    State& s = *emulator_state;
    std::memcpy(s.exchange[s.number], &value, sizeof value);
    s.wait_for_warp(mask);
    T out;
    std::memcpy(&out, s.exchange[source], sizeof out);
    s.wait_for_warp(mask);
    return out;
}

}  // namespace emulator

// ---- waiting and warps ----

inline void __syncthreads() { emulator_state->wait_for_block(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulator_state->wait_for_warp(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline unsigned __activemask() { return emulator_state->alive_in_warp(); }

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
    const unsigned me = emulator_state->number, first = me - me % width;
    return emulator::exchange(mask, value, first + unsigned(lane) % width);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    const unsigned me = emulator_state->number;
    return emulator::exchange(mask, value, me % width < delta ? me : me - delta);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    const unsigned me = emulator_state->number;
    return emulator::exchange(mask, value, me % width + delta < unsigned(width) ? me + delta : me);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
    const unsigned me = emulator_state->number, other = me ^ unsigned(lanes);
    return emulator::exchange(mask, value, other / width <= me / width ? other : me);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    const unsigned first = emulator_state->number / 32 * 32;
    emulator::exchange(mask, predicate, emulator_state->number);
    unsigned out = 0;
    int given = predicate;
    std::memcpy(emulator_state->exchange[emulator_state->number], &given, sizeof given);
    emulator_state->wait_for_warp(mask);
    for (unsigned lane = 0; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        std::memcpy(&given, emulator_state->exchange[first + lane], sizeof given);
        out |= unsigned(given != 0) << lane;
    }
    emulator_state->wait_for_warp(mask);
    return out;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) == (mask & emulator_state->alive_in_warp());
}

// ---- bits ----

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
namespace emulator {
template <class To, class From>
To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "the sizes differ");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
}  // namespace emulator
inline int __float_as_int(float x) { return emulator::same_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emulator::same_bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulator::same_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emulator::same_bits<float>(x); }
inline long long __double_as_longlong(double x) { return emulator::same_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emulator::same_bits<double>(x); }
template <class T>
T __ldg(const T* pointer) {
    return *pointer;
}

// ---- mathematics that the host's library lacks ----

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float rsqrt(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float rcbrtf(float x) { return 1.0f / std::cbrt(x); }
inline double rcbrt(double x) { return 1.0 / std::cbrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline float exp10f(float x) { return std::pow(10.0f, x); }
inline double normcdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752440); }
inline float normcdff(float x) { return 0.5f * std::erfc(-x * 0.70710678118654752440f); }
inline float sinpif(float x) { return float(std::sin(3.14159265358979323846 * x)); }
inline double sinpi(double x) { return std::sin(3.14159265358979323846 * x); }
inline float cospif(float x) { return float(std::cos(3.14159265358979323846 * x)); }
inline double cospi(double x) { return std::cos(3.14159265358979323846 * x); }
using std::abs;
using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;
template <class A, class B>
std::common_type_t<A, B> min(A a, B b) {
    using C = std::common_type_t<A, B>;
    return C(b) < C(a) ? C(b) : C(a);
}
template <class A, class B>
std::common_type_t<A, B> max(A a, B b) {
    using C = std::common_type_t<A, B>;
    return C(a) < C(b) ? C(b) : C(a);
}

// ---- atomics: one thread runs at a time ----

#define EMULATOR_ATOMIC(NAME, EXPRESSION)                       \
    template <class T, class U>                                 \
    T NAME(T* address, U value) {                               \
        const T old = *address, given = static_cast<T>(value);  \
        (void)given;                                            \
        *address = EXPRESSION;                                  \
        return old;                                             \
    }
EMULATOR_ATOMIC(atomicAdd, old + given)
EMULATOR_ATOMIC(atomicSub, old - given)
EMULATOR_ATOMIC(atomicMax, old < given ? given : old)
EMULATOR_ATOMIC(atomicMin, given < old ? given : old)
EMULATOR_ATOMIC(atomicOr, old | given)
EMULATOR_ATOMIC(atomicAnd, old & given)
EMULATOR_ATOMIC(atomicXor, old ^ given)
EMULATOR_ATOMIC(atomicExch, given)
#undef EMULATOR_ATOMIC
template <class T, class U, class V>
T atomicCAS(T* address, U expected, V value) {
    const T old = *address;
    if (old == static_cast<T>(expected)) *address = static_cast<T>(value);
    return old;
}

#endif  // CUDA_EMULATOR_KERNEL
