// All T steps of a neuron in one launch: `forward` and `backward` of formulas.py, for one specialisation each.
//
// Compiled by NVRTC without any header; cupy_kernels.py defines the macros in capitals and documents them. The formulas
// stand in the order of formulas.py and are compiled with --fmad=false, so that fp32 results are the same bit for bit.
// Comparisons are written so that NaN passes through as it does there; hence no fminf or fmaxf.
//
// Built to run at the speed of a copy. Every byte is moved once: x is read and y written once, the membrane lives in
// registers in fp32, and backward reads 1 to 4 bits per element and step, or x again where it must, never a float tensor
// made for it. A thread owns VEC neighbours, 16 bytes per load and store, and asks for many steps before it computes the
// first. A multiprocessor of an H100 must have about 30 KB on their way to keep its share of the memory busy (3.3 TB/s
// with 1 us of latency); 6 blocks of 128 threads with 3 such loads each have 36. So registers are better spent on loads
// than on more threads, which is what the 1 in __launch_bounds__ tells the compiler. Time is unrolled, and arrays over T
// are registers. At that speed there is time for 68 instructions per element and step in fp32, 34 in 16 bits (8 and 4
// bytes); the kernels need 7 to 40, hence the fast divisions in gradients and the numbers as kernel arguments, which an
// instruction reads for free.

enum { FP32, FP16, BF16 };
enum { BINARY, TERNARY, INTEGER, SILU, QCFS, STH };
enum { RECTANGLE, TRIANGLE, ATAN, SIGMOID };
enum { ZERO, NUMBER, GIVEN };  // START: what V[-1] is

static constexpr bool SPIKING = EMIT == BINARY || EMIT == TERNARY;
static constexpr bool MEMORYLESS = EMIT == QCFS || EMIT == STH;
static constexpr int CHUNK = STEPS <= 16 ? STEPS : 8;  // steps in flight; a multiple of 8 or all, so that no byte is split
static constexpr int PER_BYTE = 8 / (BITS ? BITS : 8);

template <int> struct Stored { typedef unsigned short type; };
template <> struct Stored<FP32> { typedef float type; };
typedef Stored<IO>::type io;

// VEC neighbours. Tensors are arrays of them, M and the strides are counted in them: otherwise the compiler takes the
// stores apart.
template <typename E> struct alignas(sizeof(E) * VEC < 16 ? sizeof(E) * VEC : 16) Pack { E at[VEC]; };

// The packed bytes of VEC neighbours, the first in the lowest bits.
template <int> struct Word { typedef unsigned long long type; };
template <> struct Word<4> { typedef unsigned type; };
template <> struct Word<2> { typedef unsigned short type; };
template <> struct Word<1> { typedef unsigned char type; };
typedef Word<VEC>::type word;

#ifdef __CUDACC__
__device__ __forceinline__ float half_value(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ unsigned short half_bits(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif

__device__ __forceinline__ float widen(float value) { return value; }

__device__ __forceinline__ float widen(unsigned short bits) {
    return IO == FP16 ? half_value(bits) : __uint_as_float(unsigned(bits) << 16);
}

__device__ __forceinline__ void narrow(float value, float& to) { to = value; }

__device__ __forceinline__ void narrow(float value, unsigned short& to) {
    if (IO == FP16) {
        to = half_bits(value);
        return;
    }
    // bfloat16, to nearest even by hand: also right on devices older than its instructions
    const unsigned bits = __float_as_uint(value);
    to = value != value ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

#define NUMBERS                                                                                                  \
    float keep, float gain, float rest, float th, float v_reset, float v_init, float negative, float negative_th, \
        float window, float alpha, float levels, float slope, float levels_by_th, float th_by_levels, float inverse_th

struct Numbers {
    float keep, gain, rest, th, v_reset, v_init, negative, negative_th, window, alpha, levels, slope, levels_by_th,
        th_by_levels, inverse_th;
};

// The numbers, with the learned ones in their place. Reading them here spares the host a synchronisation.
__device__ __forceinline__ Numbers learned(Numbers c, const float* decay, const float* threshold) {
    if (LEARNED_DECAY) {
        c.keep = 1 - *decay;
        c.gain = DECAY_INPUT ? *decay : 1.0f;
        c.rest = *decay * c.v_reset;
    }
    if (LEARNED_THRESHOLD) {
        c.th = *threshold;
        c.negative_th = c.negative * c.th;
        c.levels_by_th = 1 / c.th * c.levels;
        c.th_by_levels = c.th / c.levels;
        c.inverse_th = 1 / c.th;
    }
    return c;
}

#define READ_NUMBERS                                                                                             \
    learned({keep, gain, rest, th, v_reset, v_init, negative, negative_th, window, alpha, levels, slope, levels_by_th, \
             th_by_levels, inverse_th}, decay, threshold)

__device__ __forceinline__ float one_if(bool yes) { return yes ? 1.0f : 0.0f; }

__device__ __forceinline__ float clamped(float u, float top) {
    const float low = u < 0 ? 0.0f : u;
    return low > top ? top : low;
}

// For gradients: a few units in the last place off, and a third of the instructions.
__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1, 1 + __expf(-x)); }

// `first`: there is no V[t-1] yet, unless START gives one.
__device__ __forceinline__ float charge(const Numbers& c, float v, float x, bool first) {
    if (MEMORYLESS) return x;
    float h = x * c.gain;
    if (START != ZERO || !first) h = v * c.keep + h;
    return HAS_REST ? h + c.rest : h;
}

__device__ __forceinline__ bool fires(const Numbers& c, float h) { return INCLUSIVE ? h >= c.th : h > c.th; }

__device__ __forceinline__ bool fires_negative(const Numbers& c, float h) { return -h >= c.negative_th; }

// EXACT_INVERSE: the threshold is a power of two, and multiplying gives the very bits of the much slower division.
__device__ __forceinline__ float divided(const Numbers& c, float h) { return EXACT_INVERSE ? h * c.inverse_th : h / c.th; }

__device__ __forceinline__ bool within_levels(const Numbers& c, float u) { return u >= 0 && u <= c.levels; }

struct Step {
    float s, v;
};

__device__ __forceinline__ Step step(const Numbers& c, float h) {
    if (SPIKING) {
        const float p = one_if(fires(c, h)), n = EMIT == TERNARY ? one_if(fires_negative(c, h)) : 0.0f;
        if (SOFT) return {p - n, h - (EMIT == TERNARY ? p - n * c.negative : p) * c.th};
        const float fired = p + n, v = h * (1 - fired);
        return {p - n, HAS_REST ? v + fired * c.v_reset : v};
    }
    if (EMIT == INTEGER) {
        const float s = rintf(clamped(divided(c, h), c.levels));
        return {s, h - s * c.th};
    }
    if (EMIT == SILU) {
        const float s = __fdividef(h, 1 + expf(-h));
        return {s, (CARRIES_OUTPUT ? s : h) * (1 - s)};
    }
    if (EMIT == QCFS) return {floorf(clamped(h * c.levels_by_th + 0.5f, c.levels)) * c.th_by_levels, 0};
    const float damped = h * c.slope;
    return {h >= 0 ? (h > c.th ? c.th : h) : (damped < -c.th ? -c.th : damped), 0};
}

// What backward needs of a step, as its BITS bits.
__device__ __forceinline__ unsigned masks(const Numbers& c, float h) {
    if (EMIT == STH) return unsigned(!(h > c.th) && !(h * c.slope < -c.th)) | unsigned(h >= 0) << 1;
    if (EMIT == INTEGER) return within_levels(c, divided(c, h));
    if (EMIT == QCFS) {
        const float u = h * c.levels_by_th + 0.5f;
        return u >= 0 && !(u >= c.levels);
    }
    unsigned found = fabsf(h - c.th) < c.window;
    if (EMIT == BINARY) return BITS > 1 ? found | unsigned(fires(c, h)) << 1 : found;
    found |= unsigned(fabsf(-h - c.negative_th) < c.window) << 1;
    return BITS > 2 ? found | unsigned(fires(c, h)) << 2 | unsigned(fires_negative(c, h)) << 3 : found;
}

// Derivatives of S and V by H, and by the threshold with H fixed.
struct Partials {
    float s_h, v_h, s_th, v_th;
};

static constexpr bool HAS_V_TH = !MEMORYLESS && EMIT != SILU && (SOFT || !DETACH);  // else dV/dth is 0 throughout

__device__ __forceinline__ float derivative(const Numbers& c, float x) {
    if (SURROGATE == RECTANGLE) return fabsf(x) < c.window ? c.alpha : 0.0f;
    if (SURROGATE == TRIANGLE) {
        const float y = 1 - c.alpha * fabsf(x);
        return c.alpha * (y < 0 ? 0.0f : y);
    }
    if (SURROGATE == ATAN) {
        const float y = 1.57079632679f * c.alpha * x;
        return __fdividef(0.5f * c.alpha, 1 + y * y);
    }
    const float s = sigmoid(c.alpha * x);
    return c.alpha * s * (1 - s);
}

// p, n: the surrogate at the thresholds; positive, negative: the spikes.
__device__ __forceinline__ Partials spike_partials(
    const Numbers& c, float h, float p, float n, float positive, float negative) {
    const float r = c.negative;
    Partials d = {p + n, 1, r * n - p, 0};
    if (SOFT) {
        if (!DETACH) d.v_h = 1 - (p + r * n) * c.th;
        d.v_th = -(positive - r * negative);
        if (!DETACH) d.v_th = d.v_th + (p - r * r * n) * c.th;
        return d;
    }
    d.v_h = 1 - (positive + negative);
    if (!DETACH) {
        d.v_h = d.v_h + (c.v_reset - h) * (p - n);
        d.v_th = (h - c.v_reset) * (p + r * n);
    }
    return d;
}

__device__ __forceinline__ Partials partials(const Numbers& c, float h) {
    if (SPIKING) {
        const float p = derivative(c, h - c.th), positive = one_if(fires(c, h));
        if (EMIT == BINARY) return spike_partials(c, h, p, 0, positive, 0);
        return spike_partials(c, h, p, derivative(c, -h - c.negative_th), positive, one_if(fires_negative(c, h)));
    }
    if (EMIT == INTEGER) {
        const float u = divided(c, h), inside = one_if(within_levels(c, u)), s = rintf(clamped(u, c.levels));
        const float s_h = inside * c.inverse_th;
        return {s_h, DETACH ? 1 : 1 - inside, -s_h * u, DETACH ? -s : inside * u - s};
    }
    if (EMIT == SILU) {
        const float sigma = sigmoid(h), s = h * sigma, s_h = sigma * (1 + h * (1 - sigma));
        return {s_h, CARRIES_OUTPUT ? (1 - s) * s_h : 1 - s, 0, 0};
    }
    const float u = h * c.levels_by_th + 0.5f, above = one_if(u >= c.levels), inside = one_if(u >= 0) - above;
    return {inside, 0, inside * (step(c, h).s - h) * c.inverse_th + above, 0};
}

__device__ __forceinline__ float bit(unsigned bits, int k) { return one_if(bits >> k & 1); }

__device__ __forceinline__ Partials partials_from_masks(const Numbers& c, unsigned bits) {
    const float first = bit(bits, 0), second = bit(bits, 1);
    if (EMIT == STH) return {first * (second + (1 - second) * c.slope), 0, (1 - first) * (2 * second - 1), 0};
    if (EMIT == QCFS) return {first, 0, 0, 0};
    if (EMIT == INTEGER) return {first * c.inverse_th, DETACH ? 1 : 1 - first, 0, 0};
    if (EMIT == BINARY) return spike_partials(c, 0, first * c.alpha, 0, second, 0);
    return spike_partials(c, 0, first * c.alpha, second * c.alpha, bit(bits, 2), bit(bits, 3));
}

// V[-1] of pack i.
__device__ __forceinline__ Pack<float> start(const Numbers& c, const Pack<float>* v, long long i) {
    if (START == GIVEN) return v[i];
    Pack<float> pack;
    for (int e = 0; e < VEC; e++) pack.at[e] = START == NUMBER ? c.v_init : 0.0f;
    return pack;
}

#define FIRST (static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x)
#define STRIDE (static_cast<long long>(gridDim.x) * THREADS)

#ifdef FORWARD
// x_seq [T, M] with steps x_stride apart -> y_seq [T, M], packed [bytes, M] if BITS, v_last [M] if RETURN_V
extern "C" __global__ void __launch_bounds__(THREADS, 1) forward(
    const Pack<io>* __restrict__ x_seq, long long x_stride, const Pack<float>* __restrict__ v_first,
    const float* __restrict__ decay, const float* __restrict__ threshold, Pack<io>* __restrict__ y_seq,
    word* __restrict__ packed, Pack<float>* __restrict__ v_last, long long M, NUMBERS) {
    const Numbers c = READ_NUMBERS;
    for (long long i = FIRST; i < M; i += STRIDE) {
        Pack<float> v = start(c, v_first, i);
        word bytes = 0;
        for (int t0 = 0; t0 < STEPS; t0 += CHUNK) {
            Pack<io> x[CHUNK];
            #pragma unroll
            for (int k = 0; k < CHUNK; k++)
                if (t0 + k < STEPS) x[k] = x_seq[(t0 + k) * x_stride + i];
            #pragma unroll
            for (int k = 0; k < CHUNK; k++) {
                const int t = t0 + k;
                if (t >= STEPS) break;
                Pack<io> y;
                #pragma unroll
                for (int e = 0; e < VEC; e++) {
                    const float h = charge(c, v.at[e], widen(x[k].at[e]), t == 0);
                    const Step now = step(c, h);
                    narrow(now.s, y.at[e]);
                    v.at[e] = now.v;
                    if (BITS) bytes |= static_cast<word>(masks(c, h)) << (8 * e + k % PER_BYTE * BITS);
                }
                y_seq[t * M + i] = y;
                if (BITS && (k % PER_BYTE == PER_BYTE - 1 || t == STEPS - 1)) {
                    packed[t / PER_BYTE * M + i] = bytes;
                    bytes = 0;
                }
            }
        }
        if (RETURN_V) v_last[i] = v;
    }
}
#endif

#ifdef BACKWARD
// Sums over the block in a fixed order, so that a run repeats to the last bit.
__device__ __forceinline__ void sum_over_block(double mine, double* to) {
    __shared__ double sums[THREADS];
    sums[threadIdx.x] = mine;
    for (int n = THREADS / 2; n > 0; n /= 2) {
        __syncthreads();
        if (threadIdx.x < n) sums[threadIdx.x] += sums[threadIdx.x + n];
    }
    if (threadIdx.x == 0) *to = sums[0];
    __syncthreads();
}

// grad_y [T, M], `saved` packed bits [bytes, M] or x_seq [T, M] -> grad_x [T, M], grad_v_first [M] if RETURN_V, and per
// block the sums [2, gridDim.x] for decay and threshold where they are learned
extern "C" __global__ void __launch_bounds__(THREADS, 1) backward(
    const Pack<io>* __restrict__ grad_y, long long grad_stride, const Pack<float>* __restrict__ grad_v_last,
    const void* __restrict__ saved, long long saved_stride, const Pack<float>* __restrict__ v_first,
    const float* __restrict__ decay, const float* __restrict__ threshold, Pack<io>* __restrict__ grad_x,
    Pack<float>* __restrict__ grad_v_first, double* __restrict__ sums, long long M, NUMBERS) {
    const Numbers c = READ_NUMBERS;
    const Pack<io>* const x_seq = static_cast<const Pack<io>*>(saved);
    const word* const packed = static_cast<const word*>(saved);
    double decay_sum = 0, threshold_sum = 0;
    for (long long i = FIRST; i < M; i += STRIDE) {
        const Pack<float> v_start = start(c, v_first, i);
        float h[BITS ? 1 : STEPS][VEC];
        if (!BITS) {  // the steps again, from x
            Pack<float> v = v_start;
            for (int t0 = 0; t0 < STEPS; t0 += CHUNK) {
                Pack<io> x[CHUNK];
                #pragma unroll
                for (int k = 0; k < CHUNK; k++)
                    if (t0 + k < STEPS) x[k] = x_seq[(t0 + k) * saved_stride + i];
                #pragma unroll
                for (int k = 0; k < CHUNK; k++) {
                    const int t = t0 + k;
                    if (t >= STEPS) break;
                    #pragma unroll
                    for (int e = 0; e < VEC; e++) {
                        h[t][e] = charge(c, v.at[e], widen(x[k].at[e]), t == 0);
                        if (!MEMORYLESS && t < STEPS - 1) v.at[e] = step(c, h[t][e]).v;
                    }
                }
            }
        }
        Pack<float> carried;
        if (HAS_GRAD_V) carried = grad_v_last[i];
        float d_decay[VEC] = {}, d_threshold[VEC] = {};
        for (int t0 = (STEPS - 1) / CHUNK * CHUNK; t0 >= 0; t0 -= CHUNK) {
            Pack<io> g[CHUNK];
            word bytes[(CHUNK + PER_BYTE - 1) / PER_BYTE];
            #pragma unroll
            for (int k = 0; k < CHUNK; k++) {
                if (t0 + k >= STEPS) break;
                g[k] = grad_y[(t0 + k) * grad_stride + i];
                if (BITS && k % PER_BYTE == 0) bytes[k / PER_BYTE] = packed[(t0 + k) / PER_BYTE * saved_stride + i];
            }
            #pragma unroll
            for (int k = CHUNK - 1; k >= 0; k--) {
                const int t = t0 + k;
                if (t >= STEPS) continue;
                const bool has_carried = HAS_GRAD_V || t < STEPS - 1;
                Pack<io> out;
                #pragma unroll
                for (int e = 0; e < VEC; e++) {
                    const Partials d = BITS ? partials_from_masks(c, bytes[k / PER_BYTE] >> (8 * e + k % PER_BYTE * BITS))
                                            : partials(c, h[BITS ? 0 : t][e]);
                    const float grad = widen(g[k].at[e]);
                    if (LEARNED_THRESHOLD) {
                        float term = grad * d.s_th;
                        if (HAS_V_TH && has_carried) term = term + carried.at[e] * d.v_th;
                        d_threshold[e] = d_threshold[e] + term;
                    }
                    float h_grad = grad * d.s_h;
                    if (!MEMORYLESS && has_carried) h_grad = h_grad + carried.at[e] * d.v_h;
                    if (LEARNED_DECAY) {  // dH/d decay = v_reset - V[t-1] (+ X[t] where the input is damped too)
                        const float before = t ? step(c, h[BITS || !t ? 0 : t - 1][e]).v : v_start.at[e];
                        float term = c.v_reset - before;
                        if (DECAY_INPUT) term = term + widen(x_seq[t * saved_stride + i].at[e]);
                        d_decay[e] = d_decay[e] + h_grad * term;
                    }
                    narrow(MEMORYLESS ? h_grad : h_grad * c.gain, out.at[e]);
                    carried.at[e] = h_grad * c.keep;
                }
                grad_x[t * M + i] = out;
            }
        }
        if (RETURN_V) grad_v_first[i] = carried;
        for (int e = 0; e < VEC; e++) {
            if (LEARNED_DECAY) decay_sum += d_decay[e];
            if (LEARNED_THRESHOLD) threshold_sum += d_threshold[e];
        }
    }
    if (LEARNED_DECAY) sum_over_block(decay_sum, sums + blockIdx.x);
    if (LEARNED_THRESHOLD) sum_over_block(threshold_sum, sums + gridDim.x + blockIdx.x);
}
#endif
