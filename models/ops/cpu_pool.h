/* Max pooling of 2 x 2 windows with stride 2, for tensors of type T; included once for every T.
 *
 * ATen's rule: a window is scanned row by row, and a value takes over where it is greater than the
 * greatest so far, or NaN. So the first of equal values is taken, but the last NaN. Which that is
 * nobody can foretell: everything is chosen by masks, never by branches.
 *
 * A row of outputs is computed in groups of constant size, which become vectors; the last group
 * ends with the row and computes some outputs a second time.
 */
#ifndef FEDHQ_POOL_H
#define FEDHQ_POOL_H
#define INLINED static inline __attribute__((always_inline))
/* Inlined into a parallel loop, rows would no longer be known not to overlap. */
#define APART static __attribute__((noinline))
/* Work in the largest groups that a row of outputs holds. */
#define IN_GROUPS(groups, count, ...)         \
    if ((count) >= 8)                         \
        groups(__VA_ARGS__, count, 8);        \
    else if ((count) >= 4)                    \
        groups(__VA_ARGS__, count, 4);        \
    else if ((count) >= 2)                    \
        groups(__VA_ARGS__, count, 2);        \
    else                                      \
        groups(__VA_ARGS__, count, 1);
#endif

/* All bits set where the value takes over. */
INLINED BITS NAME(takes_over)(T value, T greatest) {
    return -(BITS)((LOAD(value) > LOAD(greatest)) | (LOAD(value) != LOAD(value)));
}

INLINED T NAME(choose)(BITS mask, T one, T other) {
    BITS bits, others;
    memcpy(&bits, &one, sizeof bits);
    memcpy(&others, &other, sizeof others);
    bits = (bits & mask) | (others & ~mask);
    memcpy(&one, &bits, sizeof bits);
    return one;
}

INLINED T NAME(greater)(T greatest, T value) {
    return NAME(choose)(NAME(takes_over)(value, greatest), value, greatest);
}

/* From the two rows of the input above and below. */
INLINED void NAME(pool_groups)(const T *restrict above, const T *restrict below, T *restrict y,
                               index_t count, const int size) {
    for (index_t first = 0; first < count; first += size) {
        index_t start = least(first, count - size);
        const T *a = above + 2 * start, *b = below + 2 * start;
        _Pragma("omp simd")
        for (int j = 0; j < size; j++) {
            T upper = NAME(greater)(a[2 * j], a[2 * j + 1]);
            y[start + j] = NAME(greater)(upper, NAME(greater)(b[2 * j], b[2 * j + 1]));
        }
    }
}

/* ATen adds gradients to zeros, and so makes -0 a 0. */
INLINED void NAME(gradient_groups)(const T *restrict grad, const T *restrict above,
                                   const T *restrict below, T *restrict dabove,
                                   T *restrict dbelow, index_t count, const int size) {
    for (index_t first = 0; first < count; first += size) {
        index_t start = least(first, count - size);
        const T *a = above + 2 * start, *b = below + 2 * start, *g = grad + start;
        T *da = dabove + 2 * start, *db = dbelow + 2 * start;
        _Pragma("omp simd")
        for (int j = 0; j < size; j++) {
            T one = NAME(greater)(a[2 * j], a[2 * j + 1]), two = NAME(greater)(one, b[2 * j]);
            BITS is_last = NAME(takes_over)(b[2 * j + 1], two);
            BITS is_below = is_last | NAME(takes_over)(b[2 * j], one);
            BITS is_second = NAME(takes_over)(a[2 * j + 1], a[2 * j]);
            T given = STORE(LOAD(g[j]) + 0.0f);
            da[2 * j] = NAME(choose)(is_below | is_second, 0, given);
            da[2 * j + 1] = NAME(choose)(is_second & ~is_below, given, 0);
            db[2 * j] = NAME(choose)(is_below & ~is_last, given, 0);
            db[2 * j + 1] = NAME(choose)(is_last, given, 0);
        }
    }
}

APART void NAME(pool_row)(const T *restrict above, const T *restrict below, T *restrict y,
                          index_t count) {
    IN_GROUPS(NAME(pool_groups), count, above, below, y)
}

APART void NAME(gradient_row)(const T *restrict grad, const T *restrict above,
                              const T *restrict below, T *restrict dabove, T *restrict dbelow,
                              index_t count) {
    IN_GROUPS(NAME(gradient_groups), count, grad, above, below, dabove, dbelow)
}

void NAME(max_pool)(const T *restrict x, T *restrict y, index_t planes, index_t height,
                    index_t width, index_t threads) {
    index_t rows = height / 2, count = width / 2;
    PARALLEL(threads)
    for (index_t p = 0; p < planes; p++)
        for (index_t r = 0; r < rows; r++) {
            const T *above = x + (p * height + 2 * r) * width;
            NAME(pool_row)(above, above + width, y + (p * rows + r) * count, count);
        }
}

/* An odd last row or column lies in no window. */
void NAME(max_pool_gradient)(const T *restrict grad, const T *restrict x, T *restrict dx,
                             index_t planes, index_t height, index_t width, index_t threads) {
    index_t rows = height / 2, count = width / 2;
    PARALLEL(threads)
    for (index_t p = 0; p < planes; p++) {
        for (index_t r = 0; r < rows; r++) {
            const T *from = grad + (p * rows + r) * count, *above = x + (p * height + 2 * r) * width;
            T *to = dx + (p * height + 2 * r) * width;
            NAME(gradient_row)(from, above, above + width, to, to + width, count);
            if (width % 2) to[width - 1] = to[2 * width - 1] = 0;
        }
        if (height % 2) memset(dx + ((p + 1) * height - 1) * width, 0, (size_t)width * sizeof(T));
    }
}
