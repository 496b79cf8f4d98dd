"""Time each system's `predict` as it acts and by torch: `python -m benchmarks.systems`."""

from __future__ import annotations

import torch

torch.set_num_threads(1)

from benchmarks.acting import ACTION, CALLS, OBSERVATION, OTHERS, acting  # noqa: E402
from benchmarks.timing import paired  # noqa: E402
from decision_policies import (  # noqa: E402
    AD,
    DeMa,
    DMHybrid,
    SequenceAlgorithm,
    SequencePolicy,
    backends,
)
from decision_policies.contexts import (  # noqa: E402
    Context,
    LifetimeContext,
    RecurrentContext,
    StaggeredContext,
    WindowContext,
)
from decision_policies.spec import Inference  # noqa: E402

SYSTEMS: tuple[type[SequenceAlgorithm], ...] = (DeMa, *OTHERS, AD, DMHybrid)
MODES: tuple[Inference, ...] = ("recurrent", "staggered", "window")


def by_torch(policy: SequencePolicy) -> SequencePolicy:
    """Make a fork that acts by torch's operators in the policy's way to remember."""
    fork = policy.fork()
    acting(fork, 1)()
    assert fork._session is not None
    fork._session.context = context_of(fork)
    return fork


def context_of(policy: SequencePolicy) -> Context:
    """Make the context of a policy's way to remember, for one row, by torch."""
    model, length = policy.model, policy.spec.context_length
    if policy.inference == "window":
        return WindowContext(model, 1, length)
    if policy.inference == "staggered":
        return StaggeredContext(RecurrentContext(model, 2), 1, length)
    if policy.spec.context_episodes is not None:
        return LifetimeContext(model, 1, policy.spec.context_episodes)
    return RecurrentContext(model, 1)


def main(repeats: int = 15, systems: tuple[type[SequenceAlgorithm], ...] = SYSTEMS) -> None:
    """Print a line for each system and way to remember."""
    print(f"one predict of one environment, numpy in and out, {backends()['step']},")
    print(f"one thread, CPU time, medians of {repeats} alternating runs of {CALLS} predicts")
    print(f"{'system':8} {'inference':10} {'as it acts':>11} {'by torch':>11}")
    for system in systems:
        made = system(seed=0, device="cpu").make_policy(OBSERVATION, ACTION, target_return=3000.0)
        lasting = made.spec.memory == "lifetime"  # what is remembered is more than a window
        for inference in MODES[:1] if lasting else MODES:
            ours = made.fork(inference=inference)
            timing = paired(acting(ours, 1), acting(by_torch(ours), 1), repeats, warmup=3)
            print(
                f"{system.__name__:8} {inference:10} {timing.left / CALLS * 1e6:8.0f} us"
                f" {timing.right / CALLS * 1e6:8.0f} us {timing.ratio:6.1f}x",
                flush=True,
            )


if __name__ == "__main__":
    main()
