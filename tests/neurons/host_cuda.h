// Enough of CUDA to compile the kernels for the host and run it: the threads of a block one after the other, or really
// at once where the kernel meets at a barrier; one block after the other.
#pragma once

#include <barrier>
#include <bit>
#include <cmath>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

struct Index {
    unsigned x;
};
inline thread_local Index threadIdx, blockIdx;
inline Index gridDim;
inline std::barrier<>* meeting;

inline void __syncthreads() { meeting->arrive_and_wait(); }

inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }

inline float half_value(unsigned short bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const float size = exponent == 31 ? (mantissa ? NAN : INFINITY)
                       : exponent     ? std::ldexp(1024.0f + mantissa, exponent - 25)
                                      : std::ldexp(float(mantissa), -24);
    return bits >> 15 ? -size : size;
}

inline unsigned short half_bits(float value) {
    const unsigned sign = std::bit_cast<unsigned>(value) >> 31 << 15;
    const float size = std::fabs(value);
    if (size != size) return sign | 0x7e00;
    if (size >= 65520) return sign | 0x7c00;
    const int exponent = size < 0x1p-14f ? -14 : std::ilogb(size);
    // A significand of 2048 carries into the exponent, one below 1024 is subnormal: both come out right.
    return sign | ((exponent + 14) * 1024 + int(std::nearbyint(std::ldexp(size, 10 - exponent))));
}

// One letter per parameter: (p)ointer, (q) 64-bit integer, (f)loat.
template <typename... A> const char* parameters(void (*)(A...)) {
    static const std::string letters = {
        (std::is_pointer_v<A> ? 'p' : std::is_same_v<A, long long> ? 'q' : std::is_same_v<A, float> ? 'f' : '?')...};
    return letters.c_str();
}

template <typename... A, std::size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

template <typename... A>
void launch(void (*kernel)(A...), unsigned blocks, unsigned threads, bool has_barrier, void** arguments) {
    gridDim = {blocks};
    const auto run = [&](unsigned block, unsigned thread) {
        blockIdx = {block};
        threadIdx = {thread};
        call(kernel, arguments, std::index_sequence_for<A...>());
    };
    if (!has_barrier) {
        for (unsigned block = 0; block < blocks; block++)
            for (unsigned thread = 0; thread < threads; thread++) run(block, thread);
        return;
    }
    std::barrier<> barrier(threads);
    meeting = &barrier;
    std::vector<std::jthread> running;
    for (unsigned thread = 0; thread < threads; thread++)
        running.emplace_back([&, thread] {
            for (unsigned block = 0; block < blocks; block++) {
                run(block, thread);
                barrier.arrive_and_wait();  // before the next block reuses the shared memory
            }
        });
}
