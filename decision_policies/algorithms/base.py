"""SequenceAlgorithm: hyper-parameters and the training loop; systems add `build_model`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from gymnasium import spaces

from decision_policies.data.histories import Histories
from decision_policies.data.reading import Dataset, as_histories, as_trajectories, make_sampler
from decision_policies.data.trajectories import Source, Trajectories
from decision_policies.data.windows import Sampler
from decision_policies.learning import hyperparameters, persistence, processes, sb3
from decision_policies.learning.hyperparameters import MANNER, setting
from decision_policies.learning.interrupt import deferred_interrupt, warn_interrupted
from decision_policies.learning.optimisation import Schedule, make_schedule
from decision_policies.learning.statistics import set_statistics
from decision_policies.learning.stored import Stored
from decision_policies.learning.training import Precision, Training
from decision_policies.models.model import SequenceModel
from decision_policies.policy import SequencePolicy
from decision_policies.returns import ReturnStatistics, asked_for, check_word, largest
from decision_policies.spec import Inference, Modality, ReturnMode, SequenceSpec


@dataclass(kw_only=True, eq=False)
class SequenceAlgorithm(Stored, ABC):
    """A system that learns a policy with memory from logged data.

    A system of your own is a subclass with its hyper-parameters as fields and a `build_model`;
    learning, saving, loading and acting are inherited.

    Attributes:
        policy_class: "MlpPolicy", "CnnPolicy" or "MultiInputPolicy", the first positional argument
            as in Stable-Baselines3: checked against the observation space, from which the encoder
            follows; "auto" leaves it at that.
        env: The second one: an environment or its id, whose spaces are compared with the data's. It
            is not played: policies are learnt from data.
        context_length: Environment steps K in a training window.
        batch_size: Windows in an update.
        learning_rate: A number, "lin_1e-3" (falls to 0), "cos_1e-3" (falls to a tenth), or a
            function of the remaining progress, which falls from 1 to 0.
        weight_decay: AdamW's weight decay, on matrices only.
        warmup_steps: Updates over which the learning rate rises to its value in a straight line.
        max_grad_norm: The gradient is scaled down to this norm.
        gradient_accumulation_steps: Parts that a batch is run in, one after the other, to spare
            memory; the gradient is the whole batch's.
        precision: Number type of the matrix products in training: "float32", or "bfloat16", which
            is faster where the processor has it; weights and states stay float32.
        torch_compile: Train a model compiled by torch; see docs/recipe.md for where it pays.
        ema_decay: Act with a moving average of the trained weights: what remains of it at an
            update, such as 0.998. None: act with the trained weights themselves.
        return_scale: Returns-to-go are divided by this; None is a fifth of the largest absolute
            return-to-go of the data: divided by the largest itself, a model can hardly tell returns
            apart. Systems that remember episodes see rewards, divided by the largest absolute one.
        balance_returns: Draw good and poor episodes equally often; see `BalancedSampler`.
        return_mode: What each step asks for: "decrement", the return still to go, which rewards
            lower; "constant", the whole episode's return: no reward is then needed to act;
            "predict", the return still to go, lowered by rewards that are predicted in acting.
        reward_coef: With `return_mode="predict"`, the weight of the predicted rewards' error, in
            deviations of the data's rewards; what it is when the policy is made counts.
        target_return: The return the policy asks for by default: a number, or by the returns of the
            data "max", "p90" (any percentile) or "mean_top10" (any percentage); None is "max".
        inference: How the policy remembers: "window" re-encodes the last K steps, "recurrent"
            carries a state, "staggered" carries two that restart in turn; None is the system's own.
        remove_act_embs: Leave the actions out of what the model sees (the published name). A model
            that sees its past actions learns to repeat them.
        seed: Seeds weights, batches and dropout; None draws one. Global generators are untouched.
        device: "cpu", "cuda", ..., or "auto": a GPU if there is one.
        features_extractor_class: Encodes observations in the place of the encoder that follows from
            the space: one of Stable-Baselines3's, or a subclass of its `BaseFeaturesExtractor`; see
            `ExtractorEncoder`. Checkpoints hold its weights and its name: name it again at `load`.
        features_extractor_kwargs: Its arguments besides the space, in JSON-able values.
        policy_kwargs: Hyper-parameters in a mapping, as in Stable-Baselines3; they go before those
            that are given by themselves, and this is None afterwards.
        verbose: 1 prints the training log.
        tensorboard_log: Folder for TensorBoard's logs.
        policy: The policy; None before the first `learn`.
        num_timesteps: Updates made so far. One gradient update counts as one timestep, so that
            Stable-Baselines3's callbacks and loggers have their axis.
    """

    policy_class: sb3.PolicyName = field(default="auto", kw_only=False, repr=False, metadata=MANNER)
    env: object = field(default=None, kw_only=False, repr=False, metadata=MANNER)
    context_length: int = setting(20, 1, 16384)
    batch_size: int = setting(64, 1, 65536)
    learning_rate: float | str | Schedule = 1e-4
    weight_decay: float = setting(1e-4, 0.0, 10.0)
    warmup_steps: int = setting(1000, 0)
    max_grad_norm: float = setting(0.25, 1e-9)
    gradient_accumulation_steps: int = setting(1, 1, 65536)
    precision: Precision = "float32"
    torch_compile: bool = False
    ema_decay: float | None = setting(None, 0.0, 0.999999)
    return_scale: float | None = setting(None, 1e-12)
    balance_returns: bool = False
    return_mode: ReturnMode = "decrement"
    reward_coef: float = setting(1.0, 1e-9)
    target_return: float | str | None = None
    inference: Inference | None = None
    remove_act_embs: bool = False
    seed: int | None = setting(None, 0, 2**63 - 1)
    device: str = "auto"
    features_extractor_class: type | None = None
    features_extractor_kwargs: dict[str, Any] | None = None
    policy_kwargs: dict[str, Any] | None = field(default=None, repr=False, metadata=MANNER)
    verbose: int = setting(0, 0, 2)
    tensorboard_log: str | None = None

    policy: SequencePolicy | None = field(default=None, init=False, repr=False)
    num_timesteps: int = field(default=0, init=False, repr=False)
    source: Source = field(default_factory=Source, init=False, repr=False)
    _training: Training | None = field(default=None, init=False, repr=False)
    _saved_training: persistence.SavedTraining | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the hyper-parameters.

        Raises:
            TypeError: One has a wrong type.
            ValueError: One is out of range.
            RuntimeError: torch knows no such device.
        """
        sb3.spread_policy_kwargs(self)
        hyperparameters.check(self)
        if self.balance_returns and (self.carries_state or self.remembers_episodes):
            raise ValueError("balance_returns draws windows, this system whole episodes: leave it")
        make_schedule(self.learning_rate)
        if isinstance(self.target_return, str):
            check_word(self.target_return)
        self.torch_device()

    @abstractmethod
    def build_model(self, spec: SequenceSpec) -> SequenceModel:
        """Compose the network for a spec, with fresh weights."""

    @property
    def carries_state(self) -> bool:
        """Whether training carries the hidden state along each trajectory (RNN-like)."""
        return False

    @property
    def remembers_episodes(self) -> bool:
        """Whether memory goes on over the end of an episode (in-context learning)."""
        return False

    def default_inference(self) -> Inference:
        """Choose how the policy remembers where the hyper-parameter `inference` is None."""
        return "recurrent" if self.remembers_episodes else "window"

    def select(self, data: Trajectories) -> Trajectories:
        """Choose what to learn from; the system's own choice is everything."""
        return data

    def learn(
        self,
        dataset: Dataset,
        total_timesteps: int = 100_000,
        callback: sb3.Callback = None,
        log_interval: int = 100,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train on logged data; called again, it goes on. Ctrl-C ends it and keeps what was learnt.

        Args:
            dataset: Trajectories, histories, a Minari dataset, its id, or its folder's path.
            total_timesteps: Gradient updates to make.
            callback: Stable-Baselines3 callback, a list of them, or a function of
                (locals, globals) that returns False to stop.
            log_interval: Updates between two lines of the log.
            tb_log_name: Name of the run in TensorBoard; None is the class's name.
            reset_num_timesteps: Count updates from 0 again; False, after `load` too, resumes an
                interrupted training as if it had not been interrupted.
            progress_bar: Show a progress bar (needs tqdm and rich).

        Returns:
            The algorithm.

        Raises:
            DatasetError: The data cannot be learnt from.
            ValueError: A number of updates is negative or not whole.
            TrainingDivergedError: The loss is no longer finite; the weights are the last good ones.
        """
        hyperparameters.check(self)
        hyperparameters.check_updates(total_timesteps, log_interval)
        processes.join(on_cpu=self.torch_device().type == "cpu")
        processes.check(self.batch_size, self.seed, self.carries_state)
        training = self._prepare(dataset)
        model, schedule = training.model, make_schedule(self.learning_rate)
        run = tb_log_name or type(self).__name__
        told = processes.rank() == 0  # one of several processes tells of all
        folder = self.tensorboard_log if told else None
        self.start_log(self.verbose if told else 0, folder, run, reset_num_timesteps)
        hooks = sb3.make_callback(callback, self, progress_bar and told)
        if reset_num_timesteps:  # what a missing extra could stop has gone well
            self.num_timesteps = 0
        total_timesteps = int(total_timesteps) + self.num_timesteps
        with training.random_stream(), deferred_interrupt() as interrupt:
            hooks.on_training_start(locals(), globals())
            try:
                while (done := self.num_timesteps) < total_timesteps:
                    rate = schedule(1 - done / total_timesteps)
                    rate *= min(1.0, (done + 1) / max(1, self.warmup_steps))
                    window = training.sampler.sample().to(training.device)
                    model.train()
                    losses = training.backward(
                        window,
                        self.carries_state,
                        parts=self.gradient_accumulation_steps,
                        precision=self.precision,
                        torch_compile=self.torch_compile,
                    )
                    norm = training.update(losses, rate, self.max_grad_norm, done)
                    self.num_timesteps += 1
                    self.record_update(losses, norm, rate)
                    if self.num_timesteps % log_interval == 0:
                        self.dump_logs()
                    hooks.update_locals(locals())
                    ends = (not hooks.on_step(), interrupt.requested)
                    stopped, interrupt.requested = processes.any_of(ends, training.device)
                    if stopped:
                        break
                    interrupt.check()
            except KeyboardInterrupt:
                warn_interrupted(self.num_timesteps, total_timesteps)
            finally:
                model.eval()
                hooks.on_training_end()
        training.guard.check_weights(self.num_timesteps)
        return self

    def make_policy(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        return_scale: float = 1.0,
        target_return: float = 0.0,
        clip_rewards: bool = False,
        returns: ReturnStatistics | None = None,
    ) -> SequencePolicy:
        """Make an untrained policy for given spaces, with weights drawn from `seed`.

        It takes the place of the present policy; a `learn` that follows trains it, with the scale
        and target given here rather than the data's.

        Args:
            observation_space: Space of one observation.
            action_space: Space of one action.
            return_scale: Used where the hyper-parameter `return_scale` is None.
            target_return: Used where the hyper-parameter `target_return` is None.
            clip_rewards: Clip rewards to [-1, 1]; see `Trajectories.clip_rewards`.
            returns: Returns that words such as "p90" ask by; None: there are none to ask by.

        Raises:
            ValueError: The hyper-parameter `target_return` is a word, and there are no returns.
        """
        scale = self.return_scale or return_scale
        target = target_return if self.target_return is None else self.target_return
        if isinstance(target, str):
            target = asked_for(target, returns)
        spec = self.make_spec(observation_space, action_space, scale, target)
        spec = replace(spec, clip_rewards=clip_rewards, returns=returns)
        sb3.check_policy_name(self.policy_class, observation_space)
        with torch.random.fork_rng([]):
            if self.seed is not None:
                torch.manual_seed(self.seed)
            else:
                torch.default_generator.seed()
            model = self.compose(spec)
        model.to(self.torch_device()).eval()
        self.policy = SequencePolicy(model, seed=self.seed)
        self._training = self._saved_training = None  # they belong to the model that was before
        self.num_timesteps = 0
        return self.policy

    def make_spec(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        return_scale: float,
        target_return: float,
    ) -> SequenceSpec:
        """Say what the model sees of a step; override to choose other modalities or memory."""
        seen: tuple[Modality, ...] = ("return", "observation")
        return SequenceSpec(
            observation_space=observation_space,
            action_space=action_space,
            context_length=self.context_length,
            modalities=seen if self.remove_act_embs else (*seen, "action"),
            inference=self.inference or self.default_inference(),
            memory="lifetime" if self.remembers_episodes else "episode",
            return_scale=return_scale,
            target_return=target_return,
            return_mode=self.return_mode,
        )

    def _prepare(self, dataset: Dataset) -> Training:
        """Make model, optimiser and sampler, or go on with those that there are."""
        histories = as_histories(dataset) if self.remembers_episodes else None
        data = self.select(as_trajectories(dataset if histories is None else histories))
        sb3.check_env(self.env, data.observation_space, data.action_space)
        if self.policy is None:
            scale = largest(data.rewards) if histories else largest(data.returns_to_go) / 5
            self.make_policy(
                data.observation_space,
                data.action_space,
                return_scale=scale if scale > 1e-12 else 1.0,
                target_return=float(data.returns.max()),
                clip_rewards=data.rewards_clipped,
                returns=ReturnStatistics.of(data.returns),
            )
        policy = self._trained()
        data.check_fits(policy.spec)
        held = self.ema_decay if self._training is None else self._training.ema_decay
        if (self.return_mode, self.ema_decay) != (policy.spec.return_mode, held):
            was = f"{policy.spec.return_mode!r} and {held}"
            raise ValueError(f"return_mode and ema_decay were {was} for this policy: set them back")
        if self._training is None:
            set_statistics(policy.model, data)
            parts = policy.model, self.sampler_for(data, histories)
            training = Training(*parts, self.weight_decay, self.seed, self.ema_decay)
            if self._saved_training is not None:
                self._saved_training.restore(training, data)
                self._saved_training = None
            self._training = training
        elif (
            self._training.sampler.trajectories.source.digest != data.source.digest
            or self._training.sampler.batch_size != self.batch_size
            or self._training.sampler.balanced != self.balance_returns
        ):
            self._training.change_data(self.sampler_for(data, histories))
        self.source = data.source
        return self._training.checked(self.torch_compile, self.precision)

    def sampler_for(self, data: Trajectories, histories: Histories | None) -> Sampler:
        """Choose what batches are; `histories` are given to a system that remembers episodes."""
        return make_sampler(
            data,
            *(self.context_length, self.batch_size, self.seed),
            return_mode=self._trained().spec.return_mode,
            histories=histories,
            consecutive=self.carries_state,
            balanced=self.balance_returns,
        )
