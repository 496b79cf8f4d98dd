"""Policies with memory from logged data: sequence models with a Stable-Baselines style API.

Names load when they are first used, so that `import decision_policies` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from decision_policies.version import __version__

if TYPE_CHECKING:
    from os import PathLike

    from decision_policies.algorithms import (
        AD,
        BC,
        DC,
        DM,
        DMM,
        DT,
        DeMa,
        DMHybrid,
        MambaDM,
        SequenceAlgorithm,
    )
    from decision_policies.data import Histories, Trajectories, check_dataset
    from decision_policies.evaluation import evaluate_policy
    from decision_policies.export import export_step
    from decision_policies.in_context import evaluate_in_context
    from decision_policies.laws import check_algorithm
    from decision_policies.ops import backends
    from decision_policies.policy import SequencePolicy
    from decision_policies.registration import register_with_rl_zoo3
    from decision_policies.spec import SequenceSpec

_HOMES = {
    "AD": "decision_policies.algorithms",
    "BC": "decision_policies.algorithms",
    "DC": "decision_policies.algorithms",
    "DM": "decision_policies.algorithms",
    "DMM": "decision_policies.algorithms",
    "DMHybrid": "decision_policies.algorithms",
    "DT": "decision_policies.algorithms",
    "DeMa": "decision_policies.algorithms",
    "Histories": "decision_policies.data",
    "MambaDM": "decision_policies.algorithms",
    "SequenceAlgorithm": "decision_policies.algorithms",
    "SequencePolicy": "decision_policies.policy",
    "SequenceSpec": "decision_policies.spec",
    "Trajectories": "decision_policies.data",
    "backends": "decision_policies.ops",
    "check_algorithm": "decision_policies.laws",
    "check_dataset": "decision_policies.data",
    "evaluate_in_context": "decision_policies.in_context",
    "evaluate_policy": "decision_policies.evaluation",
    "export_step": "decision_policies.export",
    "register_with_rl_zoo3": "decision_policies.registration",
}

__all__ = [
    "AD",
    "BC",
    "DC",
    "DM",
    "DMM",
    "DT",
    "DMHybrid",
    "DeMa",
    "Histories",
    "MambaDM",
    "SequenceAlgorithm",
    "SequencePolicy",
    "SequenceSpec",
    "Trajectories",
    "__version__",
    "backends",
    "check_algorithm",
    "check_dataset",
    "evaluate_in_context",
    "evaluate_policy",
    "export_step",
    "load",
    "register_with_rl_zoo3",
]


def load(  # noqa: PLR0913 - where to look, each by its name
    name: str | PathLike[str],
    env: object = None,
    device: str = "auto",
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    endpoint: str | PathLike[str] | None = None,
    token: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    local_files_only: bool = False,
    features_extractor_class: type | None = None,
) -> SequenceAlgorithm:
    """Load a saved algorithm of whatever class the checkpoint names.

    Args:
        name: A folder, a zip, `hub/<alias>` or a repository on a hub; see `SequenceAlgorithm.load`.
        env: If given, an environment, a vector of them or an id, whose spaces are compared with
            those that the policy was made for.
        device: Where to put the weights.
        revision: A branch, a tag or a commit of the repository; "main" if there is none.
        subfolder: The policy's folder inside the repository.
        endpoint: A hub's URL, or a folder that serves as one.
        token: Of an account that may read it.
        cache_dir: Where to keep what is fetched.
        local_files_only: Ask nothing of a hub: what was fetched before is used.
        features_extractor_class: The one that the policy was saved with, if there is one.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The name is none.
        CheckpointError: It is no whole, unaltered checkpoint, or of a class unknown here.
        HubError: It could not be fetched; `HubNotFound`, `HubAuth` and `HubOffline` say why.
    """
    from decision_policies.algorithms import BY_NAME
    from decision_policies.checkpoint import open_checkpoint
    from decision_policies.errors import CheckpointError
    from decision_policies.hub import resolve

    folder = resolve(
        name,
        revision=revision,
        subfolder=subfolder,
        endpoint=endpoint,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    algorithm = open_checkpoint(folder).config.get("algorithm")
    if not isinstance(algorithm, str) or algorithm not in BY_NAME:
        known = ", ".join(BY_NAME)
        raise CheckpointError(f"{name}: unknown algorithm {algorithm!r}; known are {known}")
    return BY_NAME[algorithm].load(
        folder, env, device, features_extractor_class=features_extractor_class
    )


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'decision_policies' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
