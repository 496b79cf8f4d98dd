"""The selective scan as two Triton kernels: a program scans one row and some of its channels.

Only `scan_triton` imports this file, and only where Triton is wanted: the import takes seconds. The
state of a program is (STATES, CHANNELS), N and E rounded up to powers of two, and stays in
registers; what lies beyond N and E is loaded as zeros and never written. Sums are taken in one
order, without atomics, so equal calls give equal bits. Letters as in `selective_scan`.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def scan_forward(
    u: tl.tensor,
    delta: tl.tensor,
    A: tl.tensor,
    B: tl.tensor,
    C: tl.tensor,
    D: tl.tensor,
    state: tl.tensor,
    y: tl.tensor,
    last: tl.tensor,
    kept: tl.tensor,
    length: tl.tensor,
    width: tl.tensor,
    n: tl.tensor,
    u_row: tl.tensor,
    u_time: tl.tensor,
    delta_row: tl.tensor,
    delta_time: tl.tensor,
    B_row: tl.tensor,
    B_time: tl.tensor,
    C_row: tl.tensor,
    C_time: tl.tensor,
    A_channel: tl.tensor,
    A_state: tl.tensor,
    STATES: tl.constexpr,
    CHANNELS: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:
    """Scan; `kept` (B, chunks, N, E) takes the state before each chunk unless it is None."""
    row = tl.program_id(0).to(tl.int64)
    e = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    s = tl.arange(0, STATES)
    channel, of_state = e < width, s < n
    inside = of_state[:, None] & channel[None, :]
    place = s[:, None] * width + e[None, :]
    rates = tl.load(A + e[None, :] * A_channel + s[:, None] * A_state, mask=inside, other=0.0)
    rates *= LOG2_E
    skip = tl.load(D + e, mask=channel, other=0.0)
    if state is not None:
        h = tl.load(state + row * n * width + place, mask=inside, other=0.0)
    else:
        h = tl.zeros((STATES, CHANNELS), tl.float32)
    u += row * u_row
    delta += row * delta_row
    B += row * B_row
    C += row * C_row
    y += row * length * width
    chunks = tl.cdiv(length, CHUNK)
    for chunk in range(chunks):
        if kept is not None:
            tl.store(kept + (row * chunks + chunk) * n * width + place, h, mask=inside)
        for t in range(chunk * CHUNK, tl.minimum(chunk * CHUNK + CHUNK, length)):
            u_t = tl.load(u + t * u_time + e, mask=channel, other=0.0)
            delta_t = tl.load(delta + t * delta_time + e, mask=channel, other=0.0)
            B_t = tl.load(B + t * B_time + s, mask=of_state, other=0.0)
            C_t = tl.load(C + t * C_time + s, mask=of_state, other=0.0)
            decay = tl.exp2(delta_t[None, :] * rates)
            h = decay * h + B_t[:, None] * (delta_t * u_t)[None, :]
            y_t = tl.sum(C_t[:, None] * h, 0) + skip * u_t
            tl.store(y + t * width + e, y_t, mask=channel)
    tl.store(last + row * n * width + place, h, mask=inside)


@triton.jit
def scan_backward(
    u: tl.tensor,
    delta: tl.tensor,
    A: tl.tensor,
    B: tl.tensor,
    C: tl.tensor,
    D: tl.tensor,
    kept: tl.tensor,
    again: tl.tensor,
    grad_y: tl.tensor,
    carry: tl.tensor,
    grad_u: tl.tensor,
    grad_delta: tl.tensor,
    grad_A: tl.tensor,
    grad_B: tl.tensor,
    grad_C: tl.tensor,
    grad_D: tl.tensor,
    length: tl.tensor,
    width: tl.tensor,
    n: tl.tensor,
    u_row: tl.tensor,
    u_time: tl.tensor,
    delta_row: tl.tensor,
    delta_time: tl.tensor,
    B_row: tl.tensor,
    B_time: tl.tensor,
    C_row: tl.tensor,
    C_time: tl.tensor,
    A_channel: tl.tensor,
    A_state: tl.tensor,
    STATES: tl.constexpr,
    CHANNELS: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:
    """Take the gradients, chunk by chunk from the end.

    `again` (B, CHUNK, N, E) is room for a chunk's states. `carry` (B, N, E) holds the gradient of
    the last state and receives that of the first. `grad_A` (B, N, E) and `grad_D` (B, E) are one
    row's share, `grad_B` and `grad_C` (programs a row, B, L, N) that of one program's channels. The
    mathematics is that of `scan_torch`.
    """
    row = tl.program_id(0).to(tl.int64)
    e = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    s = tl.arange(0, STATES)
    channel, of_state = e < width, s < n
    inside = of_state[:, None] & channel[None, :]
    place = s[:, None] * width + e[None, :]
    rates = tl.load(A + e[None, :] * A_channel + s[:, None] * A_state, mask=inside, other=0.0)
    rates *= LOG2_E
    skip = tl.load(D + e, mask=channel, other=0.0)
    later = tl.load(carry + row * n * width + place, mask=inside, other=0.0)
    sum_A = tl.zeros((STATES, CHANNELS), tl.float32)
    sum_D = tl.zeros((CHANNELS,), tl.float32)
    u += row * u_row
    delta += row * delta_row
    B += row * B_row
    C += row * C_row
    grad_y += row * length * width
    grad_u += row * length * width
    grad_delta += row * length * width
    share = (tl.program_id(1) * tl.num_programs(0) + row) * length * n
    grad_B += share
    grad_C += share
    again += row * CHUNK * n * width
    chunks = tl.cdiv(length, CHUNK)
    for turn in range(chunks):
        chunk = chunks - 1 - turn
        start = chunk * CHUNK
        tokens = tl.minimum(CHUNK, length - start)
        h = tl.load(kept + (row * chunks + chunk) * n * width + place, mask=inside, other=0.0)
        for i in range(tokens):
            t = start + i
            tl.store(again + i * n * width + place, h, mask=inside)
            u_t = tl.load(u + t * u_time + e, mask=channel, other=0.0)
            delta_t = tl.load(delta + t * delta_time + e, mask=channel, other=0.0)
            B_t = tl.load(B + t * B_time + s, mask=of_state, other=0.0)
            decay = tl.exp2(delta_t[None, :] * rates)
            h = decay * h + B_t[:, None] * (delta_t * u_t)[None, :]
        tl.debug_barrier()  # a state is not always read by the thread that wrote it
        for i in range(tokens):
            t = start + tokens - 1 - i
            before = tl.load(again + (t - start) * n * width + place, mask=inside, other=0.0)
            u_t = tl.load(u + t * u_time + e, mask=channel, other=0.0)
            delta_t = tl.load(delta + t * delta_time + e, mask=channel, other=0.0)
            grad_t = tl.load(grad_y + t * width + e, mask=channel, other=0.0)
            B_t = tl.load(B + t * B_time + s, mask=of_state, other=0.0)
            C_t = tl.load(C + t * C_time + s, mask=of_state, other=0.0)
            adjoint = C_t[:, None] * grad_t[None, :] + later
            later = tl.exp2(delta_t[None, :] * rates) * adjoint
            to_B = tl.sum(adjoint * (delta_t * u_t)[None, :], 1)
            tl.store(grad_B + t * n + s, to_B, mask=of_state)
            tl.store(grad_C + t * n + s, tl.sum(h * grad_t[None, :], 1), mask=of_state)
            written = tl.sum(adjoint * B_t[:, None], 0)
            exponent = later * before
            to_delta = tl.sum(exponent * rates, 0) * LN_2 + written * u_t
            tl.store(grad_u + t * width + e, written * delta_t + skip * grad_t, mask=channel)
            tl.store(grad_delta + t * width + e, to_delta, mask=channel)
            sum_A += exponent * delta_t[None, :]
            sum_D += grad_t * u_t
            h = before
        tl.debug_barrier()  # nor is it overwritten by the thread that read it
    tl.store(carry + row * n * width + place, later, mask=inside)
    tl.store(grad_A + row * n * width + place, sum_A, mask=inside)
    tl.store(grad_D + row * width + e, sum_D, mask=channel)
