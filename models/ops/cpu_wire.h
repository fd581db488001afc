/* The wire: stochastic rounding with error feedback, packing, and adding up what was packed. */

static float magnitude(const float *restrict x, const float *restrict residual, index_t count) {
    int highest = 0;
    if (residual == NULL)
        for (index_t i = 0; i < count; i++) {
            int bits = (int)(fhq_to_bits(x[i]) & 0x7fffffffu);
            highest = bits > highest ? bits : highest;
        }
    else
        for (index_t i = 0; i < count; i++) {
            int bits = (int)(fhq_to_bits(x[i] + residual[i]) & 0x7fffffffu);
            highest = bits > highest ? bits : highest;
        }
    return fhq_from_bits((unsigned int)highest);
}

static void fetch(const float *x, const float *residual, index_t count) {
    for (index_t i = 0; i < count; i += 64 / (index_t)sizeof(float)) {
        __builtin_prefetch(x + i, 0, 2);
        if (residual != NULL) __builtin_prefetch(residual + i, 1, 2);
    }
}

/* At most CHUNK elements of a row, the first of which has this index in the tensor. */
static void round_tile(const float *restrict x, float *restrict residual, uint8_t *restrict codes,
                       uint32_t index, int count, float scale, float qmax, uint32_t key0,
                       uint32_t key1) {
    float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    if (residual == NULL)
        for (int i = 0; i < count; i++) {
            float u = fhq_uniform(index + (uint32_t)i, key0, key1);
            codes[i] = (uint8_t)(int)(fhq_stochastic(x[i], inverse, qmax, u) + qmax);
        }
    else
        for (int i = 0; i < count; i++) {
            float u = fhq_uniform(index + (uint32_t)i, key0, key1);
            float target = x[i] + residual[i];
            float level = fhq_stochastic(target, inverse, qmax, u);
            residual[i] = target - level * scale;
            codes[i] = (uint8_t)(int)(level + qmax);
        }
}

/* `ahead` elements further lies the next row, which is fetched while this one is worked on. */
static void round_stretch(const float *x, float *residual, uint8_t *codes, index_t first,
                          index_t count, index_t ahead, float scale, float qmax, uint32_t key0,
                          uint32_t key1) {
    if (!(scale <= 3.40282347e38f)) { /* NaN, infinity */
        memset(codes, (int)qmax, (size_t)count);
        return;
    }
    for (index_t i = 0; i < count;) {
        index_t index = first + i, upper = index >> 32;
        index_t stop = least(least(i + CHUNK, count), ((upper + 1) << 32) - first);
        if (ahead) fetch(x + i + ahead, residual ? residual + i + ahead : NULL, stop - i);
        round_tile(x + i, residual ? residual + i : NULL, codes + i, (uint32_t)index,
                   (int)(stop - i), scale, qmax, fhq_upper_key(key0, (uint32_t)upper), key1);
        i = stop;
    }
}

typedef uint64_t __attribute__((aligned(1), may_alias)) word_t; /* eight bytes, anywhere */

/* For every byte: adds ((from >> down) & most) << up; what leaves the eight bits must be zero. */
static void add_bits(const uint8_t *restrict from, uint8_t *restrict to, index_t count, int down,
                     uint8_t most, int up) {
    uint64_t mask = most * UINT64_C(0x0101010101010101);
    index_t words = count / 8;
    for (index_t i = 0; i < words; i++) {
        uint64_t bits = ((((const word_t *)from)[i] >> down) & mask) << up;
        ((word_t *)to)[i] |= bits;
    }
    for (index_t i = 8 * words; i < count; i++) to[i] |= (uint8_t)(((from[i] >> down) & most) << up);
}

/* `bits` bits of every code, from bit `shift` on, as one plane. */
static void pack_plane(const uint8_t *restrict codes, uint8_t *restrict plane, index_t total,
                       int bits, int shift, int threads) {
    index_t stride = (total * bits + 7) / 8, runs = 8 / bits;
    index_t tiles = (stride + TILE - 1) / TILE;
    PARALLEL(threads)
    for (index_t t = 0; t < tiles; t++) {
        index_t start = t * TILE, end = least(start + TILE, stride);
        memset(plane + start, 0, (size_t)(end - start));
        for (index_t run = 0; run < runs; run++) {
            index_t count = least(end, total - run * stride) - start;
            if (count > 0)
                add_bits(codes + run * stride + start, plane + start, count, shift,
                         (uint8_t)((1 << bits) - 1), bits * (int)run);
        }
    }
}

void stochastic_pack(const float *restrict x, float *restrict residual, float *restrict scale,
                     uint8_t *codes, uint8_t *packed, index_t rows, index_t cols,
                     index_t wire_bits, index_t key0, index_t key1, index_t threads) {
    float qmax = (float)((1 << (wire_bits - 1)) - 1);
    float greatest = nextafterf(3.40282347e38f / qmax, 0.0f);
    index_t pieces = pieces_of(rows, cols, threads), size = (cols + pieces - 1) / pieces;
    if (pieces > 1)
        for (index_t r = 0; r < rows; r++) {
            float highest = 0;
            int order = 0;
            _Pragma("omp parallel for num_threads(threads) reduction(max : order)")
            for (index_t p = 0; p < pieces; p++) {
                index_t start = least(p * size, cols), at = r * cols + start;
                float found = magnitude(x + at, residual ? residual + at : NULL, least(size, cols - start));
                int bits = (int)fhq_to_bits(found);
                order = bits > order ? bits : order;
            }
            highest = fhq_from_bits((unsigned int)order);
            scale[r] = fhq_wire_scale(highest, qmax, greatest);
        }
    PARALLEL(threads)
    for (index_t task = 0; task < rows * pieces; task++) {
        index_t r = task / pieces, start = least(task % pieces * size, cols), at = r * cols + start;
        float *left = residual ? residual + at : NULL;
        index_t count = least(size, cols - start);
        if (pieces == 1) scale[r] = fhq_wire_scale(magnitude(x + at, left, count), qmax, greatest);
        index_t ahead = pieces == 1 && r + 1 < rows && cols <= CACHED ? cols : 0;
        round_stretch(x + at, left, codes + at, at, count, ahead, scale[r], qmax, (uint32_t)key0,
                      (uint32_t)key1);
    }
    int shift = (int)wire_bits;
    if (wire_bits == 8) return; /* the codes are the plane */
    for (int bits = 4; bits > 0; bits /= 2)
        if (wire_bits & bits) {
            shift -= bits;
            pack_plane(codes, packed, rows * cols, bits, shift, threads);
            packed += (rows * cols * bits + 7) / 8;
        }
}

/* Several tensors in one call, one behind the other: of each where it lies, where its residual, its
 * shape and its key. `codes` has room for those of the largest. */
void stochastic_pack_all(const index_t *restrict table, index_t count, float *restrict scale,
                         uint8_t *codes, uint8_t *packed, index_t wire_bits, index_t threads) {
    for (index_t i = 0; i < count; i++) {
        const index_t *one = table + 6 * i;
        index_t rows = one[2], cols = one[3], total = rows * cols;
        stochastic_pack((const float *)one[0], (float *)one[1], scale, wire_bits == 8 ? packed : codes,
                        packed, rows, cols, wire_bits, one[4], one[5],
                        total < PARALLEL_FROM ? 1 : threads);
        scale += rows;
        for (int bits = 8; bits > 0; bits /= 2)
            if (wire_bits & bits) packed += (total * bits + 7) / 8;
    }
}

/* Whether a code of 2, 4 or 8 bits in any of the bytes has all its bits set: 0xff.. in `found`. */
void foreign_code(const uint8_t *restrict packed, index_t count, index_t bits, uint8_t *found) {
    uint8_t lowest = bits == 8 ? 0x01 : bits == 4 ? 0x11 : 0x55, any = 0;
    for (index_t i = 0; i < count; i++) {
        uint8_t full = packed[i];
        full &= bits > 4 ? (uint8_t)(full >> 4) : 0xff;
        full &= bits > 2 ? (uint8_t)(full >> 2) : 0xff;
        full &= (uint8_t)(full >> 1);
        any |= full;
    }
    *found = any & lowest;
}

/* The codes of elements start ... start + count - 1. */
static void read_codes(const uint8_t *restrict packed, uint8_t *restrict codes, index_t start,
                       index_t count, index_t total, int wire_bits) {
    memset(codes, 0, (size_t)count);
    int shift = wire_bits;
    for (int bits = 8; bits > 0; bits /= 2) {
        if (!(wire_bits & bits)) continue;
        index_t stride = (total * bits + 7) / 8, i = start;
        shift -= bits;
        while (i < start + count) {
            index_t run = i / stride, stop = least((run + 1) * stride, start + count);
            add_bits(packed + (i - run * stride), codes + (i - start), stop - i, bits * (int)run,
                     (uint8_t)((1 << bits) - 1), shift);
            i = stop;
        }
        packed += stride;
    }
}

void unpack(const uint8_t *restrict packed, uint8_t *restrict codes, index_t total, index_t wire_bits,
            index_t threads) {
    index_t tiles = (total + TILE - 1) / TILE;
    PARALLEL(threads)
    for (index_t t = 0; t < tiles; t++)
        read_codes(packed, codes + t * TILE, t * TILE, least(TILE, total - t * TILE), total, wire_bits);
}

#ifdef __AVX512F__
/* Codes of 2 or 4 bits straight from their plane: what each of 16 patterns adds is looked up. */
static void add_looked_up(const uint8_t *restrict plane, float *restrict sum, index_t count,
                          int down, int bits, float step) {
    int most = (1 << bits) - 1, qmax = most >> 1;
    float values[16];
    for (int code = 0; code < 16; code++) values[code] = (float)((code & most) - qmax) * step;
    __m512 table = _mm512_loadu_ps(values);
    __m128i shift = _mm_cvtsi32_si128(down);
    index_t i = 0;
    for (; i + 16 <= count; i += 16) {
        __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(plane + i)));
        __m512 added = _mm512_permutexvar_ps(_mm512_srl_epi32(wide, shift), table);
        _mm512_storeu_ps(sum + i, _mm512_add_ps(_mm512_loadu_ps(sum + i), added));
    }
    for (; i < count; i++) sum[i] += values[(plane[i] >> down) & most];
}
#endif

static void add_levels(const uint8_t *restrict codes, float *restrict sum, index_t count, int qmax,
                       float step) {
    for (index_t i = 0; i < count; i++) sum[i] += (float)(codes[i] - qmax) * step;
}

/* Elements start ... end - 1 of one sender. */
static void add_tile(const uint8_t *restrict packed, const float *restrict scale, float weight,
                     float *restrict sum, index_t start, index_t end, index_t total, index_t cols,
                     int wire_bits) {
    uint8_t codes[TILE];
    int looks_up = 0;
#ifdef __AVX512F__
    looks_up = (wire_bits == 2 || wire_bits == 4) && cols >= 64;
#endif
    index_t stride = (total * wire_bits + 7) / 8;
    if (!looks_up) read_codes(packed, codes, start, end - start, total, wire_bits);
    for (index_t i = start; i < end;) {
        index_t r = i / cols, stop = least((r + 1) * cols, end);
        float step = weight * scale[r];
#ifdef __AVX512F__
        if (looks_up) {
            index_t run = i / stride;
            stop = least(stop, (run + 1) * stride);
            add_looked_up(packed + (i - run * stride), sum + i, stop - i, wire_bits * (int)run,
                          wire_bits, step);
            i = stop;
            continue;
        }
#endif
        add_levels(codes + (i - start), sum + i, stop - i, (1 << (wire_bits - 1)) - 1, step);
        i = stop;
    }
}

/* Adds the tensors of several senders, one after the other, while a tile of the sum is at hand. */
void unpack_add(const uint8_t *const *packed, const float *const *scales,
                const float *restrict weights, index_t senders, float *restrict sum, index_t rows,
                index_t cols, index_t wire_bits, index_t threads) {
    /* A tile takes in what the same bytes hold; of several planes, what neighbours hold. */
    index_t total = rows * cols, is_plane = (8 % wire_bits) == 0;
    index_t runs = is_plane ? 8 / wire_bits : 1, stride = (total + runs - 1) / runs;
    index_t tiles = (stride + TILE - 1) / TILE;
    PARALLEL(threads)
    for (index_t t = 0; t < tiles; t++)
        for (index_t s = 0; s < senders; s++) {
            index_t offset = t * TILE, stop = least(offset + TILE, stride);
            if (is_plane && s + 1 < senders)
                for (index_t j = offset; j < stop; j += 64) __builtin_prefetch(packed[s + 1] + j, 0, 3);
            for (index_t run = 0; run < runs; run++) {
                index_t start = run * stride + offset, end = least(run * stride + stop, total);
                if (start < end)
                    add_tile(packed[s], scales[s], weights[s], sum, start, end, total, cols,
                             (int)wire_bits);
            }
        }
}

/* All tensors of several senders, each of whom sends all scales and then all codes in one body: of
 * every tensor where its sum lies, and its shape. `places` has room for two addresses a sender. */
void unpack_add_all(const uint8_t *const *bodies, const float *restrict weights, index_t senders,
                    const index_t *restrict table, index_t count, const uint8_t **places,
                    index_t wire_bits, index_t threads) {
    index_t scale_at = 0, code_at = 0;
    for (index_t i = 0; i < count; i++) code_at += 4 * table[3 * i + 1];
    for (index_t i = 0; i < count; i++) {
        const index_t *one = table + 3 * i;
        index_t rows = one[1], cols = one[2], total = rows * cols;
        for (index_t s = 0; s < senders; s++) {
            places[s] = bodies[s] + code_at;
            places[senders + s] = bodies[s] + scale_at;
        }
        unpack_add(places, (const float *const *)(places + senders), weights, senders, (float *)one[0],
                   rows, cols, wire_bits, total * senders < PARALLEL_FROM ? 1 : threads);
        scale_at += 4 * rows;
        for (int bits = 8; bits > 0; bits /= 2)
            if (wire_bits & bits) code_at += (total * bits + 7) / 8;
    }
}
