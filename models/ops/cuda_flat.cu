/* Element by element: static quantization with its mask, the mask's gradient, packing, unpacking. */
#include "cuda_tile.h"

#define MASK_STEPS 8 /* elements of a lane in a mask block: the bits of its byte */

template <class T> struct Static {
    const T *x;
    T *y;
    byte_t *mask; /* may be null */
    const float *scale;
    const int *zero_point;
    index_t total, cols;
    float qmin, qmax;

    FHQ Grid grid_of(index_t row) const { return Grid(scale[row], zero_point[row], qmin, qmax); }
};

/* The mask block of a warp, by its first element. */
FHQ index_t block_start() {
    const index_t warp = static_cast<index_t>(blockIdx.x) * (static_cast<int>(blockDim.x) / WARP) +
                         static_cast<int>(threadIdx.x) / WARP;
    return warp * FHQ_MASK_BLOCK;
}

/* Rounds an element; whether its code lies on the grid. */
template <class T>
FHQ bool round_at(const Static<T> &op, index_t at, float value, const Grid &grid) {
    const float code = rintf(value * grid.inverse);
    const float rounded = fhq_clamp(code, grid.low, grid.high) * grid.scale;
    store<1>(op.y + at, &rounded);
    return grid.holds(code);
}

template <class T> FHQ void quantize_static(const Static<T> &op) {
    const index_t start = block_start();
    if (start >= op.total) return;
    const int lane = static_cast<int>(threadIdx.x) % WARP;
    const index_t row = start / op.cols, column = start - row * op.cols;
    float values[MASK_STEPS];
#pragma unroll
    for (int k = 0; k < MASK_STEPS; k++) {
        const index_t at = start + WARP * k + lane;
        if (at < op.total) load<1>(op.x + at, values + k);
    }
    unsigned int bits = 0;
    if (column + FHQ_MASK_BLOCK <= op.cols) { /* all of one row */
        const Grid grid = op.grid_of(row);
#pragma unroll
        for (int k = 0; k < MASK_STEPS; k++)
            if (round_at(op, start + WARP * k + lane, values[k], grid)) bits |= 1u << k;
    } else {
#pragma unroll
        for (int k = 0; k < MASK_STEPS; k++) {
            const index_t at = start + WARP * k + lane, offset = column + WARP * k + lane;
            if (at >= op.total) break;
            index_t next = offset >= op.cols; /* rows further */
            if (op.cols < FHQ_MASK_BLOCK)
                next = static_cast<unsigned int>(offset) / static_cast<unsigned int>(op.cols);
            if (round_at(op, at, values[k], op.grid_of(row + next))) bits |= 1u << k;
        }
    }
    if (op.mask) op.mask[start / MASK_STEPS + lane] = static_cast<byte_t>(bits);
}

template <class T> struct Masked {
    const T *grad;
    const byte_t *mask;
    T *dx;
    index_t total;
};

template <class T> FHQ void mask_gradient(const Masked<T> &op) {
    const index_t start = block_start();
    if (start >= op.total) return;
    const int lane = static_cast<int>(threadIdx.x) % WARP;
    const unsigned int bits = op.mask[start / MASK_STEPS + lane];
    T values[MASK_STEPS];
#pragma unroll
    for (int k = 0; k < MASK_STEPS; k++) {
        const index_t at = start + WARP * k + lane;
        if (at < op.total) values[k] = op.grad[at];
    }
#pragma unroll
    for (int k = 0; k < MASK_STEPS; k++) {
        const index_t at = start + WARP * k + lane;
        if (at < op.total) op.dx[at] = (bits >> k) & 1 ? values[k] : static_cast<T>(0);
    }
}

/* `bits` bits of every code, from bit `shift` on: a plane of `stride` bytes, each of which has one
 * element of every run.
 */
struct Plane {
    const byte_t *codes;
    byte_t *plane;
    index_t total, stride;
    int bits, shift;
};

/* VEC = 4: total, stride and both addresses are multiples of 4. */
template <int VEC> FHQ void pack_plane(const Plane &op) {
    const index_t thread = static_cast<index_t>(blockIdx.x) * static_cast<int>(blockDim.x) + threadIdx.x;
    const index_t first = thread * VEC;
    if (first >= op.stride) return;
    const unsigned int most = ((1u << op.bits) - 1) * (VEC == 4 ? 0x01010101u : 1u);
    unsigned int word = 0;
    for (int run = 0; run * op.bits < 8; run++) {
        const index_t at = run * op.stride + first;
        if (at >= op.total) break;
        unsigned int codes;
        if constexpr (VEC == 1)
            codes = op.codes[at];
        else
            codes = *reinterpret_cast<const unsigned int *>(op.codes + at);
        word |= ((codes >> op.shift) & most) << (run * op.bits);
    }
    if constexpr (VEC == 1)
        op.plane[first] = static_cast<byte_t>(word);
    else
        *reinterpret_cast<unsigned int *>(op.plane + first) = word;
}

#define MOST_SENDERS 8

struct Sender {
    const byte_t *packed;
    const float *scale;
};

struct Unpack {
    void *target; /* codes, or the sum to add to */
    index_t total, cols;
    int wire_bits, num_senders;
    Sender sender[MOST_SENDERS];
    float weight[MOST_SENDERS];
};

/* VEC codes from element `at` on, a byte each. VEC = 4: all planes have strides and addresses that
 * are multiples of 4, so that the four elements are of one run.
 */
template <int VEC>
FHQ unsigned int codes_at(const byte_t *plane, int wire_bits, index_t total, index_t at) {
    unsigned int codes = 0;
    int shift = wire_bits;
    for (int bits = 8; bits > 0; bits /= 2) {
        if (!(wire_bits & bits)) continue;
        const index_t stride = (total * bits + 7) / 8, run = at / stride;
        const unsigned int most = ((1u << bits) - 1) * (VEC == 4 ? 0x01010101u : 1u);
        const byte_t *from = plane + (at - run * stride);
        unsigned int word;
        if constexpr (VEC == 1)
            word = *from;
        else
            word = *reinterpret_cast<const unsigned int *>(from);
        shift -= bits;
        codes |= ((word >> (static_cast<int>(run) * bits)) & most) << shift;
        plane += stride;
    }
    return codes;
}

/* Neighbouring blocks take tiles an eighth of the tensor apart: those elements share bytes, which
 * are then read once from memory.
 */
template <int VEC> FHQ index_t spread_start() {
    const index_t tile = (blockIdx.x % 8) * static_cast<index_t>(gridDim.x / 8) + blockIdx.x / 8;
    return (tile * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * VEC;
}

template <int VEC> FHQ void unpack(const Unpack &op) {
    const index_t first = spread_start<VEC>();
    if (first >= op.total) return;
    const unsigned int codes =
        codes_at<VEC>(op.sender[0].packed, op.wire_bits, op.total, first);
    byte_t *to = static_cast<byte_t *>(op.target) + first;
    if constexpr (VEC == 1)
        *to = static_cast<byte_t>(codes);
    else
        *reinterpret_cast<unsigned int *>(to) = codes;
}

/* Adds the senders in their order. */
template <int VEC> FHQ void unpack_add(const Unpack &op) {
    const index_t first = spread_start<VEC>();
    if (first >= op.total) return;
    const int qmax = (1 << (op.wire_bits - 1)) - 1;
    const index_t row = first / op.cols, left = (row + 1) * op.cols - first;
    float sums[VEC];
    float *to = static_cast<float *>(op.target) + first;
    load<VEC>(to, sums);
    for (int s = 0; s < op.num_senders; s++) {
        const Sender sender = op.sender[s];
        const unsigned int codes = codes_at<VEC>(sender.packed, op.wire_bits, op.total, first);
#pragma unroll
        for (int i = 0; i < VEC; i++) {
            const index_t own = i < left ? row : (first + i) / op.cols;
            const float level = static_cast<float>(static_cast<int>((codes >> (8 * i)) & 255u) - qmax);
            sums[i] += level * (op.weight[s] * sender.scale[own]);
        }
    }
    store<VEC>(to, sums);
}

KERNEL(static_float32, Static<float>, 1, quantize_static(args))
KERNEL(static_bfloat16, Static<bf16_t>, 1, quantize_static(args))
KERNEL(mask_float32, Masked<unsigned int>, 1, mask_gradient(args))
KERNEL(mask_bfloat16, Masked<bf16_t>, 1, mask_gradient(args))
KERNEL(pack_plane_1, Plane, 1, pack_plane<1>(args))
KERNEL(pack_plane_4, Plane, 1, pack_plane<4>(args))
KERNEL(unpack_1, Unpack, 1, unpack<1>(args))
KERNEL(unpack_4, Unpack, 1, unpack<4>(args))
KERNEL(unpack_add_1, Unpack, 1, unpack_add<1>(args))
KERNEL(unpack_add_4, Unpack, 1, unpack_add<4>(args))
