"""Time acting and learning over a lifetime, AD against DM-H: `python -m benchmarks.in_context`.

The efficiency table of Decision Mamba-Hybrid (Huang et al., arXiv 2406.00079) at one width, in one
run: how long a step takes once a whole context is remembered, and an update on contexts as long.
What is timed takes an array and gives one (`policy.predict(observation, reward=...)`), or is one
update of the algorithm's own `learn`, its batch included. How sessions come to remember a whole
context is told in `benchmarks.lifetimes`.
"""

from __future__ import annotations

import torch

torch.set_num_threads(1)

import argparse  # noqa: E402
import os  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

from benchmarks.lifetimes import (  # noqa: E402
    Lifetime,
    Shape,
    act,
    fill_window,
    make_histories,
    make_hybrid,
    make_policy,
    make_systems,
)
from benchmarks.timing import interleaved, paired  # noqa: E402
from decision_policies import SequenceAlgorithm  # noqa: E402
from decision_policies.data import HistorySampler  # noqa: E402

Call = Callable[[], None]

SHAPES = (Shape(10, 20, 5), Shape(4, 500, 20), Shape(4, 1000, 20), Shape(4, 5000, 20))
"""The published contexts of grids, large grids and MuJoCo, and one five times as long."""

GROWTH = (Shape(5, 40, 20), Shape(5, 800, 20))
"""Contexts of 200 and 4000 steps in equally many episodes, so that borders ask for as much."""


def time_steps(
    shape: Shape, width: int, repeats: int, largest: int
) -> tuple[float | None, float, float, float, float]:
    """Time one step of each system behind a full context.

    Args:
        shape: The context.
        width: Token width of all systems.
        repeats: Timed rounds.
        largest: The longest context that is encoded again at each step.

    Returns:
        CPU seconds of AD's transformer encoding its context again (None where it is too long),
        and with its cache, of AD's Mamba, of DM-H, and of DM-H between two borders.
    """
    systems = make_systems(shape, width)
    window = HistorySampler(make_histories(shape), shape.context, 1, seed=0).sample()
    transformer, mamba = make_policy(systems["AD"]), make_policy(systems["AD-Mamba"])
    for policy in (transformer, mamba):
        act(policy, shape.context)
    life = Lifetime(make_policy(systems["DM-H"]), shape)
    calls: list[Call] = [partial(act, transformer, 10), partial(act, mamba, 40)]
    calls += [life.begin, life.go_on]
    if shape.context <= largest:
        anew = transformer.fork(inference="window")
        fill_window(anew, window)
        calls.append(partial(act, anew, 1))
    cached, carried, first, rest, *encoded = interleaved(calls, repeats)
    hybrid, between = life.per_step(first, rest)
    return encoded[0] if encoded else None, cached / 10, carried / 40, hybrid, between


def time_updates(shape: Shape, width: int, repeats: int, batch: int) -> list[float]:
    """Time one update of AD over a transformer, over Mamba, and of DM-H, in CPU seconds."""
    histories = make_histories(shape)

    def update(algorithm: SequenceAlgorithm) -> None:
        algorithm.learn(histories, 1, reset_num_timesteps=False)

    systems = make_systems(shape, width, batch).values()
    return interleaved([partial(update, algorithm) for algorithm in systems], repeats)


def print_steps(shapes: tuple[Shape, ...], width: int, repeats: int, largest: int) -> None:
    """Print a line of times of a step for each context."""
    print("\none step, numpy in and out, behind a full context; DM-H's includes what each border")
    print("of two episodes takes, shared out over the episode")
    print(
        f"{'context':>7}  {'DM-H':16} {'AD again':>11} {'AD cached':>10} {'AD-Mamba':>10} "
        f"{'DM-H':>10} {'no border':>10}   AD again/DM-H  AD cached/DM-H"
    )
    for shape in shapes:
        again, *others = time_steps(shape, width, repeats, largest)
        cells = " ".join(f"{seconds * 1e3:7.3f} ms" for seconds in others)
        known = "not run" if again is None else f"{again * 1e3:8.2f} ms"
        ratio = "-" if again is None else f"{again / others[2]:.1f}x"
        cache = f"{others[0] / others[2]:.2f}x"
        print(
            f"{shape.context:7}  {shape!s:16} {known:>11} {cells}   {ratio:>13} {cache:>15}",
            flush=True,
        )


def print_updates(shapes: tuple[Shape, ...], width: int, repeats: int, largest: int) -> None:
    """Print a line of times of an update for each context."""
    print("\none update of `learn` on 2 contexts: draw, forward, backward, clip, AdamW")
    print(f"{'context':>7}  {'AD':>11} {'AD-Mamba':>11} {'DM-H':>11}   AD/DM-H  AD-Mamba/DM-H")
    for shape in shapes:
        if shape.context > largest:
            print(f"{shape.context:7}  {'not run':>11}")
            continue
        times = time_updates(shape, width, repeats, batch=2)
        cells = " ".join(f"{seconds * 1e3:8.0f} ms" for seconds in times)
        print(
            f"{shape.context:7}  {cells}  {times[0] / times[2]:7.2f}x {times[1] / times[2]:13.2f}x",
            flush=True,
        )


def print_growth(shapes: tuple[Shape, Shape], width: int, repeats: int) -> None:
    """Print how DM-H's step grows with its context; the two alternate, equally many steps each."""
    short, long = (Lifetime(make_policy(make_hybrid(shape, width)), shape) for shape in shapes)
    alike = shapes[1].horizon // shapes[0].horizon
    whole = paired(partial(short.episodes, alike), partial(long.episodes, 1), repeats)
    chunk = shapes[0].chunk
    calls = partial(act, short.policy, chunk), partial(act, long.policy, chunk)
    between = paired(*calls, 30 * repeats)
    print(f"\nDM-H's step at {shapes[0]} and at {shapes[1]}")
    rows = ("with borders", whole, shapes[1].horizon), ("without", between, chunk)
    for name, timing, steps in rows:
        times = f"{timing.left / steps * 1e3:7.3f} ms, {timing.right / steps * 1e3:7.3f} ms"
        print(f"{name:12} {times}: {100 * (timing.ratio - 1):+.1f} %", flush=True)


def print_memory(shape: Shape, width: int, steps: int) -> None:
    """Print what DM-H holds after a context's worth of steps, and after many more.

    What the process occupies goes up and down with the buffers of a border, so the highest reading
    of each half is printed: were anything kept, the second would be higher.
    """
    life = Lifetime(make_policy(make_hybrid(shape, width)), shape)
    held, episodes = life.held_bytes(), max(2, steps // shape.horizon)
    occupied = []
    for _ in range(episodes):
        life.episodes(1)
        occupied.append(resident())
    halves = max(occupied[: episodes // 2]), max(occupied[episodes // 2 :])
    print(f"DM-H's memory at {shape}, then {episodes * shape.horizon} steps later")
    rows = ("tensors", (held, life.held_bytes())), ("process, at most in each half", halves)
    for name, pair in rows:
        cells = [f"{x / 2**20:.2f} MiB" if x else "not known here" for x in pair]
        print(f"{name:30} {cells[0]}, {cells[1]}", flush=True)


def resident() -> int:
    """Read the bytes of memory that the process occupies; 0 where the system does not say."""
    page = Path("/proc/self/statm")
    return int(page.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if page.exists() else 0


def main(
    shapes: tuple[Shape, ...] = SHAPES,
    growth: tuple[Shape, Shape] = GROWTH,
    width: int = 128,
    repeats: int = 7,
    updates: int = 3,
    largest: int = 4000,
    lifetime: int = 20_000,
) -> None:
    """Print the tables.

    Args:
        shapes: The contexts.
        growth: The contexts of equal chunks between which DM-H's step is compared.
        width: Token width of all systems.
        repeats: Timed rounds of steps.
        updates: Timed rounds of updates.
        largest: The longest context that is encoded again at each step, or learnt from.
        lifetime: Steps over which memory is watched.
    """
    systems = make_systems(shapes[0], width).items()
    sizes = {k: sum(p.numel() for p in make_policy(v).model.parameters()) for k, v in systems}
    print(f"width {width}; weights: " + ", ".join(f"{k} {v:,}" for k, v in sizes.items()))
    print("AD: 4 layers, 4 heads; DM-H: its defaults, no dropout; observations of 11 numbers,")
    print(f"actions of 3; one thread, CPU time, medians of {repeats} alternating rounds of steps")
    print(f"and of {updates} of updates\n")
    print_memory(shapes[min(2, len(shapes) - 1)], width, lifetime)  # before others leave memory
    print_steps(shapes, width, repeats, largest)
    print_updates(shapes, width, updates, largest)
    print_growth(growth, width, repeats)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.in_context")
    parser.add_argument("--quick", action="store_true", help="contexts of 200 and 2000 steps only")
    parser.add_argument("--long", action="store_true", help="watch memory over 100,000 steps")
    options = parser.parse_args()
    steps = 100_000 if options.long else 20_000
    if options.quick:
        main(SHAPES[:2], repeats=3, updates=1, lifetime=steps if options.long else 2000)
    else:
        main(lifetime=steps)
