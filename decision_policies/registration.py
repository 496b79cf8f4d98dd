"""Makes the algorithms known to rl_zoo3, whose scripts then take their names."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from decision_policies.algorithms import BY_NAME, SequenceAlgorithm

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv


class Entry:
    """What rl_zoo3's scripts ask of an algorithm's class: a name, and `load`.

    Args:
        kind: The class.
    """

    def __init__(self, kind: type[SequenceAlgorithm]) -> None:
        self.kind = kind
        self.__name__ = kind.__name__

    def load(
        self,
        path: str | PathLike[str],
        env: VecEnv | None = None,
        device: str = "auto",
        custom_objects: Mapping[str, Any] | None = None,
        *,
        seed: int | None = None,
    ) -> SequenceAlgorithm:
        """Load a policy as those scripts do.

        Args:
            path: The folder or zip that `save` wrote.
            env: If given, its spaces are compared with those that the policy was made for.
            device: Where to put the weights.
            custom_objects: What takes the place of an old pickle's members: here there is none.
            seed: Seeds the sampling of actions.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The environment has other spaces.
            CheckpointError: It is no whole, unaltered checkpoint of this class.
        """
        algorithm = self.kind.load(path, env, device)
        assert algorithm.policy is not None, "what is loaded has a policy"
        algorithm.policy = algorithm.policy.fork(seed=seed)
        return algorithm


def register_with_rl_zoo3() -> None:
    """Add each algorithm to rl_zoo3's, by its name in lower case, such as "dema".

    Its `enjoy` and `record_video` then play what `python -m zoo train` has left in logs/. They
    report no rewards to a policy: one with `return_mode="constant"` needs none, another holds the
    return that it asks for, and says so once.

    Example:
        >>> from decision_policies import register_with_rl_zoo3
        >>> register_with_rl_zoo3()  # doctest: +SKIP

    Raises:
        ImportError: rl_zoo3 is not installed.
    """
    try:
        from rl_zoo3 import ALGOS
    except ModuleNotFoundError as error:
        if error.name != "rl_zoo3":
            raise
        raise ImportError(
            "rl_zoo3 is not installed: pip install 'decision-policies[rl-zoo3]'"
        ) from error
    ALGOS.update({name.lower(): Entry(kind) for name, kind in BY_NAME.items()})
