"""Compare acting by a window, and drawing windows, with d3rlpy: `python -m benchmarks.peers`."""

from __future__ import annotations

import torch

torch.set_num_threads(1)

import statistics  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

from benchmarks import acting, sampling  # noqa: E402
from benchmarks.ledger import Row, note  # noqa: E402
from decision_policies import DT, DeMa  # noqa: E402
from decision_policies.data import Trajectories  # noqa: E402
from decision_policies.data.windows import WindowSampler  # noqa: E402

PYTHON = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
SIZES = {"width": 128, "context": 20, "batch": 64, "episodes": 200, "length": 1000}


class Peer:
    """A process of d3rlpy's that times what it is asked for."""

    def __init__(self, sizes: dict[str, int]) -> None:
        words = [f"{name}={value}" for name, value in sizes.items()]
        script = Path(__file__).with_name("peer_side.py")
        self._process: subprocess.Popen[str] = subprocess.Popen(
            [PYTHON, "-P", script, *words],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        while self._line() != "ready":  # d3rlpy tells what it does on the same pipe
            pass

    def seconds(self, call: str, count: int) -> float:
        """Time some calls, in CPU seconds of one."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{call} {count}\n")
        self._process.stdin.flush()
        return float(self._line()) / count

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("d3rlpy's process has ended: is .venv-peers whole? make peers")
        return line.strip()


def compare(
    what: str,
    ours: Callable[[], object],
    peer: Peer,
    call: str,
    counts: tuple[int, int],
    repeats: int,
) -> tuple[float, float, tuple[float, float]]:
    """Time both sides by turns; give the medians and the quartiles of the rounds' ratios."""
    rounds = []
    for _ in range(repeats + 1):
        start = time.process_time()
        for _ in range(counts[0]):
            ours()
        mine = (time.process_time() - start) / counts[0]
        rounds.append((mine, peer.seconds(call, counts[1])))
    rounds = rounds[1:]
    ratios = sorted(right / left for left, right in rounds)
    left, right = (statistics.median(side) for side in zip(*rounds, strict=True))
    print(f"{what:44} {left * 1e3:8.3f} ms {right * 1e3:8.3f} ms {right / left:7.1f}x", flush=True)
    return left, right, (ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4])


def main(repeats: int = 15) -> None:
    """Print and note a line for each comparison."""
    if not PYTHON.exists():
        print("not measured: d3rlpy has an environment of its own; make peers")
        return
    print(f"one thread, CPU time, medians of {repeats} rounds by turns, in two processes")
    print(f"{'':44} {'ours':>11} {'d3rlpy':>11}")
    peer = Peer(SIZES)
    width, context, batch = (SIZES[name] for name in ("width", "context", "batch"))
    spaces, observation = (acting.OBSERVATION, acting.ACTION), acting.observations(1)
    for system, wanted in ((DT, 1.5), (DeMa, None)):
        algorithm = system(d_model=width, n_layers=3, context_length=context, seed=0, device="cpu")
        policy = algorithm.make_policy(*spaces, target_return=3000.0).fork(inference="window")
        what = f"window predict of {system.__name__}, width {width}, K {context}, 1 environment"
        ours = partial(policy.predict, observation, reward=1.0)
        found = compare(what, ours, peer, "predict", (100, 100), repeats)
        note(Row(what, found[0], "d3rlpy's Decision Transformer", *found[1:], wanted))
    data = sampling.make_episodes(SIZES["episodes"], SIZES["length"])
    sampler = WindowSampler(Trajectories.from_episodes(data, *spaces), context, batch, seed=0)
    what = f"a batch of {batch} windows of {context} steps"
    found = compare(what, sampler.sample, peer, "sample", (100, 5), repeats)
    note(Row(what, found[0], "d3rlpy's replay buffer", *found[1:], 15.0))
    peer.close()


if __name__ == "__main__":
    main()
