/* One step of a policy or a window of them: tokens of each row through all layers, state carried.
 *
 * The tokens of a row, or of several rows in the same situation, go through an operation together, so
 * that each weight that is read serves all of them. Widths are padded with zeros to whole panels or
 * vectors, so that nothing has a tail. What a row gets does not depend on the others.
 */
#include <float.h>

#include "attend.h"
#include "group.h"

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

/* y[m] = activation(W x[m] + b) for `count` tokens, in the columns from o on. */
INLINE void multiply(const struct op *op, int64_t o, int count, const float *const *x, float *const *y) {
    const float *w = op->weight + (o / PANEL) * op->in * PANEL + o % PANEL;
    vec sums[TILE][COLUMNS];
    for (int m = 0; m < count; m++)
        for (int c = 0; c < COLUMNS; c++)
            sums[m][c] = op->bias ? load(op->bias + o + c * LANES, LANES) : splat(0);
    weigh(count, COLUMNS, op->in, w, PANEL, x, sums);
    for (int m = 0; m < count; m++)
        for (int c = 0; c < COLUMNS; c++) {
            float *p = y[m] + o + c * LANES;
            const vec v = activate(sums[m][c], op->activation);
            store(p, op->add ? load(p, LANES) + v : v, LANES);
        }
}

/* The same in all columns, for any number of tokens: a part of the matrix serves all before the next. */
static void linear(const struct op *op, int tokens, const float *const *x, float *const *y) {
    for (int64_t o = 0; o < op->out; o += COLUMNS * LANES)
        for (int m = 0; m < tokens; m += TILE)
            FOR_COUNT(tokens - m, multiply(op, o, COUNT, x + m, y + m))
}

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
    const float spread = sum(square) / (float)n + *op->table;
    const float scale = spread <= FLT_MAX ? 1.0f / sqrtf(spread) : NAN; /* 0 would hide an overflow */
    for (int64_t i = 0; i < n; i += LANES) {
        const int lanes = filled(n - i);
        const vec v = (load(x + i, lanes) - mean) * scale;
        store(y + i, v * load(op->weight + i, lanes) + load(op->bias + i, lanes), lanes);
    }
}

static void embed(const struct group *g, const struct op *op) {
    const struct step *s = g->step;
    const float *x[TOKENS];
    float *y[TOKENS];
    int64_t clock[TOKENS];
    int count = 0;
    for (int r = 0; r < g->rows; r++)
        for (int j = 0; j < g->steps; j++) {
            const int t = j * (int)(s->done + s->given) + (int)op->token - g->skipped;
            if (t < 0) continue;
            const int64_t place = (g->first + r) * s->steps + g->from + j;
            clock[count] = (op->extra == 1 ? s->before : s->now)[place];
            x[count] = s->input + place * s->width + op->from;
            y[count++] = at(g, op->to, op->to_row, op->to_token, r, t);
        }
    if (!count) return;
    if (op->code == EMBED) linear(op, count, x, y);
    for (int m = 0; m < count; m++) {
        if (op->code == LOOKUP)
            memcpy(y[m], op->weight + (int64_t)*x[m] * op->out, sizeof(float) * (size_t)op->out);
        if (!op->extra) continue;
        const int64_t time = clock[m] < op->places ? clock[m] : op->places - 1;
        for (int64_t i = 0; i < op->out; i++) y[m][i] += op->table[time * op->out + i];
    }
}

static void pointwise(const struct group *g, const struct op *op) {
    const float *x[TOKENS];
    float *y[TOKENS];
    int count = 0;
    for (int r = 0; r < g->rows; r++)
        for (int t = op->last ? g->tokens - 1 : 0; t < g->tokens; t++, count++) {
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
static void convolve(const struct group *g, const struct op *op) {
    const int64_t taps = op->in, E = op->out;
    for (int r = 0; r < g->rows; r++) {
        float *past = kept(g, op, r);
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
static void scan(const struct group *g, const struct op *op) {
    const int64_t N = op->in, E = op->out;
    for (int r = 0; r < g->rows; r++)
        for (int t0 = 0; t0 < g->tokens; t0 += TILE) {
            const int count = g->tokens - t0 < TILE ? g->tokens - t0 : TILE;
            const int wanted = !op->last ? 0 : t0 + count == g->tokens ? count - 1 : count;
            float *h = kept(g, op, r);
            for (int64_t e = 0; e < E; e += LANES) {
                vec step[TILE], written[TILE], y[TILE];
                for (int t = 0; t < count; t++) {
                    const vec u = load(at(g, op->extra, op->to_row, op->to_token, r, t0 + t) + e, LANES);
                    step[t] = load(at(g, op->to, op->to_row, op->to_token, r, t0 + t) + e, LANES);
                    written[t] = step[t] * u;
                    y[t] = load(op->bias + e, LANES) * u;
                }
                for (int64_t n = 0; n < N; n++) {
                    const vec a = load(op->weight + n * E + e, LANES);
                    vec v = load(h + n * E + e, LANES);
                    for (int t = 0; t < count; t++) {
                        const float *BC = at(g, op->from, op->from_row, op->from_token, r, t0 + t);
                        v = exp2v(step[t] * a) * v + written[t] * BC[n];
                        y[t] += v * BC[N + n];
                    }
                    store(h + n * E + e, v, LANES);
                }
                for (int t = wanted; t < count; t++) {
                    const vec z = load(at(g, op->token, op->to_row, op->to_token, r, t0 + t) + e, LANES);
                    store(at(g, op->to, op->to_row, op->to_token, r, t0 + t) + e, y[t] * z * sigmoidv(z),
                          LANES);
                }
            }
        }
}

/* Put a row's last `in` - 1 tokens, which are its state, before its new ones, without a gap. */
static void window(const struct group *g, const struct op *op) {
    const size_t bytes = sizeof(float) * (size_t)op->out;
    const int64_t before = op->in - 1;
    for (int r = 0; r < g->rows; r++) {
        float *past = kept(g, op, r), *full = at(g, op->to, op->to_row, op->to_token, r, 0);
        memcpy(full, past, bytes * (size_t)before);
        for (int t = 0; t < g->tokens; t++)
            memcpy(full + (before + t) * op->out, at(g, op->from, op->from_row, op->from_token, r, t),
                   bytes);
        memcpy(past, full + g->tokens * op->out, bytes * (size_t)before);
    }
}

/* A depthwise convolution of `in` taps, whose filter is that of the token's place in a step. */
static void modal(const struct group *g, const struct op *op) {
    const int64_t taps = op->in, D = op->out, each = g->step->done + g->step->given;
    for (int r = 0; r < g->rows; r++)
        for (int t = op->last ? g->tokens - 1 : 0; t < g->tokens; t++) {
            const int64_t place = (t + g->skipped) % each;
            const float *x = at(g, op->from, op->from_row, op->from_token, r, t);
            const float *w = op->weight + place * taps * D, *bias = op->bias + place * D;
            float *y = at(g, op->to, op->to_row, op->to_token, r, t);
            for (int64_t i = 0; i < D; i += LANES) {
                const int lanes = filled(D - i);
                vec v = load(bias + i, lanes);
                if (op->add) v += load(y + i, lanes);
                for (int64_t k = 0; k < taps; k++)
                    v += load(x + k * D + i, lanes) * load(w + k * D + i, lanes);
                store(y + i, v, lanes);
            }
        }
}

/* The selective scan over the `places` tokens that end at each, and its gate, written over z.
 *
 * They lie behind each other, each its step sizes, u, and B and C.
 */
static void band(const struct group *g, const struct op *op) {
    const int64_t N = op->in, E = op->out, next = op->from_token;
    for (int r = 0; r < g->rows; r++)
        for (int t = op->last ? g->tokens - 1 : 0; t < g->tokens; t++) {
            const float *first = at(g, op->from, op->from_row, next, r, t);
            const float *self = first + (op->places - 1) * next;
            float *z = at(g, op->to, op->to_row, op->to_token, r, t);
            for (int64_t e = 0; e < E; e += LANES) {
                vec y = load(op->bias + e, LANES) * load(self + op->token + e, LANES);
                for (int64_t n = 0; n < N; n++) {
                    const vec a = load(op->weight + n * E + e, LANES);
                    vec v = splat(0);
                    for (const float *x = first; x <= self; x += next) {
                        const vec step = load(x + e, LANES);
                        v = exp2v(step * a) * v + step * load(x + op->token + e, LANES) * x[op->extra + n];
                    }
                    y += v * self[op->extra + N + n];
                }
                const vec gate = load(z + e, LANES);
                store(z + e, y * gate * sigmoidv(gate), LANES);
            }
        }
}

/* Put the prompt in front of a chunk that begins, and add to each token what tells its place there.
 *
 * The input holds the prompt in the columns from `from` on, and in column `extra` the steps that the
 * chunk has had; `to` holds the tokens.
 */
static void place(const struct group *g, const struct op *op) {
    const struct step *s = g->step;
    const int64_t each = s->done + s->given;
    for (int r = 0; r < g->rows; r++) {
        const float *in = s->input + ((g->first + r) * s->steps + g->from) * s->width;
        const int64_t before = 1 + (int64_t)in[op->extra] * each - s->done + g->skipped;
        for (int t = 0; t < g->tokens; t++) {
            float *x = at(g, op->to, op->to_row, op->to_token, r, t);
            const int64_t here = within(before + t, 0, op->places - 1);
            if (t == 0 && s->fresh[g->first + r])
                memcpy(x, in + op->from, sizeof(float) * (size_t)op->out);
            for (int64_t i = 0; i < op->out; i++) x[i] += op->weight[here * op->out + i];
        }
    }
}

static void run(const struct group *g) {
    const struct step *s = g->step;
    for (int64_t i = 0; i < s->count; i++) {
        const struct op *op = s->ops + i;
        switch (op->code) {
            case EMBED:
            case LOOKUP: embed(g, op); break;
            case CONVOLVE: convolve(g, op); break;
            case SCAN: scan(g, op); break;
            case WINDOW: window(g, op); break;
            case ATTEND: attend(g, op); break;
            case MODAL: modal(g, op); break;
            case BAND: band(g, op); break;
            case PLACE: place(g, op); break;
            default: pointwise(g, op); break;
        }
    }
}

/* Let a row's state be that of a beginning: zeros, but for keys and values, of which there are none. */
static void begin(const struct step *s, float *state) {
    for (int64_t i = 0; i < s->count; i++) {
        const struct op *op = s->ops + i;
        int64_t zeros = 0;
        if (op->code == CONVOLVE || op->code == WINDOW) zeros = (op->in - 1) * op->out;
        if (op->code == SCAN) zeros = op->in * op->out;
        if (op->code == ATTEND) zeros = HEADER;
        memset(state + op->state, 0, sizeof(float) * (size_t)zeros);
    }
}

EXPORT void NAMED(policy_step, ISA)(const struct step *s) {
    const int each = (int)(s->done + s->given);
    for (int64_t b = 0; b < s->rows;) {
        struct group g = {.step = s, .first = b, .rows = 1};
        const int64_t count = s->counts[b];
        if (!count) { /* it keeps its state, and what was said of it last */
            b++;
            continue;
        }
        const int alone = s->chunk > 1 || (s->between == 0 && s->size > 0);
        while (!alone && b + g.rows < s->rows && s->fresh[b + g.rows] == s->fresh[b] &&
               s->counts[b + g.rows] == count && (g.rows + 1) * each <= TILE)
            g.rows++;
        int fresh = s->fresh[b];
        for (int r = 0; fresh && r < g.rows; r++) begin(s, s->state + (b + r) * s->between);
        for (int64_t done = 0; done < count; done += g.steps, fresh = 0) {
            g.steps = (int)(count - done < s->chunk ? count - done : s->chunk);
            g.from = s->steps - count + done;
            g.skipped = fresh ? (int)(s->done - s->prompt) : 0;
            g.tokens = g.steps * each - g.skipped;
            run(&g);
        }
        const struct op *head = s->ops + s->count - 1;
        for (int r = 0; r < g.rows; r++)
            memcpy(s->output + (b + r) * s->parameters,
                   at(&g, head->to, head->to_row, head->to_token, r, g.tokens - 1),
                   sizeof(float) * (size_t)s->parameters);
        b += g.rows;
    }
}
