/* The kernels that read and write tensors of type T; included once for every T. */

static limits_t NAME(limits)(const T *restrict x, index_t count, int symmetric) {
    int lowest = ZERO.lowest, highest = ZERO.highest;
    if (symmetric) {
        for (index_t i = 0; i < count; i++) {
            int magnitude = (int)(fhq_to_bits(LOAD(x[i])) & 0x7fffffffu);
            highest = magnitude > highest ? magnitude : highest;
        }
    } else {
        for (index_t i = 0; i < count; i++) {
            int order = fhq_order(LOAD(x[i]));
            lowest = order < lowest ? order : lowest;
            highest = order > highest ? order : highest;
        }
    }
    limits_t found = {lowest, highest};
    return found;
}

static void NAME(round_row)(const T *restrict x, T *restrict y, index_t count, float scale,
                            float low, float high) {
    float inverse = 1.0f / scale;
    for (index_t i = 0; i < count; i++)
        y[i] = STORE(fhq_clamp(rintf(LOAD(x[i]) * inverse), low, high) * scale);
}

void NAME(quantize_dynamic)(const T *restrict x, T *restrict y, float *restrict scale,
                            int32_t *restrict zero_point, index_t rows, index_t cols, index_t qmin,
                            index_t qmax, index_t symmetric, index_t threads) {
    index_t pieces = pieces_of(rows, cols, threads), size = (cols + pieces - 1) / pieces;
    if (pieces == 1) {
        PARALLEL(threads)
        for (index_t r = 0; r < rows; r++) {
            limits_t found = NAME(limits)(x + r * cols, cols, symmetric);
            scale[r] = scale_of(found, 1.0f, qmin, qmax, symmetric, zero_point + r);
            NAME(round_row)
            (x + r * cols, y + r * cols, cols, scale[r], (float)(qmin - zero_point[r]), (float)(qmax - zero_point[r]));
        }
        return;
    }
    for (index_t r = 0; r < rows; r++) {
        const T *from = x + r * cols;
        int lowest = ZERO.lowest, highest = ZERO.highest;
        _Pragma("omp parallel for num_threads(threads) reduction(min : lowest) reduction(max : highest)")
        for (index_t p = 0; p < pieces; p++) {
            index_t start = least(p * size, cols), count = least(size, cols - start);
            limits_t found = NAME(limits)(from + start, count, symmetric);
            lowest = found.lowest < lowest ? found.lowest : lowest;
            highest = found.highest > highest ? found.highest : highest;
        }
        limits_t found = {lowest, highest};
        scale[r] = scale_of(found, 1.0f, qmin, qmax, symmetric, zero_point + r);
        float low = qmin - zero_point[r], high = qmax - zero_point[r];
        PARALLEL(threads)
        for (index_t p = 0; p < pieces; p++) {
            index_t start = least(p * size, cols), count = least(size, cols - start);
            NAME(round_row)(from + start, y + r * cols + start, count, scale[r], low, high);
        }
    }
}

/* A whole mask block of one row. */
static void NAME(mask_block)(const T *restrict x, T *restrict y, uint8_t *restrict mask,
                             float scale, float low, float high) {
    float inverse = 1.0f / scale;
    uint32_t bits[32] = {0};
    for (int k = 0; k < 8; k++)
        for (int j = 0; j < 32; j++) {
            float code = rintf(LOAD(x[32 * k + j]) * inverse);
            bits[j] |= (uint32_t)((code >= low) & (code <= high)) << k;
            y[32 * k + j] = STORE(fhq_clamp(code, low, high) * scale);
        }
    for (int j = 0; j < 32; j++) mask[j] = (uint8_t)bits[j];
}

/* A mask block that holds parts of several rows, or is not full. */
static void NAME(mixed_block)(const T *restrict x, T *restrict y, uint8_t *restrict mask,
                              const float *restrict scale, const int32_t *restrict zero_point,
                              index_t start, index_t end, index_t cols, int qmin, int qmax) {
    float scales[FHQ_MASK_BLOCK], lows[FHQ_MASK_BLOCK], highs[FHQ_MASK_BLOCK];
    uint32_t inside[FHQ_MASK_BLOCK];
    for (index_t i = start; i < end;) {
        index_t r = i / cols, stop = least((r + 1) * cols, end);
        for (; i < stop; i++) {
            scales[i - start] = scale[r];
            lows[i - start] = qmin - zero_point[r];
            highs[i - start] = qmax - zero_point[r];
        }
    }
    memset(inside, 0, sizeof inside);
    for (index_t e = 0; e < end - start; e++) {
        float code = rintf(LOAD(x[start + e]) * (1.0f / scales[e]));
        inside[e] = (code >= lows[e]) & (code <= highs[e]);
        y[start + e] = STORE(fhq_clamp(code, lows[e], highs[e]) * scales[e]);
    }
    for (int j = 0; j < 32; j++) {
        uint32_t bits = 0;
        for (int k = 0; k < 8; k++) bits |= inside[32 * k + j] << k;
        mask[j] = (uint8_t)bits;
    }
}

void NAME(quantize_static)(const T *restrict x, T *restrict y, uint8_t *restrict mask,
                           const float *restrict scale, const int32_t *restrict zero_point,
                           index_t rows, index_t cols, index_t qmin, index_t qmax, index_t threads) {
    if (mask == NULL) {
        index_t pieces = pieces_of(rows, cols, threads), size = (cols + pieces - 1) / pieces;
        PARALLEL(threads)
        for (index_t task = 0; task < rows * pieces; task++) {
            index_t r = task / pieces, start = least(task % pieces * size, cols);
            float low = qmin - zero_point[r], high = qmax - zero_point[r];
            NAME(round_row)
            (x + r * cols + start, y + r * cols + start, least(size, cols - start), scale[r], low, high);
        }
        return;
    }
    index_t total = rows * cols, blocks = (total + FHQ_MASK_BLOCK - 1) / FHQ_MASK_BLOCK;
    PARALLEL(threads)
    for (index_t b = 0; b < blocks; b++) {
        index_t start = b * FHQ_MASK_BLOCK, end = least(start + FHQ_MASK_BLOCK, total);
        index_t r = start / cols;
        if (end - start == FHQ_MASK_BLOCK && end <= (r + 1) * cols)
            NAME(mask_block)
            (x + start, y + start, mask + 32 * b, scale[r], qmin - zero_point[r], qmax - zero_point[r]);
        else
            NAME(mixed_block)
            (x, y, mask + 32 * b, scale, zero_point, start, end, cols, qmin, qmax);
    }
}

void NAME(mask_gradient)(const BITS *restrict grad, const uint8_t *restrict mask,
                         BITS *restrict out, index_t total, index_t threads) {
    index_t blocks = total / FHQ_MASK_BLOCK;
    PARALLEL(threads)
    for (index_t b = 0; b < blocks; b++) {
        const BITS *from = grad + b * FHQ_MASK_BLOCK;
        BITS *to = out + b * FHQ_MASK_BLOCK, wide[32];
        for (int j = 0; j < 32; j++) wide[j] = mask[32 * b + j];
        for (int k = 0; k < 8; k++)
            for (int j = 0; j < 32; j++)
                to[32 * k + j] = from[32 * k + j] & (BITS) - ((wide[j] >> k) & 1);
    }
    for (index_t i = blocks * FHQ_MASK_BLOCK; i < total; i++) {
        index_t e = i - blocks * FHQ_MASK_BLOCK;
        out[i] = (mask[32 * blocks + e % 32] >> (e / 32)) & 1 ? grad[i] : 0;
    }
}

/* Sums of a stretch of a row: floats over tiles, doubles over the whole. */
static void NAME(learned_piece)(const T *restrict grad, const T *restrict x, T *restrict dx,
                                index_t count, float scale, float low, float high,
                                double *by_scale, double *by_zero) {
    float inverse = 1.0f / scale;
    double scale_sum = 0, zero_sum = 0;
    for (index_t start = 0; start < count; start += 1024) {
        index_t end = least(start + 1024, count);
        float first = 0, second = 0;
        _Pragma("omp simd reduction(+ : first, second)")
        for (index_t i = start; i < end; i++) {
            float g = LOAD(grad[i]), step = LOAD(x[i]) * inverse, code = rintf(step);
            float clamped = fhq_clamp(code, low, high);
            int inside = (code >= low) & (code <= high);
            dx[i] = inside ? grad[i] : (T)0;
            first += g * (inside ? code - step : clamped);
            second += inside ? 0.0f : g;
        }
        scale_sum += first;
        zero_sum += second;
    }
    *by_scale = scale_sum;
    *by_zero = zero_sum;
}

void NAME(learned_backward)(const T *restrict grad, const T *restrict x, T *restrict dx,
                            const float *restrict scale, const int32_t *restrict zero_point,
                            float *restrict dscale, float *restrict dzero, index_t rows,
                            index_t cols, index_t qmin, index_t qmax, double *restrict sums, index_t threads) {
    index_t pieces = pieces_of(rows, cols, threads), size = (cols + pieces - 1) / pieces;
    PARALLEL(threads)
    for (index_t task = 0; task < rows * pieces; task++) {
        index_t r = task / pieces, start = least(task % pieces * size, cols), at = r * cols + start;
        float low = qmin - zero_point[r], high = qmax - zero_point[r];
        double first, second;
        NAME(learned_piece)
        (grad + at, x + at, dx + at, least(size, cols - start), scale[r], low, high, &first, &second);
        sums[2 * task] = first;
        sums[2 * task + 1] = second;
    }
    for (index_t r = 0; r < rows; r++) {
        double first = 0, second = 0;
        for (index_t p = 0; p < pieces; p++) {
            first += sums[2 * (r * pieces + p)];
            second += sums[2 * (r * pieces + p) + 1];
        }
        dscale[r] = (float)first;
        dzero[r] = (float)(-second * scale[r]);
    }
}

/* As floats, every stride-th of them; numbers that lie so already are not copied. */
static const float *NAME(gather)(const T *restrict x, index_t count, index_t stride,
                                 float *restrict to) {
    if (sizeof(T) == sizeof(float) && stride == 1) return (const float *)x;
    for (index_t i = 0; i < count; i++) to[i] = LOAD(x[i * stride]);
    return to;
}

void NAME(fit_range)(const T *restrict x, float *restrict scale, int32_t *restrict zero_point,
                     index_t rows, index_t cols, index_t qmin, index_t qmax, index_t symmetric,
                     const float *restrict ratios, index_t num_ratios, index_t stride,
                     index_t threads) {
    PARALLEL(threads)
    for (index_t r = 0; r < rows; r++) {
        limits_t found = NAME(limits)(x + r * cols, cols, symmetric);
        float scales[MAX_RATIOS], values[TILE];
        int32_t zeros[MAX_RATIOS];
        double errors[MAX_RATIOS] = {0};
        for (int k = 0; k < num_ratios; k++)
            scales[k] = scale_of(found, ratios[k], qmin, qmax, symmetric, zeros + k);
        index_t judged = num_ratios > 1 ? (cols + stride - 1) / stride : 0;
        for (index_t start = 0; start < judged; start += TILE) {
            index_t count = least(TILE, judged - start);
            const float *tile = NAME(gather)(x + r * cols + start * stride, count, stride, values);
            for (int k = 0; k < num_ratios; k++)
                errors[k] += error_of(tile, count, scales[k], qmin - zeros[k], qmax - zeros[k]);
        }
        int best = 0;
        for (int k = 1; k < num_ratios; k++)
            if (errors[k] < errors[best]) best = k;
        scale[r] = scales[best];
        zero_point[r] = zeros[best];
    }
}

void NAME(quantize_fitted)(const T *restrict x, T *restrict y, uint8_t *restrict mask,
                           float *restrict scale, int32_t *restrict zero_point, index_t rows,
                           index_t cols, index_t qmin, index_t qmax, index_t symmetric,
                           const float *restrict ratios, index_t num_ratios, index_t stride,
                           index_t threads) {
    NAME(fit_range)
    (x, scale, zero_point, rows, cols, qmin, qmax, symmetric, ratios, num_ratios, stride, threads);
    NAME(quantize_static)(x, y, mask, scale, zero_point, rows, cols, qmin, qmax, threads);
}

/* Several tensors in one call: of each its addresses, its shape, and its codes. */
void NAME(quantize_weights)(const index_t *restrict table, index_t count, float *restrict scale,
                            int32_t *restrict zero_point, const float *restrict ratios,
                            index_t num_ratios, index_t threads) {
    for (index_t i = 0; i < count; i++) {
        const index_t *one = table + 7 * i;
        NAME(quantize_fitted)
        ((const T *)one[0], (T *)one[1], (uint8_t *)one[2], scale, zero_point, one[3], one[4], one[5],
         one[6], 1, ratios, num_ratios, 1, one[3] * one[4] < PARALLEL_FROM ? 1 : threads);
    }
}
