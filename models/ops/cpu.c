/* The CPU kernels, compiled once by the system's compiler; `cpu_build.py` has the flags.
 *
 * Tensors are contiguous: `(rows, cols)`, where pooled planes; offsets are 64 bits wide. Every loop
 * over elements is plain enough for the compiler to vectorise.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "quant.h"

#define PARALLEL(threads) _Pragma("omp parallel for schedule(static) num_threads(threads) if (threads > 1)")
#define PARALLEL_FROM 65536 /* Elements from which several threads pay. */
#define LEAST_PIECE 16384 /* Elements below which cutting a row does not pay. */
#define MAX_RATIOS 64     /* Checked by `library`. */
#define TILE 1024     /* Elements of a sum that stay in the first cache. */
#define CHUNK 128     /* Elements between two rounds of fetching ahead. */
#define CACHED 65536  /* Elements of a row that still lie in the second cache when read again. */

typedef int64_t index_t;
typedef struct {
    int lowest, highest; /* as ordered integers */
} limits_t;

static inline index_t least(index_t a, index_t b) { return a < b ? a : b; }

/* Into how many pieces each row is cut, so that all threads have work. */
static index_t pieces_of(index_t rows, index_t cols, int threads) {
    index_t wanted = threads < 2 || rows >= 4 * threads || rows == 0 ? 1 : 4 * threads / rows;
    index_t most = cols / LEAST_PIECE;
    return wanted > most ? (most > 0 ? most : 1) : wanted;
}

/* Scale and zero point of a row from its limits, clipped at ratio. */
static inline float scale_of(limits_t limits, float ratio, float qmin, float qmax, int symmetric,
                             int32_t *zero_point) {
    if (symmetric) {
        *zero_point = 0;
        return fhq_symmetric_scale(ratio, fhq_from_bits((unsigned int)limits.highest), qmax);
    }
    float smallest = fhq_unorder(limits.lowest), largest = fhq_unorder(limits.highest);
    float scale = fhq_affine_scale(ratio, smallest, largest, qmin, qmax);
    *zero_point = fhq_zero_point(ratio, smallest, scale, qmin, qmax);
    return scale;
}

/* Zero is in every range; it is the integer 0. */
static const limits_t ZERO = {0, 0};

static double error_of(const float *restrict x, index_t count, float scale, float low, float high) {
    float inverse = 1.0f / scale;
    double sum = 0;
    _Pragma("omp simd reduction(+ : sum)")
    for (index_t i = 0; i < count; i++) {
        double error = fhq_clamp(rintf(x[i] * inverse), low, high) * scale - x[i];
        sum += error * error;
    }
    return sum;
}

#define T float
#define BITS uint32_t
#define LOAD(x) (x)
#define STORE(x) (x)
#define NAME(name) name##_float32
#include "cpu_typed.h"
#include "cpu_pool.h"
#undef T
#undef BITS
#undef LOAD
#undef STORE
#undef NAME
#define T uint16_t
#define BITS uint16_t
#define LOAD(x) fhq_from_bf16(x)
#define STORE(x) fhq_to_bf16(x)
#define NAME(name) name##_bfloat16
#include "cpu_typed.h"
#include "cpu_pool.h"

#include "cpu_wire.h"
