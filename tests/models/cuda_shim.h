/* What a CUDA kernel needs, on the CPU: a block's threads are coroutines that take turns at every
 * shuffle and barrier. Slow and in a fixed order; finds wrong indices, not races.
 */
#ifndef FEDHQ_CUDA_SHIM_H
#define FEDHQ_CUDA_SHIM_H

#include <cmath>
#include <cstring>

#define __CUDACC_RTC__
#define __device__
#define __forceinline__ inline
#define __shared__ static /* one block at a time */

struct Index {
    unsigned int x;
};

extern Index threadIdx, blockIdx, blockDim, gridDim;

void take_turns();
void *shuffle_slot(unsigned int thread);

inline int __popc(unsigned int bits) { return __builtin_popcount(bits); }

inline void __syncthreads() { take_turns(); }

template <class V> V __shfl_xor_sync(unsigned int, V value, int step) {
    std::memcpy(shuffle_slot(threadIdx.x), &value, sizeof value);
    take_turns();
    std::memcpy(&value, shuffle_slot(threadIdx.x ^ step), sizeof value);
    take_turns();
    return value;
}

#define KERNEL(name, Arguments, blocks, body)                      \
    extern "C" void name(const void *bytes) {                      \
        const Arguments &args = *static_cast<const Arguments *>(bytes); \
        body;                                                      \
    }

#endif
