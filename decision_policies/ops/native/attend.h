/* Causal attention over what a row keeps: keys and values of its latest tokens, in a ring of places.
 *
 * Token number i lies in place i modulo the number of places, which are whole panels and at least
 * TILE - 1 more than a token sees, so that TILE tokens can be put in before the first of them looks.
 * Keys lie as packed matrices do, so that 64 of them are weighed at once; values lie row by row.
 */
#ifndef DECISION_POLICIES_ATTEND_H
#define DECISION_POLICIES_ATTEND_H

#include <math.h>

#include "group.h"

#define HEADER 16 /* floats before the keys: the number of tokens so far, as an integer of 64 bits */

/* What a row keeps. */
struct ring {
    int64_t places, width, seen, tokens; /* seen: tokens that one sees; tokens: so far */
    float *keys, *values;
};

static void put(struct ring *ring, const float *key, const float *value) {
    const int64_t place = ring->tokens++ % ring->places;
    float *k = ring->keys + place / PANEL * ring->width * PANEL + place % PANEL;
    for (int64_t i = 0; i < ring->width; i++) k[i * PANEL] = key[i];
    memcpy(ring->values + place * ring->width, value, sizeof(float) * (size_t)ring->width);
}

INLINE void hide(float *scores, int64_t from, int64_t to) {
    for (int64_t j = from; j < to; j++) scores[j] = -INFINITY;
}

INLINE int64_t within(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

/* Scores of `n` places become shares that add up to 1, for the token of this number.
 *
 * Behind the latest token's place lie those that are one turn of the ring older.
 */
static void divide(const struct ring *ring, int64_t token, int64_t n, float *scores) {
    const int64_t latest = (ring->tokens - 1) % ring->places, origin = ring->tokens - 1 - latest;
    const int64_t oldest = token < ring->seen ? 0 : token - ring->seen + 1, behind = origin - ring->places;
    const int64_t from = within(oldest - origin, 0, latest + 1);
    const int64_t to = within(token + 1 - origin, from, latest + 1);
    const int64_t old_from = within(oldest - behind, latest + 1, ring->places);
    const int64_t old_to = within(token + 1 - behind, old_from, ring->places);
    hide(scores, 0, from);
    hide(scores, to, old_from < n ? old_from : n);
    hide(scores, old_to, n);
    vec top = load(scores, LANES);
    for (int64_t j = LANES; j < n; j += LANES) top = larger(top, load(scores + j, LANES));
    float most = top[0];
    for (int c = 1; c < LANES; c++) most = top[c] > most ? top[c] : most;
    vec total = splat(0);
    for (int64_t j = 0; j < n; j += LANES) {
        const vec e = exp2v(load(scores + j, LANES) - most);
        total += e;
        store(scores + j, e, LANES);
    }
    const float share = 1.0f / sum(total);
    for (int64_t j = 0; j < n; j += LANES) store(scores + j, load(scores + j, LANES) * share, LANES);
}

/* y[m] = the values in columns from `column` on, of which `left` are this head's, weighted by p[m]. */
INLINE void gather(const struct ring *ring, int count, int columns, int64_t column, int64_t left, int64_t n,
                   const float *const *p, float *const *y) {
    vec sums[TILE][COLUMNS];
    clear(count, columns, sums);
    weigh(count, columns, n, ring->values + column, ring->width, p, sums);
    for (int m = 0; m < count; m++)
        for (int c = 0; c < columns; c++)
            store(y[m] + column + c * LANES, sums[m][c], filled(left - c * LANES));
}

/* The head from column `head` on looks for `count` tokens, the first of which has this number. */
INLINE void look(const struct ring *ring, int count, int64_t token, int64_t head, int64_t head_width,
                 const float *const *x, float *const *y, float *scores) {
    const int64_t held = ring->tokens < ring->places ? ring->tokens : ring->places;
    const int64_t n = (held + PANEL - 1) / PANEL * PANEL;
    const float scale = LOG2_E / sqrtf((float)head_width); /* exp is exp2 of a scaled argument */
    const float *query[TILE], *p[TILE];
    for (int m = 0; m < count; m++) {
        query[m] = x[m] + head;
        p[m] = scores + m * ring->places;
    }
    for (int64_t j = 0; j < n; j += COLUMNS * LANES) {
        const float *w = ring->keys + (j / PANEL * ring->width + head) * PANEL + j % PANEL;
        vec sums[TILE][COLUMNS];
        clear(count, COLUMNS, sums);
        weigh(count, COLUMNS, head_width, w, PANEL, query, sums);
        for (int m = 0; m < count; m++)
            for (int c = 0; c < COLUMNS; c++)
                store(scores + m * ring->places + j + c * LANES, sums[m][c] * scale, LANES);
    }
    for (int m = 0; m < count; m++) divide(ring, token + m, n, scores + m * ring->places);
    int64_t i = 0;
    for (; i + COLUMNS * LANES <= head_width; i += COLUMNS * LANES)
        gather(ring, count, COLUMNS, head + i, COLUMNS * LANES, held, p, y);
    for (; i < head_width; i += LANES) gather(ring, count, 1, head + i, head_width - i, held, p, y);
}

/* `from` holds of each token its query, filled up to whole panels, its key, and its value. */
static void attend(const struct group *g, const struct op *op) {
    const int64_t D = op->out, head_width = D / op->in, behind = (D + PANEL - 1) / PANEL * PANEL;
    for (int r = 0; r < g->rows; r++) {
        float *memory = kept(g, op, r);
        struct ring ring = {op->places, D, op->token, 0, memory + HEADER, NULL};
        ring.values = ring.keys + op->places * D;
        memcpy(&ring.tokens, memory, sizeof ring.tokens);
        for (int t0 = 0; t0 < g->tokens; t0 += TILE) {
            const int end = t0 + TILE < g->tokens ? t0 + TILE : g->tokens;
            const float *x[TILE];
            float *y[TILE];
            int count = 0;
            for (int t = t0; t < end; t++) {
                const float *token = at(g, op->from, op->from_row, op->from_token, r, t);
                put(&ring, token + behind, token + behind + D);
                if (op->last && t < g->tokens - 1) continue;
                x[count] = token;
                y[count++] = at(g, op->to, op->to_row, op->to_token, r, t);
            }
            float *scores = g->step->scratch + op->extra;
            for (int64_t head = 0; count && head < D; head += head_width)
                FOR_COUNT(count, look(&ring, COUNT, ring.tokens - COUNT, head, head_width, x, y, scores))
        }
        memcpy(memory, &ring.tokens, sizeof ring.tokens);
    }
}

#endif
