"""The model card, README.md with YAML in front, and results.json: what a policy is and can do."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from decision_policies.checkpoint import WEIGHTS, Checkpoint
from decision_policies.hub.usage import usage
from decision_policies.version import __version__

LIBRARY = "decision-policies"
MACHINE = ("device", "verbose", "tensorboard_log")
"""Hyper-parameters that are matters of the machine that trained, and say nothing of the policy."""
PINNED = "Add `revision=` and a commit to `load` to go on using exactly these weights."
MINARI_ID = re.compile(r"[\w-]+(/[\w-]+)*-v\d+")


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a policy earned at one moment of its training.

    Attributes:
        name: Which one it is: "last" or "best".
        updates: Gradient updates made until then.
        mean: Mean return of the episodes played.
        std: Their standard deviation.
        episodes: How many they were.
    """

    name: str
    updates: int
    mean: float
    std: float
    episodes: int


class Evaluated(Protocol):
    """Measured episodes, as `evaluate_policy` returns them, in the order of their seeds."""

    @property
    def returns(self) -> NDArray[np.float64]:
        """Undiscounted return of each episode, (n,)."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each episode, (n,)."""

    @property
    def seeds(self) -> NDArray[np.int64]:
        """Seed of each episode, (n,)."""


def results_of(
    evaluation: Evaluated,
    environment: str,
    *,
    options: Mapping[str, Any] | None = None,
    tasks: Sequence[int] = (),
    target_return: float | None = None,
    deterministic: bool = True,
    reference_scores: tuple[float, float] | None = None,
    when: datetime | None = None,
) -> dict[str, Any]:
    """Write an evaluation as results.json holds it.

    Args:
        evaluation: The episodes.
        environment: Id of the environment that they were played in.
        options: What it was made with beside its id, such as `{"size": 9}`.
        tasks: The task of each episode, where the environment has several.
        target_return: The return that was asked for; None where the policy asks for none.
        deterministic: Whether the likeliest actions were taken.
        reference_scores: Returns that count as 0 and 100, which add a normalised score.
        when: When they were played; None is now.

    Returns:
        The names that Stable-Baselines3's Hub tools write (mean_reward, std_reward, ...), and every
        return, length and seed; no lengths where they are all 0, which says that nobody counted.
    """
    returns = np.asarray(evaluation.returns, np.float64)
    results: dict[str, Any] = {
        "mean_reward": float(returns.mean()),
        "std_reward": float(returns.std()),
        "is_deterministic": deterministic,
        "n_eval_episodes": len(returns),
        "eval_datetime": (when or datetime.now(UTC)).isoformat(timespec="seconds"),
        "environment": environment,
        "target_return": target_return,
    }
    if options:
        results["environment_options"] = dict(options)
    if len(tasks):
        results["tasks"] = list(tasks)
    if reference_scores is not None:
        low, high = reference_scores
        results["reference_scores"] = [low, high]
        results["normalized_score"] = 100 * (results["mean_reward"] - low) / (high - low)
    for name in ("returns", "lengths", "seeds"):
        values = np.asarray(getattr(evaluation, name))
        if name != "lengths" or values.any():
            results[name] = values.tolist()
    return results


def model_card(
    saved: Checkpoint,
    repo_id: str,
    system: type[Any],
    *,
    results: Mapping[str, Any] | None = None,
    stages: Sequence[Stage] = (),
    command: str | None = None,
    note: str | None = None,
    video: bool = False,
) -> str:
    """Write the card of a checkpoint.

    Args:
        saved: The checkpoint.
        repo_id: Where it will be, `owner/name`; the usage code loads it from there.
        system: The class that saved it.
        results: What `results_of` returned; None says that nothing was measured.
        stages: The last and the best policy of its training, evaluated.
        command: The command line that trained it, or several.
        note: What else to say of the results.
        video: Whether a replay.mp4 goes with it.

    Returns:
        The text of README.md.
    """
    import yaml

    recorded = saved.config["source"]["environment"]
    environment = _plain((results or {}).get("environment") or recorded or "") or None
    front = _metadata(saved.config, system, environment, results)
    code = usage(saved.config, repo_id, system, environment, results)
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {system.__name__}" + (f" on {environment}" if environment else ""),
        *_introduction(system),
        f"## Use\n\n{_fenced('python', code)}\n\n{PINNED}",
        f"## Results\n\n{_results(saved.config, results, stages)}",
        *([note] if note else []),
        *(["`replay.mp4` shows it."] if video else []),
        f"## Training\n\n{_training(saved.config, system, command)}",
        f"## Safety\n\n{_safety(saved)}",
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(
    config: Mapping[str, Any],
    system: type[Any],
    environment: str | None,
    results: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Front matter as the Hub's widget and rl_zoo3's reader expect it.

    The latter takes the environment from `dataset.name` of the first result, and the algorithm
    from `name`.
    """
    dataset = config["source"]["dataset"]
    named = MINARI_ID.fullmatch(dataset or "") is not None
    front: dict[str, Any] = {
        "library_name": LIBRARY,
        "pipeline_tag": "reinforcement-learning",
        "tags": [
            *([environment] if environment else []),
            "reinforcement-learning",
            "offline-reinforcement-learning",
            system.__name__.lower(),
            LIBRARY,
            *(["minari"] if named else []),
        ],
    }
    if named:
        front["datasets"] = [dataset]
    if results is None:
        return front
    metrics = [_metric("mean_reward", _value(results))]
    if "normalized_score" in results:
        metrics.append(_metric("normalized_score", round(results["normalized_score"], 1)))
    result = {
        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
        "dataset": {"name": environment, "type": environment},
        "metrics": metrics,
    }
    front["model-index"] = [{"name": system.__name__, "results": [result]}]
    return front


def _metric(name: str, value: str | float) -> dict[str, Any]:
    return {"type": name, "value": value, "name": name, "verified": False}


def _value(results: Mapping[str, Any]) -> str:
    return f"{results['mean_reward']:.2f} +/- {results['std_reward']:.2f}"


def _introduction(system: type[Any]) -> list[str]:
    """The class's own words on what it is, and what reads it."""
    words = (inspect.getdoc(system) or "").splitlines()[:1]
    own = [word for word in words if not word.startswith(f"{system.__name__}(")]  # a dataclass's
    return [
        *own,
        "A policy with memory, learnt offline from logged data, for the Python package "
        f"`decision_policies` (written by version {__version__}).",
    ]


def _results(
    config: Mapping[str, Any],
    results: Mapping[str, Any] | None,
    stages: Sequence[Stage],
) -> str:
    paragraphs = []
    if results is None:
        paragraphs.append("Nothing was measured when this card was written.")
    else:
        low, middle, high = np.quantile(results["returns"], [0, 0.5, 1])
        asked = results["target_return"]
        rows = {
            "mean return": f"{_value(results)} (standard deviation over episodes)",
            "lowest, median, highest": f"{low:.2f}, {middle:.2f}, {high:.2f}",
            "episodes": f"{results['n_eval_episodes']}, with the seeds {_seeds(results['seeds'])}",
            "actions": "the likeliest" if results["is_deterministic"] else "sampled",
            "return asked for": "none" if asked is None else f"{asked:g}",
        }
        if "normalized_score" in results:
            zero, hundred = results["reference_scores"]
            score = results["normalized_score"]
            rows["normalised score"] = f"{score:.1f} (0 is {zero:g}, 100 is {hundred:g})"
        lines = [f"| {name} | {value} |" for name, value in rows.items()]
        paragraphs.append(
            "\n".join([f"| {_plain(results['environment'])} | |", "|---|---|", *lines])
        )
    paragraphs += [
        f"The {stage.name} policy of the training, after {stage.updates} updates, earned "
        f"{stage.mean:.2f} +/- {stage.std:.2f} in {stage.episodes} episodes."
        for stage in stages
    ]
    if stages:
        paragraphs.append(f"The weights here are those after {config['num_timesteps']} updates.")
    return "\n\n".join(paragraphs)


def _seeds(seeds: Sequence[int]) -> str:
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))) and len(seeds) > 2:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _training(config: Mapping[str, Any], system: type[Any], command: str | None) -> str:
    values = {k: v for k, v in config["hyperparameters"].items() if k not in MACHINE}
    source, name = config["source"], system.__name__
    data = f"`{_plain(source['dataset'])}`" if source["dataset"] else "a set without a published id"
    digest = f" (SHA-256 `{_plain(source['digest'])}`)" if source["digest"] else ""
    seed = "a seed drawn at random" if values.get("seed") is None else f"the seed {values['seed']}"
    defaults = {field.name: field.default for field in dataclasses.fields(system)}
    changed = {k: v for k, v in values.items() if k not in defaults or v != defaults[k]}
    call = f"{name}({', '.join(f'{key}={value!r}' for key, value in changed.items())})"
    code = f"""\
algorithm = {call}
algorithm.learn({json.dumps(source["dataset"])}, {config["num_timesteps"]})"""
    paragraphs = [
        f"Learnt from {data}{digest} in {config['num_timesteps']} updates, with {seed}. It knows "
        "these data only: elsewhere, and at returns that they do not show, it may do anything."
    ]
    if command is not None:
        said = "commands were" if "\n" in command else "command was"
        paragraphs.append(f"The {said}\n\n{_fenced('', command)}")
    elif MINARI_ID.fullmatch(source["dataset"] or ""):
        paragraphs.append(f"In Python:\n\n{_fenced('python', code)}")
    paragraphs.append(f"Hyper-parameters:\n\n{_fenced('json', json.dumps(values, indent=2))}")
    return "\n\n".join(paragraphs)


def _safety(saved: Checkpoint) -> str:
    return (
        "The files hold JSON and tensors (safetensors), and no pickle: loading them runs no code. "
        "`manifest.json` lists size and SHA-256 of each, and what differs is refused. That finds "
        "damage, not an author's malice; whoever needs these very weights pins the commit, or "
        f"compares SHA-256 of `{WEIGHTS}`:\n\n{_fenced('', saved.files[WEIGHTS][1])}"
    )


def _fenced(language: str, code: str) -> str:
    return f"```{language}\n{code}\n```"


def _plain(text: str) -> str:
    """Keep a name from breaking the line, the table cell or the code span it stands in."""
    return re.sub(r"[`|<>\s]+", " ", text).strip()
