/* The selective scan and its gradients; compiled once for each instruction set (see setup.py).
 *
 * Letters: B rows, L tokens, E channels, N states. A block of LANES channels and GROUP states lives
 * in registers while it walks along the tokens, so the states of all tokens are never in memory: the
 * forward pass leaves those at the start of each CHUNK of tokens, from which the backward pass scans
 * a chunk again. The arithmetic of a row knows nothing of other rows, nor of the sequence's length.
 */
#include "scan.h"

#include "vector.h"

#if LANES == 8
#define GROUP 8 /* states in registers: AVX2 has 16 of them, the others 32 (or SSE2 few lanes) */
#else
#define GROUP 16
#endif

#define LN_2 0.6931471805599453f

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Scan one block of one row: `lanes` channels from e on, `count` states from n0 on. */
INLINE void forward_block(const struct scan *s, int64_t b, int64_t e, int lanes, int64_t n0, int count) {
    const int64_t N = s->states, E = s->width, chunks = (s->length + CHUNK - 1) / CHUNK;
    const float *u = s->u + b * s->u_row + e, *delta = s->delta + b * s->delta_row + e;
    const float *B = s->B + b * s->B_row + n0, *C = s->C + b * s->C_row + n0;
    float *y = s->y + b * s->length * E + e;
    const int64_t at = (b * N + n0) * E + e;
    const vec D = load(s->D + e, lanes);
    vec h[GROUP], a[GROUP];
    for (int n = 0; n < count; n++) {
        a[n] = load(s->A + (n0 + n) * E + e, lanes) * LOG2_E;
        h[n] = s->state ? load(s->state + at + n * E, lanes) : splat(0);
    }
    for (int64_t t = 0; t < s->length; t++) {
        if (s->kept && t % CHUNK == 0)
            for (int n = 0; n < count; n++)
                store(s->kept + ((b * chunks + t / CHUNK) * N + n0 + n) * E + e, h[n], lanes);
        const vec step = load(delta, lanes), x = load(u, lanes), written = step * x;
        vec even = n0 ? load(y, lanes) : D * x, odd = splat(0);
#pragma GCC unroll 16
        for (int n = 0; n < count; n++) {
            h[n] = exp2v(step * a[n]) * h[n] + written * B[n];
            if (n & 1)
                odd += h[n] * C[n];
            else
                even += h[n] * C[n];
        }
        store(y, even + odd, lanes);
        u += s->u_step, delta += s->delta_step, B += s->B_step, C += s->C_step, y += E;
    }
    for (int n = 0; n < count; n++) store(s->last + at + n * E, h[n], lanes);
}

EXPORT void NAMED(scan_forward, ISA)(const struct scan *s) {
    const int tail = (int)(s->width % LANES), rest = (int)(s->states % GROUP);
    for (int64_t b = 0; b < s->rows; b++)
        for (int64_t e = 0; e < s->width; e += LANES)
            for (int64_t n = 0; n < s->states; n += GROUP) {
                const int lanes = e + LANES <= s->width ? LANES : tail;
                const int count = n + GROUP <= s->states ? GROUP : rest;
                if (lanes == LANES && count == GROUP)
                    forward_block(s, b, e, LANES, n, GROUP);
                else
                    forward_block(s, b, e, lanes, n, count);
            }
}

/* What one block of one chunk needs of every token; the gradients of B and C add up over channels. */
struct chunk {
    vec h[(CHUNK + 1) * GROUP], decay[CHUNK * GROUP], dB[CHUNK * GROUP], dC[CHUNK * GROUP];
};

/* Scan `tokens` tokens from t on again, then walk back; the carried gradient is s->grad_state. */
INLINE void backward_block(const struct scan *s, struct chunk *k, int64_t b, int64_t t, int tokens,
                           int64_t e, int lanes, int64_t n0, int count) {
    const int64_t N = s->states, E = s->width, chunks = (s->length + CHUNK - 1) / CHUNK;
    const float *u = s->u + b * s->u_row + t * s->u_step + e;
    const float *delta = s->delta + b * s->delta_row + t * s->delta_step + e;
    const float *B = s->B + b * s->B_row + t * s->B_step + n0;
    const float *C = s->C + b * s->C_row + t * s->C_step + n0;
    const float *kept = s->kept + ((b * chunks + t / CHUNK) * N + n0) * E + e;
    float *carried = s->grad_state + (b * N + n0) * E + e;
    const int64_t at = (b * s->length + t) * E + e;
    const vec D = load(s->D + e, lanes);
    vec a[GROUP], h[GROUP], dh[GROUP], dA[GROUP], dD = splat(0);
    for (int n = 0; n < count; n++) {
        a[n] = load(s->A + (n0 + n) * E + e, lanes) * LOG2_E;
        k->h[n] = h[n] = load(kept + n * E, lanes);
        dh[n] = load(carried + n * E, lanes);
        dA[n] = splat(0);
    }
    for (int i = 0; i < tokens; i++) {
        const vec step = load(delta + i * s->delta_step, lanes);
        const vec written = step * load(u + i * s->u_step, lanes);
#pragma GCC unroll 16
        for (int n = 0; n < count; n++) {
            const vec decay = exp2v(step * a[n]);
            h[n] = decay * h[n] + written * B[i * s->B_step + n];
            k->decay[i * GROUP + n] = decay;
            k->h[(i + 1) * GROUP + n] = h[n];
        }
    }
    for (int i = tokens - 1; i >= 0; i--) {
        const vec step = load(delta + i * s->delta_step, lanes), x = load(u + i * s->u_step, lanes);
        const vec dy = load(s->grad_y + at + i * E, lanes), written = step * x;
        const float *B_i = B + i * s->B_step, *C_i = C + i * s->C_step;
        vec dwritten = splat(0), dstep = splat(0);
#pragma GCC unroll 16
        for (int n = 0; n < count; n++) {
            const vec q = dh[n] + dy * C_i[n];
            k->dC[i * GROUP + n] += dy * k->h[(i + 1) * GROUP + n];
            k->dB[i * GROUP + n] += q * written;
            dwritten += q * B_i[n];
            dh[n] = q * k->decay[i * GROUP + n];
            const vec dexponent = dh[n] * k->h[i * GROUP + n];
            dstep += dexponent * a[n];
            dA[n] += dexponent * step;
        }
        vec du = dwritten * step, ddelta = dstep * LN_2 + dwritten * x;
        if (n0) {
            du += load(s->grad_u + at + i * E, lanes);
            ddelta += load(s->grad_delta + at + i * E, lanes);
        } else {
            du += dy * D;
            dD += dy * x;
        }
        store(s->grad_u + at + i * E, du, lanes);
        store(s->grad_delta + at + i * E, ddelta, lanes);
    }
    for (int n = 0; n < count; n++) {
        float *p = s->grad_A + (n0 + n) * E + e;
        store(carried + n * E, dh[n], lanes);
        store(p, load(p, lanes) + dA[n], lanes);
    }
    if (!n0) store(s->grad_D + e, load(s->grad_D + e, lanes) + dD, lanes);
}

EXPORT void NAMED(scan_backward, ISA)(const struct scan *s) {
    const int64_t E = s->width, N = s->states, chunks = (s->length + CHUNK - 1) / CHUNK;
    const int tail = (int)(E % LANES), rest = (int)(N % GROUP);
    struct chunk k;
    for (int64_t b = 0; b < s->rows; b++)
        for (int64_t c = chunks - 1; c >= 0; c--)
            for (int64_t n = 0; n < N; n += GROUP) {
                const int64_t t = c * CHUNK;
                const int tokens = (int)least(CHUNK, s->length - t);
                const int count = n + GROUP <= N ? GROUP : rest;
                memset(k.dB, 0, sizeof(vec) * (size_t)tokens * GROUP);
                memset(k.dC, 0, sizeof(vec) * (size_t)tokens * GROUP);
                for (int64_t e = 0; e < E; e += LANES) {
                    const int lanes = e + LANES <= E ? LANES : tail;
                    if (lanes == LANES && count == GROUP)
                        backward_block(s, &k, b, t, tokens, e, LANES, n, GROUP);
                    else
                        backward_block(s, &k, b, t, tokens, e, lanes, n, count);
                }
                for (int i = 0; i < tokens; i++)
                    for (int j = 0; j < count; j++) {
                        const int64_t at = (b * s->length + t + i) * N + n + j;
                        s->grad_B[at] = sum(k.dB[i * GROUP + j]);
                        s->grad_C[at] = sum(k.dC[i * GROUP + j]);
                    }
            }
}
