"""SequenceSpec: all that a policy must know beside its weights, in JSON-able form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from gymnasium import spaces

from decision_policies import space_json
from decision_policies.errors import CheckpointError
from decision_policies.returns import ReturnStatistics
from decision_policies.spaces import LARGEST, check_supported

Modality: TypeAlias = Literal["return", "observation", "action", "reward"]
Layout: TypeAlias = Literal["B3LD", "BL3D"]
Inference: TypeAlias = Literal["window", "recurrent", "staggered"]
Memory: TypeAlias = Literal["episode", "lifetime"]
ReturnMode: TypeAlias = Literal["decrement", "constant", "predict"]


@dataclass(frozen=True)
class SequenceSpec:
    """What a model sees of a step, how steps become tokens, and how the policy remembers.

    Attributes:
        observation_space: Space of one observation.
        action_space: Space of one action.
        context_length: Number K of environment steps in a training window.
        modalities: What a step's tokens carry, in order; without "return" the policy keeps no
            return-to-go. A "reward" follows its action, divided by `return_scale`.
        layout: "B3LD" puts the modalities one after the other along time (a token each),
            "BL3D" puts them side by side along the embedding (1 token a step).
        inference: How the policy acts: "window" re-encodes the last K steps, "recurrent" carries
            the state from the episode's start, "staggered" carries two states that restart in turn
            every K / 2 steps and acts with the older.
        memory: Whether memory ends with the "episode" or only with `reset` ("lifetime").
        context_episodes: Of a memory over a lifetime, the episodes of a context, the present one
            included: the best of the past ones, in the order of their returns, come before it, and
            are encoded again whenever one ends. None: all of the past is remembered as it was.
        return_scale: Returns-to-go are divided by this before the model sees them.
        target_return: The return asked for where the user asks for none.
        clip_rewards: Whether rewards are clipped to [-1, 1], in training as in acting, before they
            lower the return-to-go.
        return_mode: What each step asks for: "decrement", the return still to go, which rewards
            lower; "constant", the return of the whole episode, so that no reward is needed to act;
            "predict", the return still to go, which the model's own predictions of the rewards
            lower, so that none is needed either.
        returns: Returns of the data that are learnt from, by which words such as "p90" ask; None
            where there were no data, or in checkpoints of older versions.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    context_length: int
    modalities: tuple[Modality, ...] = ("return", "observation", "action")
    layout: Layout = "B3LD"
    inference: Inference = "window"
    memory: Memory = "episode"
    context_episodes: int | None = None
    return_scale: float = 1.0
    target_return: float = 0.0
    clip_rewards: bool = False
    return_mode: ReturnMode = "decrement"
    returns: ReturnStatistics | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UnsupportedSpaceError: A space is not supported; see `spaces.check_supported`.
            ValueError: A value is out of range; the message names it.
        """
        check_supported(self.observation_space, "observation")
        check_supported(self.action_space, "action")
        self._check_lengths()
        choices = {"layout": Layout, "inference": Inference, "memory": Memory}
        for name, allowed in {**choices, "return_mode": ReturnMode}.items():
            if getattr(self, name) not in get_args(allowed):
                options = ", ".join(get_args(allowed))
                raise ValueError(f"{name} must be one of {options}; got {getattr(self, name)!r}")
        known, modalities = get_args(Modality), self.modalities
        ordered = tuple(m for m in known if m in modalities)
        if "observation" not in modalities or ordered != tuple(modalities):
            raise ValueError(
                f"modalities must be among {known}, in this order and with 'observation'; got "
                f"{modalities}"
            )
        if "reward" in modalities and self.layout == "BL3D":
            raise ValueError("rewards are tokens in the layout 'B3LD' only, got 'BL3D'")
        if self.return_mode == "predict" and ("reward" in modalities or not self.uses_returns):
            raise ValueError(
                'return_mode="predict" is for models that are given a return and no rewards: it '
                f"counts the return down by predicted ones; this model is given {modalities}"
            )
        if not (math.isfinite(self.return_scale) and self.return_scale > 0):
            raise ValueError(f"return_scale must be positive, got {self.return_scale}")
        if not abs(self.target_return) <= LARGEST:
            raise ValueError(f"target_return must be finite in float32, got {self.target_return}")
        if type(self.clip_rewards) is not bool:
            raise ValueError(f"clip_rewards must be False or True, got {self.clip_rewards!r}")

    def _check_lengths(self) -> None:
        """Check how much is remembered."""
        for name in ("context_length", "context_episodes"):
            length = getattr(self, name)
            if length is not None and (type(length) is not int or length < 1):
                raise ValueError(f"{name} must be at least 1, got {length!r}")
        if self.inference == "staggered" and self.context_length < 2:
            raise ValueError(
                "staggered inference needs a context_length of at least 2, got "
                f'{self.context_length}; take a longer one, or inference="window"'
            )
        if self.return_mode == "predict" and self.context_length < 2:
            raise ValueError(
                'return_mode="predict" needs a context_length of at least 2: a reward is told by '
                "the observations before and after it"
            )

    @property
    def uses_returns(self) -> bool:
        """Whether the model is conditioned on a return."""
        return "return" in self.modalities

    @property
    def counts_down(self) -> bool:
        """Whether rewards that are reported lower the return that is asked for."""
        return self.uses_returns and self.return_mode == "decrement"

    @property
    def predicts_rewards(self) -> bool:
        """Whether rewards that the model predicts lower the return that is asked for."""
        return self.return_mode == "predict"

    @property
    def tokens_per_step(self) -> int:
        """Number of tokens that a step becomes."""
        return len(self.modalities) if self.layout == "B3LD" else 1

    def check_window(self, window: int) -> None:
        """Check that a mixer's window, in tokens, fits into the context.

        Raises:
            ValueError: It is longer than the context that the mixer is trained on.
        """
        tokens = self.context_length * self.tokens_per_step
        if window > tokens:
            raise ValueError(
                f"a window of {window} tokens is longer than the context: context_length="
                f"{self.context_length} steps of {self.tokens_per_step} tokens are {tokens}"
            )

    def to_json(self) -> dict[str, Any]:
        """Describe the spec in plain JSON values."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data["observation_space"] = space_json.to_json(self.observation_space)
        data["action_space"] = space_json.to_json(self.action_space)
        data["modalities"] = list(self.modalities)
        data["returns"] = None if self.returns is None else self.returns.to_json()
        return data

    @classmethod
    def from_json(cls, data: object) -> SequenceSpec:
        """Rebuild a spec from `to_json`'s description.

        Raises:
            CheckpointError: An entry is missing, unexpected, of the wrong type or out of range.
        """
        if not isinstance(data, Mapping):
            raise CheckpointError(f"spec: expected entries by name, got {data!r}")
        values = {"returns": None, **data}  # checkpoints of older versions have none
        if odd := sorted(map(str, set(values) ^ {f.name for f in fields(cls)})):
            raise CheckpointError(f"spec: entries missing or unexpected: {', '.join(odd)}")
        if values["returns"] is not None:
            values["returns"] = ReturnStatistics.from_json(values["returns"])
        for name in ("observation_space", "action_space"):
            values[name] = space_json.from_json(values[name], f"spec.{name}")
        if not isinstance(values["modalities"], list):
            raise CheckpointError("spec.modalities: expected a list")
        values["modalities"] = tuple(values["modalities"])
        if type(values["context_length"]) is not int or values["context_length"] > 1 << 20:
            raise CheckpointError(f"spec.context_length: bad value {values['context_length']!r}")
        for name in ("return_scale", "target_return"):
            value = values[name]
            if type(value) not in (int, float) or float(value) != value:
                raise CheckpointError(f"spec.{name}: expected a number, got {value!r}")
            values[name] = float(value)
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"spec: {error}") from error
