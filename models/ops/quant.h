/* The arithmetic of quantization, once for the CPU and for CUDA: the common subset of C99 and CUDA
 * C++, without headers. Both sides compile it without contracting a * b + c, so that they round
 * alike.
 *
 * A grid has codes qmin ... qmax and stands for (code - zero_point) * scale. Rounding happens before
 * the zero point is added, so that all that a row needs is its scale and the two ends
 * low = qmin - zero_point and high = qmax - zero_point, floats that hold whole numbers.
 */
#ifndef FEDHQ_QUANT_H
#define FEDHQ_QUANT_H

#ifdef __CUDACC_RTC__
#define FHQ __device__ __forceinline__
#else
#define FHQ static inline
#endif

#define FHQ_SMALLEST_SCALE 1e-12f /* of a row of zeros; its reciprocal is finite */

/* Elements of a mask block: bit k of its byte j is element 32 * k + j. */
#define FHQ_MASK_BLOCK 256

FHQ float fhq_from_bits(unsigned int bits) {
    union {
        unsigned int u;
        float f;
    } both;
    both.u = bits;
    return both.f;
}

FHQ unsigned int fhq_to_bits(float value) {
    union {
        unsigned int u;
        float f;
    } both;
    both.f = value;
    return both.u;
}

/* bfloat16 is the upper half of a float; back it is rounded to nearest, halves to even. */
FHQ float fhq_from_bf16(unsigned short half) { return fhq_from_bits((unsigned int)half << 16); }

FHQ unsigned short fhq_to_bf16(float value) {
    unsigned int bits = fhq_to_bits(value);
    unsigned int rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    unsigned int nan = (bits >> 16) | 0x40u;
    return (unsigned short)((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

/* Orders floats as integers: NaN lies beyond the infinity of its sign. */
FHQ int fhq_order(float value) {
    int bits = (int)fhq_to_bits(value);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

FHQ float fhq_unorder(int order) {
    return fhq_from_bits((unsigned int)(order ^ ((order >> 31) & 0x7fffffff)));
}

/* Clamps a whole number; NaN passes. */
FHQ float fhq_clamp(float code, float low, float high) {
    code = code < low ? low : code;
    return code > high ? high : code;
}

FHQ float fhq_floor_scale(float scale) {
    return scale < FHQ_SMALLEST_SCALE ? FHQ_SMALLEST_SCALE : scale; /* NaN passes */
}

/* Clipped at ratio of its largest magnitude. */
FHQ float fhq_symmetric_scale(float ratio, float absmax, float qmax) {
    return fhq_floor_scale(ratio * absmax / qmax);
}

/* From smallest to largest, zero included, shrunk by ratio. */
FHQ float fhq_affine_scale(float ratio, float smallest, float largest, float qmin, float qmax) {
    smallest = smallest > 0.0f ? 0.0f : smallest; /* NaN passes */
    largest = largest < 0.0f ? 0.0f : largest;
    return fhq_floor_scale(ratio * (largest - smallest) / (qmax - qmin));
}

/* The code of zero that puts ratio * smallest on the first code. */
FHQ int fhq_zero_point(float ratio, float smallest, float scale, float qmin, float qmax) {
    float code = qmin - rintf((smallest > 0.0f ? 0.0f : ratio * smallest) * (1.0f / scale));
    return code == code ? (int)fhq_clamp(code, qmin, qmax) : (int)qmin;
}

/* The key of the elements whose index has these upper 32 bits. */
FHQ unsigned int fhq_upper_key(unsigned int key0, unsigned int upper) {
    return key0 ^ (upper * 0x9e3779b9u);
}

/* Random number of an element, below 1: a hash of the lower 32 bits of its index under a key. */
FHQ float fhq_uniform(unsigned int index, unsigned int key0, unsigned int key1) {
    unsigned int x = index ^ key0;
    x ^= x >> 16;
    x *= 0x21f0aaadu;
    x ^= x >> 15;
    x += key1;
    x *= 0xd35a2d97u;
    x ^= x >> 15;
    return (float)(int)(x >> 8) * (1.0f / 16777216.0f);
}

/* Rounds up with the probability of the fraction that is cut off. */
FHQ float fhq_stochastic(float x, float inverse, float qmax, float uniform) {
    float step = fhq_clamp(x * inverse, -qmax, qmax);
    float level = floorf(step);
    return level + (step - level > uniform ? 1.0f : 0.0f);
}

/* Scale of a row on the wire: 0 for zeros, else normal, and finite times qmax; NaN and infinity pass. */
FHQ float fhq_wire_scale(float absmax, float qmax, float greatest) {
    float scale = absmax / qmax;
    if (absmax == 0.0f || absmax > 3.40282347e38f) return absmax;
    scale = scale < 1.17549435e-38f ? 1.17549435e-38f : scale;
    return scale > greatest ? greatest : scale;
}

#endif
