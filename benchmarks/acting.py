"""Compare `policy.predict` with Stable-Baselines3's PPO: `python -m benchmarks.acting`."""

from __future__ import annotations

import torch

torch.set_num_threads(1)

import os  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402

import numpy as np  # noqa: E402
from gymnasium.spaces import Box  # noqa: E402
from stable_baselines3.ppo import MlpPolicy  # noqa: E402

from benchmarks.ledger import Row, note  # noqa: E402
from benchmarks.timing import paired  # noqa: E402
from decision_policies import (  # noqa: E402
    DC,
    DM,
    DMM,
    DT,
    DeMa,
    MambaDM,
    SequenceAlgorithm,
    SequencePolicy,
)
from decision_policies.ops.native import library  # noqa: E402
from decision_policies.spec import Inference  # noqa: E402

OBSERVATION = Box(-np.inf, np.inf, (11,))
ACTION = Box(-1.0, 1.0, (3,))
SETTINGS: list[tuple[Inference, int]] = [
    ("recurrent", 1),
    ("staggered", 1),
    ("window", 1),
    ("recurrent", 64),
    ("staggered", 64),
    ("window", 64),
]
CALLS = 10
COSTS = {("recurrent", 1): 0.7, ("staggered", 1): 1.0, ("recurrent", 64): 6.0}
"""What a predict is to cost at most, in predicts of the peer."""
OTHERS: tuple[type[SequenceAlgorithm], ...] = (DMM, DM, DT, DC, MambaDM)
"""Systems that act once more, each by its default way to remember and at its default size."""
WITHOUT_LIBRARY: dict[tuple[Inference, int], float | None] = {
    ("recurrent", 1): 3.5,
    ("staggered", 1): 3.5,
    ("recurrent", 64): None,
}
"""The same where no compiler was at hand: NumPy carries one row's state, torch those of many."""


def make_ppo() -> MlpPolicy:
    """Make the network whose `predict` is `PPO("MlpPolicy", ...).predict`."""
    policy = MlpPolicy(OBSERVATION, ACTION, lambda _: 0.0, net_arch=[256, 256])
    torch.set_num_threads(1)  # whatever the construction did to it
    return policy


def observations(envs: int) -> np.ndarray:
    """Draw observations of one environment, (11,), or of several, (envs, 11)."""
    shape = (11,) if envs == 1 else (envs, 11)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def acting(policy: SequencePolicy, envs: int) -> Callable[[], None]:
    """Make a call that acts for some steps, with rewards and all that belongs to them."""
    observation, reward = observations(envs), np.ones(envs)
    reward_of_one = 1.0 if envs == 1 else reward

    def call() -> None:
        for _ in range(CALLS):
            policy.predict(observation, reward=reward_of_one)

    return call


def acting_ppo(ppo: MlpPolicy, envs: int) -> Callable[[], None]:
    """Make a call that acts with PPO for as many steps."""
    observation = observations(envs)

    def call() -> None:
        for _ in range(CALLS):
            ppo.predict(observation, deterministic=True)

    return call


def compare(
    policy: SequencePolicy,
    ppo: MlpPolicy,
    envs: int,
    repeats: int,
    most: float | None,
    how: str = "",
    system: str = "DeMa",
) -> None:
    """Time one setting, print it and note it."""
    timing = paired(acting(policy, envs), acting_ppo(ppo, envs), repeats, warmup=3)
    what = (
        f"{policy.inference} predict of {system}{how}, {envs} environment{'s' if envs > 1 else ''}"
    )
    times = timing.left / CALLS, "Stable-Baselines3's PPO MlpPolicy", timing.right / CALLS
    note(Row(what, *times, timing.spread, None if most is None else 1 / most))
    print(
        f"{system:8} {policy.inference + how:30} {envs:5} {timing.left / CALLS * 1e3:7.3f} ms"
        f" {timing.right / CALLS * 1e3:7.3f} ms {1 / timing.ratio:9.1f}x",
        flush=True,
    )


@contextmanager
def without_library() -> Iterator[None]:
    """Let policies that begin to act do so as if no native library had been built."""
    before = os.environ.get(library.SWITCH)
    os.environ[library.SWITCH] = "off"
    library.native.cache_clear()
    try:
        yield
    finally:
        if before is None:
            del os.environ[library.SWITCH]
        else:
            os.environ[library.SWITCH] = before
        library.native.cache_clear()


def early_and_late(policy: SequencePolicy, predicts: int, late: int) -> tuple[float, float]:
    """Time single predicts around step 10 of fresh sessions and after step `late` of one session.

    The two alternate every ten predicts, so that whatever slows the machine down slows both.

    Returns:
        Medians in seconds of CPU time.
    """
    observation = observations(1)

    def act(actor: SequencePolicy) -> float:
        start = time.process_time()
        actor.predict(observation, reward=1.0)
        return time.process_time() - start

    old = policy.fork()
    for _ in range(late):
        old.predict(observation, reward=1.0)
    early_samples, late_samples = [], []
    for _ in range(predicts // 10):
        fresh = policy.fork()
        for _ in range(5):
            fresh.predict(observation, reward=1.0)
        early_samples += [act(fresh) for _ in range(10)]
        late_samples += [act(old) for _ in range(10)]
    return statistics.median(early_samples), statistics.median(late_samples)


def main(repeats: int = 25, predicts: int = 2000, late: int = 100_000) -> None:
    """Print one line per way of remembering, and how the time grows with the episode."""
    policy = DeMa(seed=0, device="cpu").make_policy(OBSERVATION, ACTION, target_return=3000.0)
    ppo = make_ppo()
    print("one predict, numpy in and out: DeMa's default with its return-to-go, against the")
    print("deterministic predict of Stable-Baselines3's PPO with two layers of 256; one thread,")
    print(f"CPU time, medians of {repeats} alternating runs of {CALLS} predicts")
    print(f"{'system':8} {'inference':30} {'envs':>5} {'ours':>10} {'PPO':>10}   ours/PPO")
    for inference, envs in SETTINGS:
        fork, most = policy.fork(inference=inference), COSTS.get((inference, envs))
        compare(fork, ppo, envs, repeats, most)
    for other in OTHERS:
        made = other(seed=0, device="cpu").make_policy(OBSERVATION, ACTION, target_return=3000.0)
        compare(made, ppo, 1, repeats, None, system=other.__name__)
    with without_library():
        for (inference, envs), most in WITHOUT_LIBRARY.items():
            compare(
                policy.fork(inference=inference), ppo, envs, repeats, most, " without the library"
            )
    print(f"\none environment, medians of {predicts} predicts near step 10 and step {late}")
    for inference in ("recurrent", "staggered"):
        early, later = early_and_late(policy.fork(inference=inference), predicts, late)
        print(
            f"{inference:12} {early * 1e3:7.3f} ms, {later * 1e3:7.3f} ms: "
            f"{100 * (later / early - 1):+.1f} %"
        )
        what = f"{inference} predict of DeMa at step {late}"
        note(Row(what, later, "the same at step 10", early, at_least=0.9))


if __name__ == "__main__":
    main()
