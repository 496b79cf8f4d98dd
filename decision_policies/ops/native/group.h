/* Tokens of some rows on their way through the network, and the sums that all products are made of. */
#ifndef DECISION_POLICIES_GROUP_H
#define DECISION_POLICIES_GROUP_H

#include "step.h"
#include "vector.h"

#if LANES == 16 || (LANES == 4 && defined(__ARM_NEON))
#define COLUMNS 4 /* vectors of a panel at once: with TILE tokens they fill the registers */
#else
#define COLUMNS 2
#endif

/* Rows in the same situation, each with `steps` steps from the one at `from` on. */
struct group {
    const struct step *step;
    int64_t first, from; /* row and step */
    int rows, steps, tokens;
    int skipped; /* tokens of the last step's end, which fresh rows have not */
};

INLINE float *at(const struct group *g, int64_t offset, int64_t row, int64_t token, int r, int t) {
    return g->step->scratch + offset + r * row + t * token;
}

/* What the r-th row keeps for an operation. */
INLINE float *kept(const struct group *g, const struct op *op, int r) {
    return g->step->state + (g->first + r) * g->step->between + op->state;
}

INLINE int filled(int64_t left) { return left < LANES ? (int)left : LANES; }

/* sums[m] += the sum over i of x[m][i] times the i-th of n rows of w, which are `stride` floats apart.
 *
 * Constant counts of tokens and columns become code of their own.
 */
INLINE void weigh(int count, int columns, int64_t n, const float *w, int64_t stride, const float *const *x,
                  vec sums[][COLUMNS]) {
    for (int64_t i = 0; i < n; i++, w += stride) {
        vec column[COLUMNS];
        for (int c = 0; c < columns; c++) column[c] = load(w + c * LANES, LANES);
#pragma GCC unroll 6
        for (int m = 0; m < count; m++)
            for (int c = 0; c < columns; c++) sums[m][c] += column[c] * x[m][i];
    }
}

INLINE void clear(int count, int columns, vec sums[][COLUMNS]) {
    for (int m = 0; m < count; m++)
        for (int c = 0; c < columns; c++) sums[m][c] = splat(0);
}

/* The statement with the number of tokens as a constant, from 1 to TILE. */
#define FOR_COUNT(count, statement)                       \
    switch (count) {                                      \
        case 1: { enum { COUNT = 1 }; statement; } break; \
        case 2: { enum { COUNT = 2 }; statement; } break; \
        case 3: { enum { COUNT = 3 }; statement; } break; \
        case 4: { enum { COUNT = 4 }; statement; } break; \
        case 5: { enum { COUNT = 5 }; statement; } break; \
        default: { enum { COUNT = TILE }; statement; }    \
    }

#endif
