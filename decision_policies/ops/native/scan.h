/* What the scan is given; `scan_native.py` fills it as an array, in this order. */
#ifndef DECISION_POLICIES_SCAN_H
#define DECISION_POLICIES_SCAN_H

#include <stdint.h>

#define CHUNK 16 /* tokens between two states that the forward pass keeps */

_Static_assert(sizeof(void *) == 8, "the caller fills the struct as an array of 64-bit slots");

struct scan {
    int64_t rows, length, width, states;
    /* (B, L, E) and (B, L, N) with neighbours along the last axis, and their strides in floats. */
    const float *u, *delta, *B, *C;
    int64_t u_row, u_step, delta_row, delta_step, B_row, B_step, C_row, C_step;
    const float *A, *D;    /* (N, E) and (E) */
    const float *state;    /* (B, N, E), or NULL for zeros */
    float *y, *last;       /* (B, L, E) and (B, N, E), written by the forward pass */
    float *kept;           /* (B, chunks, N, E): states before each chunk; NULL where none is wanted */
    const float *grad_y;   /* (B, L, E), for the backward pass, as all that follow */
    float *grad_state;     /* (B, N, E): of the last state when called, of the first when it returns */
    float *grad_u, *grad_delta, *grad_B, *grad_C; /* written */
    float *grad_A, *grad_D;                       /* (N, E) and (E), added to */
};

#endif
