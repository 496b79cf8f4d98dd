"""The tables in zoo/hyperparameters: hyper-parameters and plan of each system on each set."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from decision_policies.learning.hyperparameters import names

FOLDER = Path(__file__).parent / "hyperparameters"
PLANS = "datasets.yml"
"""The file of plans: what is the same for every system on a set, peers included."""

PEER_PREFIX = "d3rlpy."
"""Classes so named are trained by d3rlpy, in an interpreter of its own."""

MODES = ("window", "recurrent", "staggered")


@dataclass(frozen=True)
class Plan:
    """How a system is trained and evaluated on a set; nothing here is a hyper-parameter.

    Attributes:
        updates: Gradient updates of the training.
        evaluate_every: Updates between two checkpoints; the last one is evaluated in any case.
        targets: Returns to ask for; the first is the headline, the second a middle one.
        deterministic: Act by the likeliest action rather than sample.
        episodes: Episodes of an evaluation.
        modes: Ways to remember that are tried at the last checkpoint beside the system's own.
        environment: Keyword arguments for the environment beside those that the set names.
        frame_stack: Frames in an observation, for sets of single frames.
        image_shift: Pixels by which training moves images at random.
        clip_rewards: Train on the signs of the rewards, as is the custom with Atari games.
        game: Name of the Atari game to act in, as `envs.make_atari` takes it.
    """

    updates: int
    evaluate_every: int
    targets: tuple[float, ...]
    deterministic: bool = True
    episodes: int = 10
    modes: tuple[str, ...] = MODES
    environment: Mapping[str, Any] = field(default_factory=dict)
    frame_stack: int | None = None
    image_shift: int = 0
    clip_rewards: bool = False
    game: str | None = None

    def checkpoints(self) -> list[int]:
        """Updates after which the policy is saved and evaluated, in order."""
        return [*range(self.evaluate_every, self.updates, self.evaluate_every), self.updates]

    def to_json(self) -> dict[str, Any]:
        """Describes the plan in plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


@dataclass(frozen=True)
class Recipe:
    """One system on one set.

    Attributes:
        label: Name of the system in the results.
        class_name: Its class: a key of `decision_policies.algorithms.BY_NAME`, or a peer's.
        dataset: Minari id.
        hyperparameters: What the table says of the class's hyper-parameters.
        plan: How it is trained and evaluated.
    """

    label: str
    class_name: str
    dataset: str
    hyperparameters: Mapping[str, Any]
    plan: Plan

    @property
    def is_peer(self) -> bool:
        """Whether d3rlpy trains it."""
        return self.class_name.startswith(PEER_PREFIX)


@dataclass(frozen=True)
class Tables:
    """All tables of a folder.

    Attributes:
        plans: Blocks of the file of plans, by dataset, with `default`.
        systems: Blocks of each system's file, by label.
        classes: Class of each label.
        left_out: Datasets that a system is not for, by label: those with `false` for a block.
    """

    plans: Mapping[str, Mapping[str, Any]]
    systems: Mapping[str, Mapping[str, Mapping[str, Any]]]
    classes: Mapping[str, str]
    left_out: Mapping[str, list[str]]

    @classmethod
    def read(cls, folder: Path = FOLDER) -> Tables:
        """Reads a folder of tables.

        Raises:
            ValueError: A file is not of the form that zoo/hyperparameters/README.md describes.
        """
        systems, classes, left_out = {}, {}, {}
        for path in sorted(folder.glob("*.yml")):
            if path.name == PLANS:
                continue
            content = _mapping(path, yaml.safe_load(path.read_text()))
            if not isinstance(content.get("class"), str):
                raise ValueError(f"{path} names no class: it needs a line such as 'class: DeMa'")
            label = str(content.pop("label", content["class"]))
            classes[label] = content.pop("class")
            left_out[label] = [name for name, block in content.items() if block is False]
            content = {name: block for name, block in content.items() if block is not False}
            systems[label] = _blocks(path, content)
        plans = folder / PLANS
        content = yaml.safe_load(plans.read_text()) if plans.exists() else {}
        return cls(_blocks(plans, _mapping(plans, content)), systems, classes, left_out)

    @property
    def labels(self) -> list[str]:
        """Labels whose class there is; peers last."""
        there = [x for x in self.systems if self.classes[x] in _algorithms()]
        return there + [x for x in self.systems if self.classes[x].startswith(PEER_PREFIX)]

    @property
    def datasets(self) -> list[str]:
        """Datasets that have a plan."""
        return [name for name in self.plans if name != "default"]

    def check_label(self, label: str) -> None:
        """Raises a ValueError for a label that cannot be run."""
        if label not in self.systems:
            raise ValueError(f"no table has the label {label!r}{_close(label, self.systems)}")
        name = self.classes[label]
        if not name.startswith(PEER_PREFIX) and name not in _algorithms():
            raise ValueError(
                f"{label} is of class {name}, which decision_policies does not have (yet); it has "
                f"{', '.join(_algorithms())}"
            )

    def leaves_out(self, label: str, dataset: str) -> bool:
        """Whether a system is not for a set."""
        return dataset in self.left_out.get(label, ())

    def recipe(self, label: str, dataset: str, **changes: Any) -> Recipe:
        """Puts together what the tables say of a system on a set.

        Args:
            label: A label.
            dataset: A Minari id.
            changes: Keys of the plan that replace what the tables say.

        Raises:
            ValueError: Unknown label, class or dataset; an unknown key (names close ones); a value
                of a wrong type or out of range.
            TypeError: A hyper-parameter has a wrong type.
        """
        self.check_label(label)
        blocks = self.systems[label]
        known = [*self.datasets, *(x for x in blocks if x != "default" and x not in self.plans)]
        if dataset not in known:
            raise ValueError(
                f"{dataset!r} is in no table{_close(dataset, known)}; known are {', '.join(known)}"
            )
        where = f"the table of {label}, {dataset}"
        own = {**blocks.get("default", {}), **blocks.get(dataset, {})}
        values = {**self.plans.get("default", {}), **self.plans.get(dataset, {})}
        of_plan = [f.name for f in dataclasses.fields(Plan)]
        hyper = {k: v for k, v in own.items() if k not in of_plan}
        _check_keys(f"the plan of {dataset}", values, of_plan)
        values |= {k: v for k, v in own.items() if k in of_plan}
        values |= changes
        name = self.classes[label]
        if not name.startswith(PEER_PREFIX):
            kind = _algorithms()[name]
            _check_keys(where, hyper, names(kind), of_plan)
            _construct(kind, where, hyper)
        return Recipe(label, name, dataset, hyper, _plan(where, values))


def read_table(path: Path, dataset: str) -> tuple[str, dict[str, Any]]:
    """Reads what one table says of a dataset.

    Args:
        path: A file of the form of those in zoo/hyperparameters.
        dataset: Minari id.

    Returns:
        The class, and its hyper-parameters.

    Raises:
        ValueError: It is of another form, or says nothing of the dataset.
    """
    try:
        content = _mapping(path, yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    name = content.pop("class", None)
    content.pop("label", None)
    blocks = _blocks(path, {k: v for k, v in content.items() if v is not False})
    if not isinstance(name, str) or not blocks.keys() & {"default", dataset}:
        raise ValueError(f"{path} names no class, or has no block for {dataset}")
    return name, {**blocks.get("default", {}), **blocks.get(dataset, {})}


def _algorithms() -> Mapping[str, Any]:
    from decision_policies.algorithms import BY_NAME

    return BY_NAME


def _construct(kind: Any, where: str, hyper: Mapping[str, Any]) -> None:
    """Lets the class check its hyper-parameters; nothing is composed yet."""
    try:
        kind(**hyper)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from error


def _plan(where: str, values: Mapping[str, Any]) -> Plan:
    missing = [key for key in ("updates", "evaluate_every", "targets") if key not in values]
    if missing:
        raise ValueError(f"{where}: no {' and no '.join(missing)} is given")
    for key in ("updates", "evaluate_every", "episodes", "frame_stack"):
        value = values.get(key, 1)
        if (type(value) is not int or value < 1) and not (key == "frame_stack" and value is None):
            raise ValueError(f"{where}: {key} must be a whole number of at least 1, got {value!r}")
    pixels = values.get("image_shift", 0)
    if type(pixels) is not int or pixels < 0:
        raise ValueError(f"{where}: image_shift must be a number of pixels, got {pixels!r}")
    targets = values["targets"]
    numbers = isinstance(targets, (list, tuple)) and all(type(x) in (int, float) for x in targets)
    if not numbers or not targets:
        raise ValueError(f"{where}: targets must be a list of numbers, got {targets!r}")
    for key in ("deterministic", "clip_rewards"):
        if type(values.get(key, True)) is not bool:
            raise ValueError(f"{where}: {key} must be true or false, got {values[key]!r}")
    odd = [mode for mode in values.get("modes", ()) if mode not in MODES]
    if odd:
        raise ValueError(f"{where}: modes must be among {', '.join(MODES)}; got {odd[0]!r}")
    lists = {k: tuple(values[k]) for k in ("targets", "modes") if k in values}
    return Plan(**{**values, **lists})


def _mapping(path: Path, content: object) -> dict[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f"{path} is no table: expected names and values, got {content!r}")
    return content


def _blocks(path: Path, content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    for name, block in content.items():
        if not isinstance(block, (dict, type(None))):
            raise ValueError(
                f"{path}: {name!r} must be `default` or a dataset, with a block of keys below it "
                f"or `false`; got {block!r}"
            )
    return {name: dict(block or {}) for name, block in content.items()}


def _check_keys(where: str, given: Iterable[str], *known: list[str]) -> None:
    everything = [name for names in known for name in names]
    for key in given:
        if key not in everything:
            hint = _close(key, everything) or f"; known are {', '.join(everything)}"
            raise ValueError(f"{where}: unknown key {key!r}{hint}")


def _close(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
