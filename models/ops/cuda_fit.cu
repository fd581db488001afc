/* Gradients of a learned scale, and the search for the scale with the least rounding error. */
#include "cuda_tile.h"

#define LEARNED_ITEMS 8 /* values of a thread between loads and stores */

template <class T> struct Learned {
    const T *grad, *x;
    T *dx;
    const float *scale;
    const int *zero_point;
    float *dscale, *dzero;
    Sums *partial;
    Shape shape;
    float qmin, qmax;

    FHQ void finish(index_t row, Sums sums) const {
        dscale[row] = static_cast<float>(sums.first);
        dzero[row] = static_cast<float>(-sums.second * static_cast<double>(scale[row]));
    }
};

/* The thread's share of a tile: writes dx; sums what goes to the scale, and gradients outside. */
template <int VEC, class T>
FHQ void learned_tile(const Learned<T> &op, const Place &place, index_t done, const Grid &grid,
                      Sums &sums) {
    const index_t start = place.start + done, count = place.count - done;
    const int end = in_tile<LEARNED_ITEMS>(count, place.team);
    float grad[LEARNED_ITEMS], x[LEARNED_ITEMS];
    load_tile<VEC, LEARNED_ITEMS>(op.grad + start, count, place.lane, place.team, grad);
    load_tile<VEC, LEARNED_ITEMS>(op.x + start, count, place.lane, place.team, x);
#pragma unroll
    for (int i = 0; i < LEARNED_ITEMS; i += VEC) {
        const int at = i * place.team + place.lane * VEC;
        if (at >= end) break;
#pragma unroll
        for (int j = i; j < i + VEC; j++) {
            const float step = x[j] * grid.inverse, code = rintf(step);
            const bool inside = grid.holds(code);
            const float slope = inside ? code - step : fhq_clamp(code, grid.low, grid.high);
            sums.first += static_cast<double>(grad[j] * slope);
            if (!inside) {
                sums.second += static_cast<double>(grad[j]);
                grad[j] = 0.0f;
            }
        }
        store<VEC>(op.dx + start + at, grad + i);
    }
}

template <int VEC, class T> FHQ void learned_backward(const Learned<T> &op) {
    const Place place(op.shape);
    Sums sums = {0.0, 0.0};
    if (place.count > 0) {
        const Grid grid(op.scale[place.row], op.zero_point[place.row], op.qmin, op.qmax);
        for (index_t done = 0; done < place.count; done += LEARNED_ITEMS * place.team)
            learned_tile<VEC>(op, place, done, grid, sums);
    }
    sums = joined(sums, place.team);
    if (place.lane != 0 || place.idle) return;
    if (op.shape.pieces == 1)
        op.finish(place.row, sums);
    else
        op.partial[place.unit] = sums;
}

/* A block for every row: the sum over its pieces. */
template <class T> FHQ void learned_finish(const Learned<T> &op) {
    const index_t row = blockIdx.x;
    Sums sums = {0.0, 0.0};
    for (index_t i = threadIdx.x; i < op.shape.pieces; i += op.shape.team)
        sums.join(op.partial[row * op.shape.pieces + i]);
    sums = joined(sums, op.shape.team);
    if (threadIdx.x == 0) op.finish(row, sums);
}

/* The search looks at every stride-th element, the samples, which is what `shape` cuts; teams are
 * warps or parts of one, and hold their samples in registers for all ratios.
 */
template <class T> struct Fit {
    const T *x;
    const Limits *partial; /* (rows, limit_pieces) */
    const float *ratios;
    double *errors; /* (rows, num_ratios, pieces), then (rows, num_ratios) in `totals` */
    double *totals;
    float *scale;
    int *zero_point;
    Shape shape;
    index_t row_length, stride, limit_pieces, num_ratios;
    float qmin, qmax;

    FHQ Grid grid_of(Limits limits, index_t ratio) const {
        return covering(limits, shape.symmetric, ratios[ratio], qmin, qmax);
    }
};

template <int ITEMS, class T> FHQ void fit_errors(const Fit<T> &op) {
    const Place place(op.shape);
    const index_t row = place.idle ? 0 : place.row, piece = place.unit - row * op.shape.pieces;
    const index_t first = row * op.row_length + piece * op.shape.length * op.stride;
    float values[ITEMS];
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const index_t at = i * place.team + place.lane;
        values[i] = 0.0f;
        if (at < place.count) load<1>(op.x + first + at * op.stride, values + i);
    }
    const Limits limits = joined(
        row_limits(op.partial, row, op.limit_pieces, place.lane, place.team), place.team);
    for (index_t ratio = 0; ratio < op.num_ratios; ratio++) {
        const Grid grid = op.grid_of(limits, ratio);
        Sum sum = {0.0};
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            const double error = static_cast<double>(grid.nearest(values[i]) - values[i]);
            if (i * place.team + place.lane < place.count) sum.value += error * error;
        }
        sum = joined(sum, place.team);
        if (place.lane == 0 && !place.idle)
            op.errors[(row * op.num_ratios + ratio) * op.shape.pieces + piece] = sum.value;
    }
}

/* A block for every row and ratio: the sum over the pieces. */
template <class T> FHQ void fit_totals(const Fit<T> &op) {
    Sum sum = {0.0};
    for (index_t i = threadIdx.x; i < op.shape.pieces; i += blockDim.x)
        sum.value += op.errors[blockIdx.x * op.shape.pieces + i];
    sum = joined(sum, static_cast<int>(blockDim.x));
    if (threadIdx.x == 0) op.totals[blockIdx.x] = sum.value;
}

/* The least error so far; of equal ones the first ratio's. NaN is never less. */
struct Best {
    double error;
    index_t ratio;

    FHQ void join(Best other) {
        const bool is_less = other.error < error;
        if (is_less || (other.error == error && other.ratio < ratio)) *this = other;
    }
    FHQ Best across(int step) const {
        return {__shfl_xor_sync(ALL_LANES, error, step), __shfl_xor_sync(ALL_LANES, ratio, step)};
    }
};

/* A warp for every row. */
template <class T> FHQ void fit_choose(const Fit<T> &op) {
    const int lane = static_cast<int>(threadIdx.x) % WARP;
    const index_t row = static_cast<index_t>(blockIdx.x) * (static_cast<int>(blockDim.x) / WARP) +
                        static_cast<int>(threadIdx.x) / WARP;
    if (row >= op.shape.rows) return;
    Best best = {fhq_from_bits(0x7f800000u), 0};
    for (index_t ratio = lane; ratio < op.num_ratios; ratio += WARP)
        best.join({op.totals[row * op.num_ratios + ratio], ratio});
    best = joined(best, WARP);
    const Limits limits =
        joined(row_limits(op.partial, row, op.limit_pieces, lane, WARP), WARP);
    if (lane != 0) return;
    const Grid grid = op.grid_of(limits, best.ratio);
    op.scale[row] = grid.scale;
    op.zero_point[row] = grid.zero_point;
}

#define INSTANCES(type, T, VEC)                                                  \
    KERNEL(learned_##type##_1, Learned<T>, 1, learned_backward<1>(args))            \
    KERNEL(learned_##type##_##VEC, Learned<T>, 1, learned_backward<VEC>(args))      \
    KERNEL(learned_finish_##type, Learned<T>, 1, learned_finish(args))              \
    KERNEL(fit_errors_##type##_8, Fit<T>, 1, fit_errors<8>(args))                   \
    KERNEL(fit_errors_##type##_16, Fit<T>, 1, fit_errors<16>(args))                 \
    KERNEL(fit_totals_##type, Fit<T>, 1, fit_totals(args))                          \
    KERNEL(fit_choose_##type, Fit<T>, 1, fit_choose(args))

INSTANCES(float32, float, 4)
INSTANCES(bfloat16, bf16_t, 8)
