// One step of a neuron, and its derivatives: the formulas of formulas.py for one specialisation, in their order.
//
// cupy_kernels.py puts this file before multistep.cu, defines the macros in capitals and documents them. Compiled with
// --fmad=false, results in fp32 are those of formulas.py bit for bit. Comparisons propagate NaN as
// they do there; hence no fminf or fmaxf. Numbers are kernel arguments: constant memory, read without an extra load.

enum { BINARY, TERNARY, INTEGER, SILU, QCFS, STH };
enum { RECTANGLE, TRIANGLE, ATAN, SIGMOID };
enum { ZERO, NUMBER, GIVEN };  // START: source of V[-1]

static constexpr bool SPIKING = EMIT == BINARY || EMIT == TERNARY;
static constexpr bool MEMORYLESS = EMIT == QCFS || EMIT == STH;

#define NUMBERS                                                                                                   \
    float keep, float gain, float rest, float th, float v_reset, float v_init, float negative, float negative_th, \
        float window, float alpha, float levels, float slope, float levels_by_th, float th_by_levels,             \
        float inverse_th, float bottom, float top, float floor

struct Numbers {
    float keep, gain, rest, th, v_reset, v_init, negative, negative_th, window, alpha, levels, slope, levels_by_th,
        th_by_levels, inverse_th, bottom, top, floor;
};

// The numbers, replaced by learned ones where there are. Reading those here avoids a host synchronisation.
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

#define READ_NUMBERS                                                                                                   \
    learned({keep, gain, rest, th, v_reset, v_init, negative, negative_th, window, alpha, levels, slope, levels_by_th, \
             th_by_levels, inverse_th, bottom, top, floor}, decay, threshold)

__device__ __forceinline__ float one_if(bool yes) { return yes ? 1.0f : 0.0f; }

__device__ __forceinline__ float clamped(float u, float top) {
    const float low = u < 0 ? 0.0f : u;
    return low > top ? top : low;
}

// For gradients: an error of a few units in the last place, for a third of the instructions.
__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1, 1 + __expf(-x)); }

__device__ __forceinline__ float charge(const Numbers& c, float v, float x) {
    if (MEMORYLESS) return x;
    const float h = v * c.keep + x * c.gain;
    return HAS_REST ? h + c.rest : h;
}

__device__ __forceinline__ bool fires(const Numbers& c, float h) { return INCLUSIVE ? h >= c.th : h > c.th; }

__device__ __forceinline__ bool fires_negative(const Numbers& c, float h) { return -h >= c.negative_th; }

// EXACT_INVERSE: the threshold is a power of two, and multiplying equals the slower division bit for bit.
__device__ __forceinline__ float divided(const Numbers& c, float h) {
    return EXACT_INVERSE ? h * c.inverse_th : h / c.th;
}

__device__ __forceinline__ bool within_window(const Numbers& c, float u) { return u >= c.bottom && u <= c.top; }

// A derivative, but at least the one that is kept outside the window of the surrogate.
__device__ __forceinline__ float raised(const Numbers& c, float found) { return found < c.floor ? c.floor : found; }

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
    if (EMIT == INTEGER) return within_window(c, divided(c, h));
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

__device__ __forceinline__ float surrogate(const Numbers& c, float x) {
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

__device__ __forceinline__ float derivative(const Numbers& c, float x) { return raised(c, surrogate(c, x)); }

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
        const float u = divided(c, h), inside = raised(c, one_if(within_window(c, u))), s = rintf(clamped(u, c.levels));
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
    if (EMIT == INTEGER) {
        const float inside = raised(c, first);
        return {inside * c.inverse_th, DETACH ? 1 : 1 - inside, 0, 0};
    }
    const float p = raised(c, first * c.alpha);
    if (EMIT == BINARY) return spike_partials(c, 0, p, 0, second, 0);
    return spike_partials(c, 0, p, raised(c, second * c.alpha), bit(bits, 2), bit(bits, 3));
}
