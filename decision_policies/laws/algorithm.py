"""Laws of algorithms: same seed, same learning; saved, loaded or interrupted, still the same."""

from __future__ import annotations

import random
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.batch import Window
from decision_policies.laws.cases import MODES, Case
from decision_policies.laws.law import law, one_warning, require, same
from decision_policies.policy import SequencePolicy

CURVE_OF_9 = {"learning_rate": "lin_1e-3"}
"""A schedule, so that a resume must know where it is."""


def policy_of(algorithm: SequenceAlgorithm) -> SequencePolicy:
    """The policy that an algorithm has by now."""
    require(algorithm.policy is not None, "there is no policy")
    assert algorithm.policy is not None
    return algorithm.policy


def same_weights(found: SequenceAlgorithm, expected: SequenceAlgorithm, what: str) -> None:
    """Check that two models have bit-equal weights and buffers."""
    left = policy_of(found).model.state_dict()
    right = policy_of(expected).model.state_dict()
    require(left.keys() == right.keys(), f"{what}: the weights have other names")
    for name, value in left.items():
        same(value, right[name], f"{what}: {name}")


def losses_of(
    algorithm: SequenceAlgorithm, case: Case, updates: int, **options: Any
) -> list[float]:
    """Learn, and return the loss of each update."""
    curve = []

    def note(local: dict[str, Any], _: dict[str, Any]) -> bool:
        curve.append(float(local["losses"]["loss"].detach()))
        return True

    algorithm.learn(case.data(), updates, callback=note, **options)
    return curve


@contextmanager
def folder() -> Iterator[Path]:
    """Lend a folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


GLOBAL = ("random", "numpy.random", "torch")


def generators() -> list[Any]:
    """States of the global generators, in values that can be compared."""
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - what others draw from
    state["state"]["key"] = state["state"]["key"].tolist()
    return [random.getstate(), state, torch.get_rng_state().tolist()]


def restore(states: list[Any]) -> None:
    """Give the user the generators back as they were."""
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(torch.tensor(states[2], dtype=torch.uint8))


@law(("box-discrete",))
def learning_and_acting_leave_the_global_generators_alone(case: Case) -> None:
    """Neither `random` nor numpy's nor torch's global generator is drawn from."""
    before = generators()
    try:
        case.learner().learn(case.data(), 1)  # some packages draw while they are first imported
        warm = generators()
        algorithm = case.learner().learn(case.data(), 3)
        algorithm.predict(case.sample(1)[0][0], deterministic=False)
        case.learner(seed=None).learn(case.data(), 2)
        after = generators()
    finally:
        restore(before)
    for name, old, new in zip(GLOBAL, warm, after, strict=True):
        require(old == new, f"the global generator of {name} was drawn from, or seeded")


@law()
def the_same_seed_gives_a_bit_equal_loss_curve(case: Case) -> None:
    """Twice the same seed is twice the same learning; another seed is another."""
    first, second = case.learner(), case.learner()
    curve = losses_of(first, case, 6)
    same(losses_of(second, case, 6), curve, "the loss curve of a second run with the same seed")
    same_weights(first, second, "after two runs with the same seed")
    seed = (first.seed or 0) + 1
    other = losses_of(case.learner(seed=seed), case, 6)
    require(other != curve, "two seeds give the same loss curve")


@law()
def interrupted_saved_loaded_and_resumed_equals_uninterrupted(case: Case) -> None:
    """Stopped after 4 of 9 updates, saved, loaded, saved, loaded and resumed: the same weights."""
    whole = case.learner(**CURVE_OF_9).learn(case.data(), 9)
    part = case.learner(**CURVE_OF_9)
    part.learn(case.data(), 9, callback=lambda local, _: local["self"].num_timesteps < 4)
    require(part.num_timesteps == 4, f"stopped after {part.num_timesteps} updates, not 4")
    with folder() as path:
        part.save(path / "part")
        resumed = case.algorithm.load(path / "part", device=part.device)
        resumed.save(path / "again")  # untouched, it keeps what a resume needs
        resumed = case.algorithm.load(path / "again", device=part.device)
    resumed.learn(case.data(), 5, reset_num_timesteps=False)
    require(resumed.num_timesteps == 9, f"resumed up to {resumed.num_timesteps} updates, not 9")
    same_weights(resumed, whole, "interrupted and resumed, against uninterrupted")


@law()
def a_checkpoint_saved_during_training_resumes_exactly(case: Case) -> None:
    """What Stable-Baselines3's `CheckpointCallback` saves between two updates can be resumed."""
    from stable_baselines3.common.callbacks import CheckpointCallback

    with folder() as path:
        callback = CheckpointCallback(4, str(path), "at")
        whole = case.learner().learn(case.data(), 9, callback=callback)
        resumed = case.algorithm.load(path / "at_4_steps", device=whole.device)
    resumed.learn(case.data(), 5, reset_num_timesteps=False)
    same_weights(resumed, whole, "resumed from a checkpoint, against uninterrupted")


@contextmanager
def ctrl_c() -> Iterator[bool]:
    """Let Ctrl-C do what it does in a plain Python program; False where it cannot be pressed."""
    if threading.current_thread() is not threading.main_thread():
        yield False  # signals are the main thread's, and so is Ctrl-C
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield True
        handler = signal.getsignal(signal.SIGINT)
        require(handler is signal.default_int_handler, "the handler of Ctrl-C was not put back")
    finally:
        signal.signal(signal.SIGINT, before)


def resume_equals(part: SequenceAlgorithm, case: Case) -> None:
    """Check that what was interrupted after 4 of 9 updates goes on as if it had not been."""
    observation = case.sample(1)[0][0]
    action, _ = part.predict(observation)
    require(bool(case.spaces[1].contains(action)), f"the action {action!r} is not in its space")
    part.learn(case.data(), 5, reset_num_timesteps=False)
    whole = case.learner().learn(case.data(), 9)
    same_weights(part, whole, "interrupted by Ctrl-C and resumed, against uninterrupted")


@law(("box-box",))
def ctrl_c_keeps_what_was_learnt_and_can_be_resumed(case: Case) -> None:
    """A KeyboardInterrupt between two updates ends `learn` with a warning and loses nothing."""

    def interrupt(local: dict[str, Any], _: dict[str, Any]) -> bool:
        if local["self"].num_timesteps == 4:
            raise KeyboardInterrupt
        return True

    part = case.learner()
    with one_warning("interrupted after 4 of 9 updates"), contained():
        part.learn(case.data(), 9, callback=interrupt)
    resume_equals(part, case)


@law(("box-box",))
def ctrl_c_in_the_middle_of_an_update_lets_it_finish(case: Case) -> None:
    """The update in which Ctrl-C is pressed is made to its end; no resume could mend half of one.

    Outside the main thread, where no signal arrives, there is nothing to check.
    """
    part = case.learner()
    hook: Any = None

    def press(module: nn.Module, _: object) -> None:
        hook.remove()
        signal.raise_signal(signal.SIGINT)

    def listen(local: dict[str, Any], _: dict[str, Any]) -> bool:
        nonlocal hook
        if local["self"].num_timesteps == 3:
            hook = register_module_forward_pre_hook(press)  # on whatever is called first
        return True

    with ctrl_c() as pressed:
        if not pressed:
            return
        with one_warning("interrupted after 4 of 9 updates"), contained():
            part.learn(case.data(), 9, callback=listen)
    resume_equals(part, case)


@contextmanager
def contained() -> Iterator[None]:
    """Check that no KeyboardInterrupt gets out."""
    try:
        yield
    except KeyboardInterrupt:
        require(False, "a KeyboardInterrupt got out of learn")


@law()
def saved_and_loaded_it_acts_bit_equal(case: Case) -> None:
    """A loaded policy does, in every mode, what the saved one does."""
    algorithm = case.make().learn(case.data(), 5)
    with folder() as path:
        algorithm.save(path / "saved")
        loaded = case.algorithm.load(path / "saved", device=algorithm.device)
    for mode in MODES:
        found, expected = (
            acts(policy_of(a).fork(inference=mode), case) for a in (loaded, algorithm)
        )
        same(found, expected, f"what a loaded policy does in the mode {mode}, against the saved,")


def acts(policy: SequencePolicy, case: Case) -> NDArray[Any]:
    """Act through 15 steps."""
    observations, _ = case.sample(15)
    return np.array(
        [
            policy.predict(observation, reward=None if t == 0 else 0.5)[0]
            for t, observation in enumerate(observations)
        ]
    )


@law()
def one_batch_can_be_learnt_by_heart(case: Case) -> None:
    """Within 150 updates on one batch the loss falls to a twentieth."""
    policy = case.make().make_policy(*case.spaces, return_scale=3.0)
    window = case.windows(4)
    if not policy.spec.uses_returns:
        window = consistent(window, case)
    optimizer = torch.optim.Adam(policy.model.parameters(), 1e-2)
    first = last = float("inf")
    for update in range(150):
        loss = policy.model.loss(policy.model(window)[0], window)["loss"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        last = float(loss.detach())
        first = last if update == 0 else first
        if last < 0.05 * first + 1e-3:
            return
    require(False, f"the loss fell only from {first:.3g} to {last:.3g}")


def consistent(window: Window, case: Case) -> Window:
    """Log the same action wherever the same value is observed.

    A model that sees neither returns nor actions could not learn two.
    """
    if isinstance(case.spaces[0], spaces.Box):
        return window
    seen = window.observations.flatten(0, 1).reshape(window.mask.numel(), -1)
    place = torch.stack([(seen == value).all(1).nonzero()[0, 0] for value in seen])
    actions = window.actions.flatten(0, 1)[place].view_as(window.actions)
    return replace(window, actions=actions)


@law(("box-discrete",))
def learning_lowers_the_loss_and_the_counter_goes_on(case: Case) -> None:
    """Sixty updates lower the loss; the count of updates goes on, or starts again, as asked."""
    algorithm = case.make(learning_rate=1e-2)
    curve = losses_of(algorithm, case, 60)
    first, last = float(np.mean(curve[:10])), float(np.mean(curve[-10:]))
    require(last < first, f"the loss of ten updates rose from {first:.3g} to {last:.3g}")
    counts = [algorithm.num_timesteps]
    for go_on in (True, False):
        losses_of(algorithm, case, 5, reset_num_timesteps=not go_on)
        counts.append(algorithm.num_timesteps)
    require(counts == [60, 65, 5], f"the counter was {counts}, expected [60, 65, 5]")
