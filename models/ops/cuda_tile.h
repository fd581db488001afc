/* What the CUDA kernels share: vector loads and stores, tiles, and teams of threads.
 *
 * No header of the toolkit is included, so that NVRTC needs none. Every kernel takes one structure
 * by value; `cuda_kernels.py` writes its bytes. Offsets into tensors are 64 bits wide.
 */
#ifndef FEDHQ_CUDA_TILE_H
#define FEDHQ_CUDA_TILE_H

#include "quant.h"

#define WARP 32
#define MOST_THREADS 512
#define ALL_LANES 0xffffffffu

/* `blocks` of the largest size share a processor; more room for registers is not asked for. */
#ifndef KERNEL
#define KERNEL(name, Arguments, blocks, body)                                    \
    extern "C" __global__ void __launch_bounds__(MOST_THREADS, blocks)           \
        name(const Arguments args) {                                             \
        body;                                                                    \
    }
#endif

typedef long long index_t;
typedef unsigned char byte_t;
typedef unsigned short bf16_t; /* its bits */

struct alignas(16) Quad {
    unsigned int word[4];
};

/* N values from memory that is aligned for them: N = 1, or N values are whole quads. */
template <int N> FHQ void load(const float *from, float *to) {
    if constexpr (N == 1) {
        to[0] = from[0];
    } else {
        const Quad quad = *reinterpret_cast<const Quad *>(from);
#pragma unroll
        for (int i = 0; i < 4; i++) to[i] = fhq_from_bits(quad.word[i]);
    }
}

template <int N> FHQ void load(const bf16_t *from, float *to) {
    if constexpr (N == 1) {
        to[0] = fhq_from_bf16(from[0]);
    } else {
        const Quad quad = *reinterpret_cast<const Quad *>(from);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            to[2 * i] = fhq_from_bits(quad.word[i] << 16);
            to[2 * i + 1] = fhq_from_bits(quad.word[i] & 0xffff0000u);
        }
    }
}

template <int N> FHQ void store(float *to, const float *from) {
    if constexpr (N == 1) {
        to[0] = from[0];
    } else {
        Quad quad;
#pragma unroll
        for (int i = 0; i < 4; i++) quad.word[i] = fhq_to_bits(from[i]);
        *reinterpret_cast<Quad *>(to) = quad;
    }
}

template <int N> FHQ void store(bf16_t *to, const float *from) {
    if constexpr (N == 1) {
        to[0] = fhq_to_bf16(from[0]);
    } else {
        Quad quad;
#pragma unroll
        for (int i = 0; i < 4; i++)
            quad.word[i] = fhq_to_bf16(from[2 * i]) |
                           (static_cast<unsigned int>(fhq_to_bf16(from[2 * i + 1])) << 16);
        *reinterpret_cast<Quad *>(to) = quad;
    }
}

/* A tensor and how it is cut: every row into pieces of `length` (the last one shorter), each for a
 * team of threads: a power of two up to a warp, or a whole block. `symmetric` asks for magnitudes.
 */
struct Shape {
    index_t rows, cols, pieces, length;
    int team, symmetric;
};

/* A thread's place: its team's piece, and its lane in the team. Beyond the last piece the team is
 * idle, but stays for the others of its warp.
 */
struct Place {
    index_t unit, row, start, count;
    int lane, team;
    bool idle;

    FHQ explicit Place(const Shape &shape) {
        const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
        team = shape.team;
        if (team == threads) {
            lane = thread;
            unit = blockIdx.x;
        } else {
            const int shift = __popc(team - 1); /* its logarithm */
            lane = thread & (team - 1);
            unit = static_cast<index_t>(blockIdx.x) * (threads >> shift) + (thread >> shift);
        }
        idle = unit >= shape.rows * shape.pieces;
        row = shape.pieces == 1 ? unit : unit / shape.pieces;
        start = shape.pieces == 1 ? 0 : (unit - row * shape.pieces) * shape.length;
        const index_t left = shape.cols - start;
        count = idle || left < 0 ? 0 : (left < shape.length ? left : shape.length);
        start += row * shape.cols;
    }
};

/* Elements of a tile with ITEMS values for every lane, where `count` elements are left. */
template <int ITEMS> FHQ int in_tile(index_t count, int team) {
    return count < ITEMS * team ? static_cast<int>(count) : ITEMS * team;
}

/* ITEMS values of a thread, in vectors that the lanes of a team take in turn; 0 beyond `count`. */
template <int VEC, int ITEMS, class T>
FHQ void load_tile(const T *from, index_t count, int lane, int team, float *values) {
    const int end = in_tile<ITEMS>(count, team), first = lane * VEC, step = team * VEC;
    from += first;
    if (end == ITEMS * team) { /* the common case has nothing to check */
#pragma unroll
        for (int i = 0; i < ITEMS / VEC; i++) load<VEC>(from + i * step, values + i * VEC);
        return;
    }
#pragma unroll
    for (int i = 0; i < ITEMS; i++) values[i] = 0.0f;
#pragma unroll
    for (int i = 0; i < ITEMS / VEC; i++)
        if (first + i * step < end) load<VEC>(from + i * step, values + i * VEC);
}

/* The ends of a row as ordered integers, zero among them; symmetric: its largest magnitude. */
struct Limits {
    int lowest, highest;

    FHQ void join(Limits other) {
        lowest = other.lowest < lowest ? other.lowest : lowest;
        highest = other.highest > highest ? other.highest : highest;
    }
    FHQ Limits across(int step) const {
        return {__shfl_xor_sync(ALL_LANES, lowest, step), __shfl_xor_sync(ALL_LANES, highest, step)};
    }
    template <int N> FHQ void take(const float *values, int symmetric) {
        if (symmetric) {
#pragma unroll
            for (int i = 0; i < N; i++)
                join({0, static_cast<int>(fhq_to_bits(values[i]) & 0x7fffffffu)});
        } else {
#pragma unroll
            for (int i = 0; i < N; i++) join({fhq_order(values[i]), fhq_order(values[i])});
        }
    }
};

struct Sums {
    double first, second;

    FHQ void join(Sums other) {
        first += other.first;
        second += other.second;
    }
    FHQ Sums across(int step) const {
        return {__shfl_xor_sync(ALL_LANES, first, step), __shfl_xor_sync(ALL_LANES, second, step)};
    }
};

struct Sum {
    double value;

    FHQ void join(Sum other) { value += other.value; }
    FHQ Sum across(int step) const { return {__shfl_xor_sync(ALL_LANES, value, step)}; }
};

/* What the threads of a team hold, joined in a fixed order; all of them get it. All threads of a
 * block must call it, and once per kernel if teams are larger than a warp.
 */
template <class V> FHQ V joined(V own, int team) {
    for (int step = (team < WARP ? team : WARP) / 2; step > 0; step /= 2) own.join(own.across(step));
    if (team <= WARP) return own;
    __shared__ V of_warp[MOST_THREADS / WARP];
    if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = own;
    __syncthreads();
    own = of_warp[0];
    for (int i = 1; i < static_cast<int>(blockDim.x) / WARP; i++) own.join(of_warp[i]);
    return own;
}

/* A row's limits from those of its pieces. */
FHQ Limits row_limits(const Limits *partial, index_t row, index_t pieces, int lane, int team) {
    Limits limits = {0, 0};
    for (index_t i = lane; i < pieces; i += team) limits.join(partial[row * pieces + i]);
    return limits;
}

/* A row's grid, as floats. */
struct Grid {
    float scale, inverse, low, high;
    int zero_point;

    FHQ Grid(float scale, int zero_point, float qmin, float qmax)
        : scale(scale), inverse(1.0f / scale), low(qmin - static_cast<float>(zero_point)),
          high(qmax - static_cast<float>(zero_point)), zero_point(zero_point) {}

    FHQ bool holds(float code) const { return code >= low && code <= high; }
    FHQ float nearest(float value) const {
        return fhq_clamp(rintf(value * inverse), low, high) * scale;
    }
};

/* The grid that covers the limits times `ratio`. */
FHQ Grid covering(Limits limits, int symmetric, float ratio, float qmin, float qmax) {
    if (symmetric) {
        const float largest = fhq_from_bits(static_cast<unsigned int>(limits.highest));
        return Grid(fhq_symmetric_scale(ratio, largest, qmax), 0, qmin, qmax);
    }
    const float smallest = fhq_unorder(limits.lowest), largest = fhq_unorder(limits.highest);
    const float scale = fhq_affine_scale(ratio, smallest, largest, qmin, qmax);
    return Grid(scale, fhq_zero_point(ratio, smallest, scale, qmin, qmax), qmin, qmax);
}

#endif
