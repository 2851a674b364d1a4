// All T steps of a neuron in one launch, forward and backward: time and memory around the step of step.cu.
//
// Memory bound, designed for the bandwidth of a copy. x is read and y written once, the membrane is held in fp32
// registers, and backward reads 1 to 4 bits per element and step, or x again, and no other saved tensor. A thread
// processes VEC adjacent elements, 16 bytes per load and store, and issues the loads of many steps before it computes
// the first. To saturate its share of the bandwidth, a multiprocessor of an H100 needs about 25 KB of loads in flight
// (3.35 TB/s with 1 us of latency, by 132): 6 blocks of 128 threads with 3 such loads each have 36. Registers are
// therefore better used for loads than for more threads, hence the 1 in __launch_bounds__. Time is unrolled, and arrays
// over T are registers. At full bandwidth 68 instructions fit per element and step in fp32 and 34 in 16 bits, for 8 and
// 4 bytes: hence the fast divisions in gradients and the exact inverse.

enum { FP32, FP16, BF16 };
// Steps loaded at once: all, or a multiple of 8, which splits no packed byte.
static constexpr int CHUNK = STEPS <= 16 ? STEPS : 8;
static constexpr int PER_BYTE = 8 / (BITS ? BITS : 8);

template <int> struct Stored { typedef unsigned short type; };
template <> struct Stored<FP32> { typedef float type; };
typedef Stored<IO>::type io;

// VEC adjacent elements. Tensors are arrays of packs, M and strides are in units of them: otherwise the compiler splits
// the stores.
template <typename E> struct alignas(sizeof(E) * VEC < 16 ? sizeof(E) * VEC : 16) Pack { E at[VEC]; };

// The packed bytes of VEC adjacent elements, the first in the lowest bits.
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
    // bfloat16, to nearest even in software, for devices without the instruction
    const unsigned bits = __float_as_uint(value);
    to = value != value ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
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
                    const float h = charge(c, v.at[e], widen(x[k].at[e]));
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
                        h[t][e] = charge(c, v.at[e], widen(x[k].at[e]));
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
                    const unsigned found = bytes[k / PER_BYTE] >> (8 * e + k % PER_BYTE * BITS);
                    const Partials d = BITS ? partials_from_masks(c, found) : partials(c, h[BITS ? 0 : t][e]);
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
