"""The bridge to Stable-Baselines3: its callbacks, progress bar and logger, used as they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import gymnasium as gym
from gymnasium import spaces
from torch import Tensor

from decision_policies.inputs import check_same_space
from decision_policies.learning import hyperparameters
from decision_policies.learning.holder import PolicyHolder
from decision_policies.spaces import LEAST, is_image, parts

if TYPE_CHECKING:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.vec_env import VecEnv

Callback: TypeAlias = (
    "BaseCallback | list[BaseCallback] | Callable[[dict[str, Any], dict[str, Any]], bool] | None"
)
"""What `learn(callback=)` takes: the same as in Stable-Baselines3."""


PolicyName: TypeAlias = Literal["auto", "MlpPolicy", "CnnPolicy", "MultiInputPolicy"]
"""What an algorithm of Stable-Baselines3 is told first; here, the space alone decides."""

ELSEWHERE = {
    "net_arch": "the width is d_model and the depth n_layers",
    "activation_fn": "each system has the activations of its paper",
    "optimizer_class": "the optimiser is AdamW",
    "optimizer_kwargs": "the optimiser is AdamW, with weight_decay=",
    "normalize_images": "images are always divided by 255",
}
"""Of Stable-Baselines3's policy_kwargs, those that have no hyper-parameter of their name."""


def check_policy_name(name: PolicyName, space: spaces.Space[Any]) -> None:
    """Check that one of Stable-Baselines3's policies is the one for an observation space.

    Raises:
        ValueError: It is another's.
    """
    fitting = "CnnPolicy" if is_image(space) else "MlpPolicy"
    fitting = fitting if parts(space) is None else "MultiInputPolicy"
    if name not in ("auto", fitting):
        needs = f" (images are uint8, of at least {LEAST} x {LEAST} pixels)"
        raise ValueError(
            f"{name!r} is not for observations of {space}{needs if name == 'CnnPolicy' else ''}: "
            f"take {fitting!r}, or leave it out, for the encoder follows from the space"
        )


def check_env(env: Any, observation_space: spaces.Space[Any], action_space: Any) -> None:
    """Compare the spaces of an environment, of one of several, with those of the data.

    Args:
        env: The environment, a vector of them, or the id of a registered one; None compares none.
        observation_space: Space of one observation.
        action_space: Space of one action.

    Raises:
        ValueError: They differ.
        TypeError: It is no environment.
        gymnasium.error.Error: There is no environment of this id, or it cannot be made.
    """
    if env is None:
        return
    if isinstance(env, str):
        with closing(gym.make(env)) as made:
            return check_env(made, observation_space, action_space)
    for role, space in (("observation", observation_space), ("action", action_space)):
        found = getattr(env, f"single_{role}_space", None) or getattr(env, f"{role}_space", None)
        if not isinstance(found, spaces.Space):
            raise TypeError(f"env must be an environment or an id, or left out, got {env!r}")
        check_same_space(found, space, role)


def spread_policy_kwargs(algorithm: Any) -> None:
    """Set the hyper-parameters that an algorithm was given as `policy_kwargs`.

    Raises:
        TypeError: They are no mapping.
        ValueError: One is no hyper-parameter; the message says what stands in its place.
    """
    given, algorithm.policy_kwargs = algorithm.policy_kwargs, None
    if not isinstance(given, Mapping | None):
        raise TypeError(f"policy_kwargs must be a mapping of hyper-parameters, got {given!r}")
    for name, value in (given or {}).items():
        if name in ELSEWHERE:
            raise ValueError(f"policy_kwargs cannot have {name!r} here: {ELSEWHERE[name]}")
        hyperparameters.check_names(type(algorithm), {name: value})
        setattr(algorithm, name, value)


class Surface(PolicyHolder):
    """What Stable-Baselines3's callbacks and logger expect of the object that they watch.

    Attributes:
        num_timesteps: Updates made so far.
    """

    if TYPE_CHECKING:  # hints of types that are imported when they are used, if at all
        num_timesteps: int
        _logger: Logger | None
        _training: object
        _saved_training: object

    _logger = None
    _custom_logger = False
    _log_started = 0.0
    _log_first = 0

    def start_log(self, verbose: int, folder: str | None, name: str, reset: bool) -> None:
        """Begin a log: to the terminal if verbose, to TensorBoard if there is a folder.

        A logger that was set by `set_logger` is kept.

        Raises:
            ImportError: There is a folder, and TensorBoard is not installed.
        """
        if not self._custom_logger:
            from stable_baselines3.common.utils import configure_logger

            try:
                self._logger = configure_logger(verbose, folder, name, reset)
            except ImportError as error:
                raise ImportError(
                    "tensorboard_log= needs TensorBoard: "
                    "pip install 'decision-policies[tensorboard]'"
                ) from error
        self._log_started, self._log_first = time.monotonic(), 0 if reset else self.num_timesteps

    @property
    def logger(self) -> Logger:
        """Stable-Baselines3's logger of the present or last training."""
        if self._logger is None:
            raise RuntimeError("there is no logger before the first learn; set one by set_logger")
        return self._logger

    def set_logger(self, logger: Logger) -> None:
        """Use a logger of your own, made by `stable_baselines3.common.logger.configure`."""
        self._logger = logger
        self._custom_logger = True

    def get_env(self) -> VecEnv:
        """Return a stand-in with one environment, which Stable-Baselines3's callbacks ask for."""
        spec = self._trained().spec
        return stub_env(spec.observation_space, spec.action_space)

    def get_parameters(self) -> dict[str, dict[str, Tensor]]:
        """Copy the weights and buffers of the model that acts, as `{"policy": {name: tensor}}`."""
        state = self._trained().model.state_dict()
        return {"policy": {name: value.clone() for name, value in state.items()}}

    def set_parameters(
        self, parameters: Mapping[str, Mapping[str, Tensor]], exact_match: bool = True
    ) -> None:
        """Put in weights and buffers of the form that `get_parameters` gives.

        What belongs to the weights before goes with them: the policy's session and the optimiser's
        state, so that a later `learn` trains on from the new ones.

        Args:
            parameters: `{"policy": {name: tensor}}`.
            exact_match: Every name must be given; False leaves those that are not as they are.

        Raises:
            TypeError: They are no mapping, such as a path. Nothing has changed then.
            ValueError: A name or a shape is not the model's. Nothing has changed then.
        """
        policy = self._trained()
        if not isinstance(parameters, Mapping):
            raise TypeError(
                'set_parameters takes {"policy": {name: tensor}}, got '
                f"{type(parameters).__name__}; those of a file are "
                f"{type(self).__name__}.load(path).get_parameters()"
            )
        known, given = policy.model.state_dict(), dict(parameters.get("policy", {}))
        odd = {"policy"} ^ set(parameters)
        if not odd:  # else the parts are wrong, and their names say nothing more
            odd = (known.keys() ^ given.keys()) if exact_match else (given.keys() - known.keys())
            odd |= {name for name in known.keys() & given if known[name].shape != given[name].shape}
        if odd:
            more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
            raise ValueError(
                "the parameters do not fit the model by name or shape: "
                f"{', '.join(sorted(odd)[:5])}{more}; "
                'give {"policy": {name: tensor}}, as get_parameters returns it'
            )
        policy.model.load_state_dict(given, strict=exact_match)
        policy.reset()
        self._training = self._saved_training = None

    def get_vec_normalize_env(self) -> None:
        """Return None: observations are standardised inside the model."""
        return

    def dump_logs(self) -> None:
        """Write a line of the training log."""
        elapsed = max(time.monotonic() - self._log_started, 1e-9)
        updates = self.num_timesteps - self._log_first
        self.logger.record("time/fps", int(updates / elapsed))
        self.logger.record("time/time_elapsed", int(elapsed), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)

    def record_update(self, losses: Mapping[str, Tensor], norm: Tensor, rate: float) -> None:
        """Note the figures of one update; they are averaged until the next line of the log."""
        for name, value in losses.items():
            self.logger.record_mean(f"train/{name}", float(value.detach()))
        self.logger.record_mean("train/grad_norm", float(norm))
        self.logger.record("train/learning_rate", rate)
        self.logger.record("train/n_updates", self.num_timesteps, exclude="tensorboard")


def make_callback(callback: Callback, algorithm: Any, progress_bar: bool) -> BaseCallback:
    """Turn what the user passed into one initialised callback.

    Args:
        callback: None, a callback, a list of them, or a function of (locals, globals).
        algorithm: The algorithm that the callback will see as its `model`.
        progress_bar: Add Stable-Baselines3's progress bar.

    Raises:
        ImportError: A progress bar is asked for, and tqdm or rich is not installed.
    """
    from stable_baselines3.common.callbacks import (
        BaseCallback,
        CallbackList,
        ConvertCallback,
        ProgressBarCallback,
    )

    if callback is None or isinstance(callback, (list, tuple)):
        each = [c if isinstance(c, BaseCallback) else ConvertCallback(c) for c in callback or ()]
        made: BaseCallback = CallbackList(each)
    elif isinstance(callback, BaseCallback):
        made = callback
    else:
        made = ConvertCallback(callback)
    if progress_bar:
        try:
            made = CallbackList([made, ProgressBarCallback()])
        except ImportError as error:
            raise ImportError(
                "progress_bar=True needs tqdm and rich: pip install 'decision-policies[progress]'"
            ) from error
    made.init_callback(algorithm)
    return made


def stub_env(observation_space: Any, action_space: Any) -> VecEnv:
    """Make the vector environment that callbacks ask an algorithm for.

    Offline algorithms have none, but callbacks read its number of environments; this one has one
    environment in name, which cannot be stepped.
    """
    from stable_baselines3.common.vec_env import DummyVecEnv

    class NoEnv(DummyVecEnv):
        """Stands where an on-line algorithm has its training environment."""

        def __init__(self) -> None:
            self.num_envs = 1
            self.envs = []
            self.observation_space = observation_space
            self.action_space = action_space
            self.render_mode = None
            self.metadata: dict[str, Any] = {}

    return NoEnv()
