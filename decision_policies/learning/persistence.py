"""From an algorithm to a checkpoint and back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from decision_policies import atomic, checkpoint, tree
from decision_policies.data.trajectories import Source, Trajectories
from decision_policies.errors import CheckpointError
from decision_policies.learning import hyperparameters
from decision_policies.learning.optimisation import Schedule
from decision_policies.learning.training import Training
from decision_policies.models.model import SequenceModel
from decision_policies.policy import SequencePolicy
from decision_policies.spec import SequenceSpec

ENTRIES = {
    "format_version",
    "library_version",
    "algorithm",
    "hyperparameters",
    "spec",
    "source",
    "num_timesteps",
}

DAMAGED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What forged numbers, names and shapes may raise where they are put to use."""


@dataclass(frozen=True)
class SavedTraining:
    """Training state read from a checkpoint, until `learn` has the data it belongs to.

    Attributes:
        tensors: Optimiser moments, random stream, carried hidden state.
        values: Position of the sampler, and the digest of its data.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]

    def restore(self, training: Training, data: Trajectories) -> None:
        """Put a new training where the saved one was; other data begin a new pass over them.

        Raises:
            CheckpointError: The state belongs to a model of other shapes, or is not finite.
        """
        if self.values["data"] == data.source.digest:
            self._check_fit(training)
            try:
                training.load_state_dict(self.tensors, self.values)
            except DAMAGED as error:
                raise CheckpointError(f"the training state is damaged: {error!r}") from error
        else:
            warnings.warn(
                "the checkpoint was trained on other data, so its optimiser and sampler start anew",
                UserWarning,
                stacklevel=4,
            )

    def _check_fit(self, training: Training) -> None:
        """Compare with the model's shapes, which torch's optimisers do not."""
        parameters = [p for group in training.optimizer.param_groups for p in group["params"]]
        carried = tree.leaves(training.model.initial_state(training.sampler.batch_size))
        wanted = {f"carried.{i}": leaf.shape for i, leaf in enumerate(carried)}
        wanted |= {f"trained.{i}": p.shape for i, p in enumerate(training.trained())}
        for index, parameter in enumerate(parameters):
            wanted[f"optimizer.{index}.step"] = torch.Size([])
            for moment in ("exp_avg", "exp_avg_sq"):
                wanted[f"optimizer.{index}.{moment}"] = parameter.shape
        if any(name.startswith("trained.") and name not in self.tensors for name in wanted):
            raise CheckpointError(
                "the checkpoint was saved without ema_decay, so there are no trained weights "
                "beside those that act: set ema_decay to None, or load again and save with "
                "training_state=False to begin with a new optimiser"
            )
        for name, tensor in self.tensors.items():
            if name != "random" and (wanted.get(name) != tensor.shape or not _sound(name, tensor)):
                raise CheckpointError(
                    "the training state does not fit the model, is not finite, or negative where "
                    f"it must not be: {name} is "
                    f"{list(tensor.shape)}, expected {list(wanted.get(name, []))}; load again and "
                    "save with training_state=False to begin with a new optimiser"
                )


def _sound(name: str, tensor: Tensor) -> bool:
    """Whether a tensor of the training state is finite, and no count or square negative."""
    signed = not name.startswith("optimizer.") or name.endswith(".exp_avg")
    return bool(tensor.isfinite().all()) and (signed or bool((tensor >= 0).all()))


class Learner(Protocol):
    """What is saved and loaded of an algorithm; see `SequenceAlgorithm`."""

    policy: SequencePolicy | None
    source: Source
    num_timesteps: int
    seed: int | None
    _training: Training | None
    _saved_training: SavedTraining | None

    def hyperparameters(self) -> Mapping[str, Any]:
        """List the hyper-parameters and their values."""

    def compose(self, spec: SequenceSpec) -> SequenceModel:
        """Build the network for a spec."""

    def torch_device(self) -> torch.device:
        """Device to put the weights on."""


A = TypeVar("A", bound=Learner)


def save(algorithm: Learner, path: str | PathLike[str], *, training_state: bool) -> None:
    """Write an algorithm to a folder or zip; see `Stored.save`."""
    policy = algorithm.policy
    assert policy is not None, "the caller has checked it"
    values = dict(algorithm.hyperparameters())
    if callable(values["learning_rate"]):
        values["learning_rate"] = _largest_rate(values["learning_rate"])
        warnings.warn(
            "a learning-rate function cannot be saved; its largest value is kept instead "
            "('lin_<rate>' and 'cos_<rate>' can be saved)",
            UserWarning,
            stacklevel=3,
        )
    if values["features_extractor_class"] is not None:
        values["features_extractor_class"] = values["features_extractor_class"].__qualname__
    _check_unchanged(algorithm, policy)
    config = {
        "algorithm": type(algorithm).__name__,
        "hyperparameters": values,
        "spec": policy.spec.to_json(),
        "source": asdict(algorithm.source),
        "num_timesteps": algorithm.num_timesteps,
    }
    training = None
    if training_state and algorithm._training is not None:
        tensors, state = algorithm._training.state_dict()
        digest = algorithm._training.sampler.trajectories.source.digest
        training = (tensors, {**state, "data": digest})
    elif training_state and algorithm._saved_training is not None:  # loaded, and not trained since
        training = (algorithm._saved_training.tensors, algorithm._saved_training.values)
    checkpoint.write(path, config, _weights(policy.model), training)


def _weights(model: SequenceModel) -> dict[str, Tensor]:
    """Name each tensor of a model once, though several layers may share a module."""
    named = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    return {name: tensor for name, tensor in model.state_dict().items() if name in named}


def _largest_rate(schedule: Schedule) -> float:
    return max(float(schedule(remaining / 100)) for remaining in range(101))


def _check_unchanged(algorithm: Learner, policy: SequencePolicy) -> None:
    """Refuse to write what could not be read back: hyper-parameters that do not fit the weights."""
    hyperparameters.check(algorithm)
    with torch.device("meta"):
        expected = _weights(algorithm.compose(policy.spec))
    shapes = {name: tensor.shape for name, tensor in _weights(policy.model).items()}
    if shapes != {name: tensor.shape for name, tensor in expected.items()}:
        raise CheckpointError(
            "the hyper-parameters were changed after the policy was made, so its weights no longer "
            "fit them: set them back, or learn anew with a new algorithm"
        )


def load(cls: type[A], path: Path, device: str, name: str, extractor: type | None = None) -> A:
    """Read an algorithm from a folder or zip that was asked for by a name; see `Stored.load`."""
    return atomic.steadily(path, lambda: _load(cls, path, device, name, extractor))


def _load(cls: type[A], path: Path, device: str, name: str, extractor: type | None) -> A:
    saved = checkpoint.open_checkpoint(path)
    config = saved.config
    if set(config) != ENTRIES:
        odd = sorted(set(config) ^ ENTRIES)
        raise CheckpointError(f"{saved.folder}: config entries missing or unexpected: {odd}")
    if config["algorithm"] != cls.__name__:
        raise CheckpointError(
            f"{name!r} holds a {config['algorithm']!r} policy, not a {cls.__name__}; use "
            f"{config['algorithm']}.load(...) or decision_policies.load(...)"
        )
    values = _with_extractor(saved.folder, config["hyperparameters"], extractor)
    algorithm = _construct(cls, saved.folder, values, device)
    spec = SequenceSpec.from_json(config["spec"])
    with torch.device("meta"):
        expected = _weights(algorithm.compose(spec))
    weights = saved.weights(expected)
    with torch.random.fork_rng([]):
        model = algorithm.compose(spec)
    model.load_state_dict(weights, strict=False)  # what `weights` has checked; shared names once
    model.to(algorithm.torch_device()).eval()
    algorithm.policy = SequencePolicy(model, seed=algorithm.seed)
    algorithm.source = _source(saved.folder, config["source"])
    steps = config["num_timesteps"]
    if type(steps) is not int or steps < 0:
        raise CheckpointError(f"{saved.folder}: num_timesteps is {steps!r}, not a count")
    algorithm.num_timesteps = steps
    training = saved.training()
    if training is not None:
        _check_training(saved.folder, *training)
        algorithm._saved_training = SavedTraining(*training)
    return algorithm


def _with_extractor(folder: Path, values: object, extractor: type | None) -> dict[str, Any]:
    """Put the class that the user names in the place of the name that the checkpoint holds."""
    if not isinstance(values, dict):
        raise CheckpointError(f"{folder}: hyperparameters are no JSON object")
    saved = values.get("features_extractor_class")
    if saved != (None if extractor is None else extractor.__qualname__):
        given = "none was given" if extractor is None else f"{extractor.__qualname__} was given"
        raise CheckpointError(
            f"{folder} was saved with the features extractor {saved!r}, and {given}. It is code, "
            "never looked up by a name in a checkpoint: pass the class itself, "
            "load(..., features_extractor_class=...), or leave it out where there is none"
        )
    return {**values, "features_extractor_class": extractor}


def _construct(cls: type[A], folder: Path, values: dict[str, Any], device: str) -> A:
    try:
        hyperparameters.check_names(cls, values)
        construct: Callable[..., A] = cls
        # Where to compute and where to log are matters of this machine, not of the one that saved.
        return construct(**{**values, "device": device, "tensorboard_log": None})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: {error}") from error


def _source(folder: Path, data: object) -> Source:
    if not isinstance(data, dict) or set(data) != set(asdict(Source())):
        raise CheckpointError(f"{folder}: source entries missing or unexpected")
    for name in ("dataset", "digest", "environment"):
        if not isinstance(data[name], str) and (data[name] is not None or name == "digest"):
            raise CheckpointError(f"{folder}: source.{name} is {data[name]!r}, not a string")
    scores = data["reference_scores"]
    if scores is None:
        return Source(**data)
    numbers = isinstance(scores, list) and all(type(x) in (int, float) for x in scores)
    if not numbers or len(scores) != 2:
        raise CheckpointError(f"{folder}: source.reference_scores are {scores!r}, not two numbers")
    return Source(**{**data, "reference_scores": tuple(scores)})


def _check_training(folder: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    if "random" not in tensors or set(values) != {"sampler", "data"}:
        raise CheckpointError(f"{folder}: the training state has missing or unexpected entries")
