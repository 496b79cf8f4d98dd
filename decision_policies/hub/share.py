"""Share a trained algorithm: save it, write its card, push both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from decision_policies.checkpoint import Checkpoint, open_checkpoint
from decision_policies.hub.card import Evaluated, Stage, model_card, results_of
from decision_policies.hub.push import PushResult, check_names, push


class Saves(Protocol):
    """What can be shared: an algorithm, by its `save`."""

    def save(self, path: str | PathLike[str], *, training_state: bool = True) -> None:
        """Write a checkpoint to a folder."""


def push_algorithm(  # noqa: PLR0913 - what a push is made of, each by its name
    algorithm: Saves,
    repo_id: str,
    *,
    evaluation: Evaluated | None = None,
    environment: str | None = None,
    options: Mapping[str, Any] | None = None,
    tasks: Sequence[int] = (),
    target_return: float | None = None,
    deterministic: bool = True,
    stages: Sequence[Stage] = (),
    command: str | None = None,
    note: str | None = None,
    video: str | PathLike[str] | None = None,
    private: bool = False,
    revision: str = "main",
    commit_message: str | None = None,
    token: str | None = None,
    endpoint: str | PathLike[str] | None = None,
) -> PushResult:
    """Push an algorithm with a card that says what it is, learnt from and earns.

    Args:
        algorithm: What is shared; its training state stays behind.
        repo_id: `owner/name`.
        evaluation: What `evaluate_policy` returned; None: the card says that nothing was measured.
        environment: Id of the environment that was played; None is the one the dataset records.
        options: What it was made with beside its id.
        tasks: The task of each episode, where the environment has several.
        target_return: The return that the evaluation asked for; None is the policy's own.
        deterministic: Whether the evaluation took the likeliest actions.
        stages: The last and the best policy of its training, evaluated.
        command: The command line that trained it.
        note: What else to say of the evaluation.
        video: An MP4 of it at work.
        private: Let a repository that is made now be seen by its owner only.
        revision: The branch.
        commit_message: The commit's title.
        token: Of the account; None is the one that `hf auth login` keeps.
        endpoint: Another hub; see `push`.

    Returns:
        Where it is now.

    Raises:
        ValueError: A name is none, or the environment of the evaluation is not known.
        RuntimeError: There is no policy yet.
        HubError: As `push` raises it.
    """
    check_names(repo_id, revision)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "policy"
        algorithm.save(folder, training_state=False)
        saved = open_checkpoint(folder)
        results = None
        if evaluation is not None:
            results = measured(
                saved,
                evaluation,
                environment,
                options=options,
                tasks=tasks,
                target_return=target_return,
                deterministic=deterministic,
            )
        card = model_card(
            saved,
            repo_id,
            type(algorithm),
            results=results,
            stages=stages,
            command=command,
            note=note,
            video=video is not None,
        )
        return push(
            folder,
            repo_id,
            card=card,
            results=results,
            video=video,
            private=private,
            revision=revision,
            commit_message=commit_message,
            token=token,
            endpoint=endpoint,
        )


def measured(
    saved: Checkpoint,
    evaluation: Evaluated,
    environment: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    tasks: Sequence[int] = (),
    target_return: float | None = None,
    deterministic: bool = True,
) -> dict[str, Any]:
    """Write an evaluation as results.json holds it, with what the checkpoint knows filled in.

    Args:
        saved: The checkpoint of what was evaluated.
        evaluation: The episodes.
        environment: Id of the environment; None is the one that the dataset records.
        options: What it was made with beside its id.
        tasks: The task of each episode, where the environment has several.
        target_return: The return that was asked for; None is the policy's own.
        deterministic: Whether the likeliest actions were taken.

    Raises:
        ValueError: The environment is not known.
    """
    source, spec = saved.config["source"], saved.config["spec"]
    recorded = source["environment"]
    played = environment or recorded
    if played is None:
        raise ValueError(
            "its dataset records no environment, so say which one was played: environment='...-v0'"
        )
    asks = "return" in spec["modalities"]
    return results_of(
        evaluation,
        played,
        options=options,
        tasks=tasks,
        target_return=(spec["target_return"] if target_return is None else target_return)
        if asks
        else None,
        deterministic=deterministic,
        reference_scores=source["reference_scores"] if played == recorded else None,
    )
