/* Rows that find their own scale: dynamic quantization, and stochastic rounding for the wire.
 *
 * A row that fits the registers of a team is read once. A longer one is cut: a first kernel finds
 * the limits of the pieces, a second joins them and rounds; it begins with the pieces that were
 * read last, which the cache still has.
 */
#include "cuda_tile.h"

#define PIECE_ITEMS 16 /* values of a thread between loads and stores */

template <class T> struct Dynamic {
    const T *x;
    T *y;
    float *scale;
    int *zero_point;
    Limits *partial;
    Shape shape;
    float qmin, qmax;

    template <int VEC, int ITEMS>
    FHQ void load_values(index_t start, index_t count, int lane, int team, float *values) const {
        load_tile<VEC, ITEMS>(x + start, count, lane, team, values);
    }
    FHQ Grid grid_of(Limits limits) const {
        return covering(limits, shape.symmetric, 1.0f, qmin, qmax);
    }
    FHQ void tell(index_t row, const Grid &grid) const {
        scale[row] = grid.scale;
        zero_point[row] = grid.zero_point;
    }
    template <int N> FHQ void store_at(index_t at, float *values, const Grid &grid) const {
#pragma unroll
        for (int i = 0; i < N; i++) values[i] = grid.nearest(values[i]);
        store<N>(y + at, values);
    }
};

/* Rounds x + residual to levels and keeps what is cut off. A row without a finite scale sends
 * zeros and keeps its residual.
 */
struct Wire {
    const float *x;
    float *residual; /* may be null */
    float *scale;
    byte_t *codes;
    Limits *partial;
    Shape shape;
    float qmax, greatest;
    unsigned int key0, key1;

    template <int VEC, int ITEMS>
    FHQ void load_values(index_t start, index_t count, int lane, int team, float *values) const {
        load_tile<VEC, ITEMS>(x + start, count, lane, team, values);
        if (!residual) return;
        float rest[ITEMS];
        load_tile<VEC, ITEMS>(residual + start, count, lane, team, rest);
#pragma unroll
        for (int i = 0; i < ITEMS; i++) values[i] += rest[i];
    }
    FHQ Grid grid_of(Limits limits) const {
        const float largest = fhq_from_bits(static_cast<unsigned int>(limits.highest));
        Grid grid(fhq_wire_scale(largest, qmax, greatest), 0, -qmax, qmax);
        if (!(grid.scale > 0.0f)) grid.inverse = 0.0f;
        return grid;
    }
    FHQ void tell(index_t row, const Grid &grid) const { scale[row] = grid.scale; }
    template <int N> FHQ void store_at(index_t at, float *values, const Grid &grid) const {
        const bool is_finite = grid.scale <= 3.40282347e38f;
        const unsigned int key = fhq_upper_key(key0, static_cast<unsigned int>(at >> 32));
        unsigned int word = 0;
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float uniform = fhq_uniform(static_cast<unsigned int>(at) + i, key, key1);
            float level = 0.0f;
            if (is_finite) level = fhq_stochastic(values[i], grid.inverse, qmax, uniform);
            values[i] -= level * grid.scale;
            word |= static_cast<unsigned int>(static_cast<int>(level + qmax)) << (8 * i);
        }
        if constexpr (N == 1)
            codes[at] = static_cast<byte_t>(word);
        else
            *reinterpret_cast<unsigned int *>(codes + at) = word;
        if (residual && is_finite) store<N>(residual + at, values);
    }
};

template <int VEC, int ITEMS, class Op>
FHQ void store_values(const Op &op, index_t start, index_t count, int lane, int team,
                      float *values, const Grid &grid) {
    const int end = in_tile<ITEMS>(count, team), first = lane * VEC, step = team * VEC;
#pragma unroll
    for (int i = 0; i < ITEMS / VEC; i++)
        if (first + i * step < end)
            op.template store_at<VEC>(start + first + i * step, values + i * VEC, grid);
}

template <int VEC, int ITEMS, class Op> FHQ void whole_rows(const Op &op) {
    const Place place(op.shape);
    float values[ITEMS];
    op.template load_values<VEC, ITEMS>(place.start, place.count, place.lane, place.team, values);
    Limits limits = {0, 0};
    limits.take<ITEMS>(values, op.shape.symmetric);
    const Grid grid = op.grid_of(joined(limits, place.team));
    if (place.lane == 0 && !place.idle) op.tell(place.row, grid);
    store_values<VEC, ITEMS>(op, place.start, place.count, place.lane, place.team, values, grid);
}

template <int VEC, class Op> FHQ void limits_of_pieces(const Op &op) {
    const Place place(op.shape);
    const int tile = PIECE_ITEMS * place.team;
    Limits limits = {0, 0};
    for (index_t done = 0; done < place.count; done += tile) {
        float values[PIECE_ITEMS];
        op.template load_values<VEC, PIECE_ITEMS>(place.start + done, place.count - done,
                                                  place.lane, place.team, values);
        limits.take<PIECE_ITEMS>(values, op.shape.symmetric);
    }
    limits = joined(limits, place.team);
    if (place.lane == 0 && !place.idle) op.partial[place.unit] = limits;
}

/* Teams are blocks, pieces come from the last to the first. */
template <int VEC, class Op> FHQ void round_pieces(const Op &op) {
    const index_t unit = static_cast<index_t>(gridDim.x) - 1 - blockIdx.x;
    const index_t row = unit / op.shape.pieces, first = (unit - row * op.shape.pieces) * op.shape.length;
    const int lane = static_cast<int>(threadIdx.x), team = op.shape.team;
    const int tile = PIECE_ITEMS * team;
    const Limits own = row_limits(op.partial, row, op.shape.pieces, lane, team);
    const Grid grid = op.grid_of(joined(own, team));
    if (first == 0 && lane == 0) op.tell(row, grid);
    const index_t left = op.shape.cols - first;
    const index_t count = left < op.shape.length ? left : op.shape.length;
    for (index_t done = 0; done < count; done += tile) {
        const index_t start = row * op.shape.cols + first + done;
        float values[PIECE_ITEMS];
        op.template load_values<VEC, PIECE_ITEMS>(start, count - done, lane, team, values);
        store_values<VEC, PIECE_ITEMS>(op, start, count - done, lane, team, values, grid);
    }
}

#define INSTANCES(op, Arguments, VEC, ITEMS)                                          \
    KERNEL(op##_rows_##VEC##_8, Arguments, 1, (whole_rows<VEC, 8>(args)))             \
    KERNEL(op##_rows_##VEC##_##ITEMS, Arguments, 2, (whole_rows<VEC, ITEMS>(args)))   \
    KERNEL(op##_limits_##VEC, Arguments, 1, limits_of_pieces<VEC>(args))              \
    KERNEL(op##_pieces_##VEC, Arguments, 1, round_pieces<VEC>(args))

INSTANCES(dynamic_float32, Dynamic<float>, 1, 16)
INSTANCES(dynamic_float32, Dynamic<float>, 4, 32)
INSTANCES(dynamic_bfloat16, Dynamic<bf16_t>, 1, 16)
INSTANCES(dynamic_bfloat16, Dynamic<bf16_t>, 8, 32)
INSTANCES(wire, Wire, 1, 16)
INSTANCES(wire, Wire, 4, 16)
