/* A whole step of a policy: a few tokens of each row through all layers, with the state carried.
 *
 * TILE tokens, of one row or of several that are in the same situation, go through the network
 * together, so that each weight that is read serves all of them. Widths are padded with zeros to
 * whole panels or vectors, so that nothing has a tail. What a row gets does not depend on the others.
 */
#include "step.h"

#include <math.h>

#include "vector.h"

#if LANES == 16 || (LANES == 4 && defined(__ARM_NEON))
#define COLUMNS 4 /* vectors of a panel at once: with TILE rows they fill the registers */
#else
#define COLUMNS 2
#endif

INLINE vec activate(vec x, int64_t activation) {
    switch (activation) {
        case TANH: return tanhv(x);
        case SOFTPLUS: return softplusv(x);
        case RELU: return larger(x, splat(0));
        case GELU: return 0.5f * x * (1.0f + erfv(x * 0.70710678f));
        case GELU_TANH: return 0.5f * x * (1.0f + tanhv(0.79788456f * (x + 0.044715f * x * x * x)));
        default: return x;
    }
}

/* y[m] = activation(W x[m] + b) for `count` tokens; constant counts become code of their own. */
INLINE void multiply(const struct op *op, int count, const float *const *x, float *const *y) {
    for (int64_t o = 0; o < op->out; o += COLUMNS * LANES) {
        const float *w = op->weight + (o / PANEL) * op->in * PANEL + o % PANEL;
        vec sums[TILE][COLUMNS];
        for (int m = 0; m < count; m++)
            for (int c = 0; c < COLUMNS; c++)
                sums[m][c] = op->bias ? load(op->bias + o + c * LANES, LANES) : splat(0);
        for (int64_t i = 0; i < op->in; i++, w += PANEL) {
            vec column[COLUMNS];
            for (int c = 0; c < COLUMNS; c++) column[c] = load(w + c * LANES, LANES);
#pragma GCC unroll 6
            for (int m = 0; m < count; m++)
                for (int c = 0; c < COLUMNS; c++) sums[m][c] += column[c] * x[m][i];
        }
        for (int m = 0; m < count; m++)
            for (int c = 0; c < COLUMNS; c++) {
                float *p = y[m] + o + c * LANES;
                const vec v = activate(sums[m][c], op->activation);
                store(p, op->add ? load(p, LANES) + v : v, LANES);
            }
    }
}

static void linear(const struct op *op, int count, const float *const *x, float *const *y) {
    switch (count) {
        case 1: multiply(op, 1, x, y); break;
        case 2: multiply(op, 2, x, y); break;
        case 3: multiply(op, 3, x, y); break;
        case 4: multiply(op, 4, x, y); break;
        case 5: multiply(op, 5, x, y); break;
        default: multiply(op, 6, x, y); break;
    }
}

INLINE int filled(int64_t left) { return left < LANES ? (int)left : LANES; }

static void norm(const struct op *op, const float *x, float *y) {
    const int64_t n = op->in;
    vec total = splat(0), square = splat(0);
    for (int64_t i = 0; i < n; i += LANES) total += load(x + i, filled(n - i));
    const float mean = sum(total) / (float)n;
    for (int64_t i = 0; i < n; i += LANES) {
        const int lanes = filled(n - i);
        vec v = load(x + i, lanes) - mean;
        for (int k = lanes; k < LANES; k++) v[k] = 0;
        square += v * v;
    }
    const float scale = 1.0f / sqrtf(sum(square) / (float)n + *op->table);
    for (int64_t i = 0; i < n; i += LANES) {
        const int lanes = filled(n - i);
        const vec v = (load(x + i, lanes) - mean) * scale;
        store(y + i, v * load(op->weight + i, lanes) + load(op->bias + i, lanes), lanes);
    }
}

/* A group of rows in the same situation: `tokens` tokens each, in scratch memory. */
struct group {
    const struct step *step;
    int64_t first;
    int rows, tokens, skipped; /* skipped: tokens of the last step's end, which fresh rows have not */
};

INLINE float *at(const struct group *g, int64_t offset, int64_t row, int64_t token, int r, int t) {
    return g->step->scratch + offset + r * row + t * token;
}

static void embed(const struct group *g, const struct op *op) {
    const int t = (int)op->token - g->skipped;
    if (t < 0) return;
    for (int r = 0; r < g->rows; r++) {
        const int64_t row = g->first + r;
        const float *x = g->step->input + row * g->step->width + op->from;
        float *y = at(g, op->to, op->to_row, op->to_token, r, t);
        if (op->code == EMBED)
            linear(op, 1, &x, &y);
        else
            memcpy(y, op->weight + (int64_t)*x * op->out, sizeof(float) * (size_t)op->out);
        if (!op->extra) continue;
        int64_t clock = (op->extra == 1 ? g->step->before : g->step->now)[row];
        if (clock >= op->places) clock = op->places - 1;
        for (int64_t i = 0; i < op->out; i++) y[i] += op->table[clock * op->out + i];
    }
}

static void pointwise(const struct group *g, const struct op *op) {
    const int t0 = op->token ? g->tokens - 1 : 0;
    const float *x[TILE];
    float *y[TILE];
    int count = 0;
    for (int r = 0; r < g->rows; r++)
        for (int t = t0; t < g->tokens; t++, count++) {
            x[count] = at(g, op->from, op->from_row, op->from_token, r, t);
            y[count] = at(g, op->to, op->to_row, op->to_token, r, t);
        }
    if (op->code == LINEAR) {
        linear(op, count, x, y);
        return;
    }
    for (int m = 0; m < count; m++)
        if (op->code == NORM)
            norm(op, x[m], y[m]);
        else /* SILU */
            for (int64_t i = 0; i < op->out; i += LANES) {
                const vec v = load(x[m] + i, LANES);
                store(y[m] + i, v * sigmoidv(v), LANES);
            }
}

/* The causal depthwise convolution of `in` taps, weight (in, out), and SiLU. */
static void convolve(const struct group *g, const struct op *op, float *state) {
    const int64_t taps = op->in, E = op->out;
    for (int r = 0; r < g->rows; r++) {
        float *past = state + (g->first + r) * g->step->size + op->state;
        for (int64_t e = 0; e < E; e += LANES) {
            for (int t = 0; t < g->tokens; t++) {
                const float *x = at(g, op->from, op->from_row, op->from_token, r, t) + e;
                vec v = load(op->bias + e, LANES);
                for (int64_t k = 0; k < taps - 1; k++)
                    v += load(past + k * E + e, LANES) * load(op->weight + k * E + e, LANES);
                v += load(x, LANES) * load(op->weight + (taps - 1) * E + e, LANES);
                for (int64_t k = 0; k + 2 < taps; k++)
                    store(past + k * E + e, load(past + (k + 1) * E + e, LANES), LANES);
                if (taps > 1) store(past + (taps - 2) * E + e, load(x, LANES), LANES);
                store(at(g, op->to, op->to_row, op->to_token, r, t) + e, v * sigmoidv(v), LANES);
            }
        }
    }
}

/* The selective scan and its gate, y = scan(u) * SiLU(z), written over the step sizes.
 *
 * `from` holds B and then C of each token, `extra` is where u is, `token` where z is, with the
 * strides of `to`, which holds the step sizes.
 */
static void scan(const struct group *g, const struct op *op, float *state) {
    const int64_t N = op->in, E = op->out;
    for (int r = 0; r < g->rows; r++) {
        float *h = state + (g->first + r) * g->step->size + op->state;
        for (int64_t e = 0; e < E; e += LANES) {
            vec step[TILE], written[TILE], y[TILE];
            for (int t = 0; t < g->tokens; t++) {
                const vec u = load(at(g, op->extra, op->to_row, op->to_token, r, t) + e, LANES);
                step[t] = load(at(g, op->to, op->to_row, op->to_token, r, t) + e, LANES);
                written[t] = step[t] * u;
                y[t] = load(op->bias + e, LANES) * u;
            }
            for (int64_t n = 0; n < N; n++) {
                const vec a = load(op->weight + n * E + e, LANES);
                vec v = load(h + n * E + e, LANES);
                for (int t = 0; t < g->tokens; t++) {
                    const float *BC = at(g, op->from, op->from_row, op->from_token, r, t);
                    v = exp2v(step[t] * a) * v + written[t] * BC[n];
                    y[t] += v * BC[N + n];
                }
                store(h + n * E + e, v, LANES);
            }
            for (int t = 0; t < g->tokens; t++) {
                const vec z = load(at(g, op->token, op->to_row, op->to_token, r, t) + e, LANES);
                store(at(g, op->to, op->to_row, op->to_token, r, t) + e, y[t] * z * sigmoidv(z), LANES);
            }
        }
    }
}

/* Put a row's last `in` - 1 tokens, which are its state, before its new ones, without a gap. */
static void window(const struct group *g, const struct op *op, float *state) {
    const size_t bytes = sizeof(float) * (size_t)op->out;
    const int64_t past = op->in - 1;
    for (int r = 0; r < g->rows; r++) {
        float *kept = state + (g->first + r) * g->step->size + op->state;
        float *full = at(g, op->to, op->to_row, op->to_token, r, 0);
        memcpy(full, kept, bytes * (size_t)past);
        for (int t = 0; t < g->tokens; t++)
            memcpy(full + (past + t) * op->out,
                   at(g, op->from, op->from_row, op->from_token, r, t), bytes);
        memcpy(kept, full + g->tokens * op->out, bytes * (size_t)past);
    }
}

static void run(const struct group *g) {
    const struct step *s = g->step;
    for (int64_t i = 0; i < s->count; i++) {
        const struct op *op = s->ops + i;
        switch (op->code) {
            case EMBED:
            case LOOKUP: embed(g, op); break;
            case CONVOLVE: convolve(g, op, s->state); break;
            case SCAN: scan(g, op, s->state); break;
            case WINDOW: window(g, op, s->state); break;
            default: pointwise(g, op); break;
        }
    }
}

EXPORT void NAMED(policy_step, ISA)(const struct step *s) {
    for (int64_t b = 0; b < s->rows;) {
        const int fresh = s->fresh[b], skipped = fresh ? (int)s->done : 0;
        const int tokens = (int)(s->done + s->given) - skipped;
        struct group g = {s, b, 0, tokens, skipped};
        while (g.first + g.rows < s->rows && s->fresh[g.first + g.rows] == fresh &&
               (g.rows + 1) * tokens <= TILE)
            g.rows++;
        if (fresh)
            memset(s->state + b * s->size, 0, sizeof(float) * (size_t)(g.rows * s->size));
        run(&g);
        const struct op *head = s->ops + s->count - 1;
        for (int r = 0; r < g.rows; r++)
            memcpy(s->output + (b + r) * s->parameters,
                   at(&g, head->to, head->to_row, head->to_token, r, tokens - 1),
                   sizeof(float) * (size_t)s->parameters);
        b += g.rows;
    }
}
