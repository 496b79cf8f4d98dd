/* Steps of a policy as a list of operations; `models/native_step.py` writes such lists. */
#ifndef DECISION_POLICIES_STEP_H
#define DECISION_POLICIES_STEP_H

#include <stdint.h>

#define PANEL 64 /* columns of a packed matrix that lie together, row after row */
#define TILE 6   /* tokens whose sums are in registers together */
#define TOKENS 128 /* tokens of a group of rows, at most */

_Static_assert(sizeof(void *) == 8, "the caller fills the structs as arrays of 64-bit slots");

enum code { EMBED, LOOKUP, LINEAR, NORM, CONVOLVE, SILU, SCAN, WINDOW, ATTEND, MODAL, BAND, PLACE };

enum activation { NONE, TANH, SOFTPLUS, RELU, GELU, GELU_TANH };

/* One operation. Buffers are offsets, in floats, into the scratch memory of a group of rows. */
struct op {
    int64_t code;
    int64_t from, from_row, from_token; /* input: offset, and strides of rows and tokens */
    int64_t to, to_row, to_token;       /* output */
    int64_t in, out;                    /* widths; SCAN: states and channels; WINDOW: tokens and width;
                                           ATTEND: heads and width; MODAL: taps and width; BAND: as SCAN */
    const float *weight, *bias;         /* SCAN, BAND: decay rates times log2(e), and D; PLACE: a vector for
                                           each place in a chunk */
    int64_t activation, add;            /* add: to what the output holds */
    int64_t state;                      /* offset into a row's state */
    int64_t token;   /* EMBED, LOOKUP: which token they make; SCAN: where z is; ATTEND: tokens seen;
                        BAND: where u is in a token */
    int64_t last;    /* of what mixes or maps tokens: only the last one's output is wanted */
    int64_t extra;   /* EMBED, LOOKUP: clock (0 none, 1 last step's, 2 this one's); SCAN: where u is;
                        ATTEND: where scores go; BAND: where B and C are in a token */
    const float *table; /* EMBED, LOOKUP: what is added for the clock; NORM: epsilon, one float */
    int64_t places;     /* rows of the table, or PLACE: of the weight; ATTEND: tokens that are
                           kept; BAND: tokens that are seen */
};

struct step {
    const struct op *ops;
    int64_t count;
    int64_t done, given;       /* tokens of the last step's end, and of what is known of this one */
    int64_t rows, steps, width; /* rows; steps that the input has room for; floats of one */
    int64_t size, between;     /* floats of a row's state, and from it to the next row's: 0 where all
                                  begin anew, and one serves them all */
    int64_t prompt;            /* whether a row that begins has a prompt in place of the last step's last
                                  token, which PLACE puts there */
    int64_t chunk;             /* steps that go through the network together, at most */
    const float *input;        /* (rows, steps, width), the last steps at the end */
    const int64_t *before, *now; /* (rows, steps): clocks */
    const int64_t *counts;     /* (rows): steps of each that are to be run; a row of none is left alone */
    const uint8_t *fresh;      /* (rows): begins with the first of them, from nothing */
    float *state;              /* updated */
    float *scratch;
    int64_t parameters;        /* width of what the last operation makes of the last token */
    float *output;             /* (rows, parameters) */
};

#endif
