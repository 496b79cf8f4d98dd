"""SequenceModel, the contract between networks and the rest, and TokenModel, the common case."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from decision_policies.batch import Losses, Prediction, Step, Window
from decision_policies.models.embedding import StepEmbedding
from decision_policies.models.encoders import standardise
from decision_policies.models.heads import Head
from decision_policies.models.rewards import RewardHead
from decision_policies.nets.mixer import Mixer, mixed
from decision_policies.spec import SequenceSpec
from decision_policies.tree import State


class SequenceModel(nn.Module):
    """A pure function of windows, or of steps and a state; it holds weights and nothing else.

    A step is two calls: `act` with what is known before the action, and, once the action has been
    executed, `commit`. Feeding a window's steps through them gives the predictions that `forward`
    gives for the whole window at once.

    Attributes:
        spec: What the model sees of a step.
        reward_head: Predicts what a step has earned, where rewards are not to be reported
            (`return_mode="predict"`); None where they are.
        fixed_shapes: Whether the shapes of all that is computed follow from those of the batch;
            only then can it be compiled.
    """

    spec: SequenceSpec
    head: Head
    fixed_shapes: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.reward_head: RewardHead | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """Make the all-zero state of `batch` rows, on the device of the weights."""

    @abstractmethod
    def forward(
        self, window: Window, state: State | None = None, read_from: int | None = None
    ) -> tuple[Prediction, State]:
        """Predict the actions of a window's steps; no prediction sees its own action.

        Args:
            window: (B, T) steps.
            state: State after the steps before the window; None for the initial state.
            read_from: First step whose action is wanted. The last layer may then leave out what no
                action is read from; None wants all actions, and hooks to see all of every layer.

        Returns:
            The prediction, (B, T, P) or from that step on, and the state after the window.
        """

    @abstractmethod
    def act(self, step: Step, state: State) -> tuple[Prediction, State]:
        """Predict the action of one step from what precedes it; the prediction is (B, P)."""

    @abstractmethod
    def commit(self, action: Tensor, reward: Tensor, step: Step, state: State) -> State:
        """Take in what was done in a step.

        Args:
            action: The executed action, (B, *action), in the environment's units.
            reward: The reward that followed, (B,), float32.
            step: The step that the action belongs to.
            state: The state that `act` returned for it.

        Returns:
            The state after the step.
        """

    def commit_and_act(
        self, action: Tensor, reward: Tensor, previous: Step, step: Step, state: State
    ) -> tuple[Prediction, State]:
        """`commit` one step and `act` in the next; models may do both in one pass."""
        return self.act(step, self.commit(action, reward, previous, state))

    def remember(self, window: Window) -> State:
        """Find the state after a window, from the initial state; models may spare predicting."""
        return self(window)[1]  # type: ignore[no-any-return]

    def loss(self, prediction: Prediction, window: Window) -> Losses:
        """Compare a window's prediction with its logged actions, over real steps only."""
        return self.head.loss(prediction.action, window.actions, window.mask)

    def losses(self, window: Window, state: State | None = None) -> tuple[Losses, State]:
        """Run over a batch to learn from it.

        Args:
            window: (B, T) steps.
            state: As for `forward`.

        Returns:
            The losses, and the state after the window.
        """
        prediction, state = self(window, state, 0)
        return self.loss(prediction, window), state

    def with_reward_error(self, losses: Losses, window: Window) -> Losses:
        """Add the error of the reward head, if there is one, to what `losses` returned."""
        if self.reward_head is None:
            return losses
        error = self.reward_head.loss(window, self.head.features(window.actions))
        total = losses["loss"] + self.reward_head.weight * error
        return {**losses, "loss": total, "reward_error": error}

    def earned(self, observations: Tensor, actions: Tensor, following: Tensor) -> Tensor:
        """Predict what actions have earned, in the environment's units.

        Args:
            observations: What was seen before them, (..., *observation).
            actions: (..., *action).
            following: What was seen after them, (..., *observation).

        Returns:
            (...,).
        """
        assert self.reward_head is not None, "the policy has looked for one"
        features = self.head.features(actions)
        return cast(Tensor, self.reward_head(observations, features, following))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take over the observations' mean and deviation, each of the observation's shape.

        Called once, before training; a model that does not standardise ignores it.
        """


class TokenState(NamedTuple):
    """State of a TokenModel.

    Attributes:
        backbone: The backbone's state.
        previous: Features of the previous action, (B, F), in the layout BL3D; else empty.
    """

    backbone: State
    previous: State


class TokenModel(SequenceModel):
    """Embedding, causal backbone, LayerNorm, head: the model of every plain system.

    Args:
        spec: What the model sees of a step.
        embedding: Turns steps into tokens (B, L, D).
        backbone: Causal map of tokens.
        head: Reads the action from the backbone's output at the acting token.
        d_model: Token width D.
    """

    kinds: Tensor
    kinds_between: Tensor

    def __init__(
        self,
        spec: SequenceSpec,
        embedding: StepEmbedding,
        backbone: Mixer,
        head: Head,
        d_model: int,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = embedding
        self.backbone = backbone
        self.norm = nn.LayerNorm(d_model)
        self.head = head
        kinds, first = list(range(embedding.tokens_per_step)), embedding.acting_token + 1
        self.register_buffer("kinds", torch.tensor(kinds), persistent=False)
        between = torch.tensor(kinds[first:] + kinds[:first])
        self.register_buffer("kinds_between", between, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are: a known one is found sooner than the first."""
        return self.norm.weight.device

    def initial_state(self, batch: int) -> TokenState:
        """Make the all-zero state of `batch` rows."""
        return TokenState(self.backbone.initial_state(batch), self._no_action(batch))

    def _no_action(self, batch: int) -> State:
        """Make the features of the previous action of `batch` rows that have none."""
        if self.embedding.interleaved:
            return ()
        return self.norm.weight.new_zeros(batch, self.embedding.n_features)

    def forward(
        self, window: Window, state: State | None = None, read_from: int | None = None
    ) -> tuple[Prediction, State]:
        """Predict the actions of a window's steps; see `SequenceModel.forward`."""
        batch, steps = window.shape
        backbone: State | None = None  # which spares the mixers' work
        previous = self._no_action(batch)
        if state is not None:
            backbone, previous = cast(TokenState, state)
        features = self.head.features(window.actions)
        shifted = None
        if isinstance(previous, Tensor):
            shifted = torch.cat((previous.unsqueeze(1), features[:, :-1]), 1)
            previous = features[:, -1]
        given = window.observations, window.returns_to_go, window.timesteps
        tokens = self.embedding.whole(*given, features, window.rewards, shifted)
        each, kinds = len(self.kinds), self.kinds.expand(steps, -1).flatten()
        acting = slice(self.embedding.acting_token + each * (read_from or 0), None, each)
        wanted = None if read_from is None else acting
        y, backbone = mixed(self.backbone, tokens.flatten(1, 2), backbone, kinds, wanted)
        y = y[:, acting] if wanted is None else y
        return Prediction(self.head(self.norm(y))), TokenState(backbone, previous)

    def act(self, step: Step, state: State) -> tuple[Prediction, State]:
        """Predict the action of one step; see `SequenceModel.act`."""
        backbone, previous = cast(TokenState, state)
        known = previous if isinstance(previous, Tensor) else None
        tokens = self.embedding.before_action(
            step.observations, step.returns_to_go, step.timesteps, known
        )
        return self._read(tokens, backbone, previous, self.kinds[: tokens.shape[1]])

    def commit(self, action: Tensor, reward: Tensor, step: Step, state: State) -> State:
        """Take in an executed action; see `SequenceModel.commit`."""
        backbone, previous = state
        features = self.head.features(action)
        tokens = self.embedding.after_action(features, reward, step.timesteps)
        if tokens.shape[1]:
            _, backbone = self.backbone(tokens, backbone, self.kinds[-tokens.shape[1] :])
        return TokenState(backbone, features if isinstance(previous, Tensor) else previous)

    def commit_and_act(
        self, action: Tensor, reward: Tensor, previous: Step, step: Step, state: State
    ) -> tuple[Prediction, State]:
        """Feed the action and the next step's tokens through the backbone as one chunk."""
        features = self.head.features(action)
        if not self.embedding.interleaved:
            return self.act(step, TokenState(state[0], features))
        known = (step.observations, step.returns_to_go, step.timesteps)
        tokens = self.embedding.between(features, reward, previous.timesteps, *known)
        return self._read(tokens, state[0], state[1], self.kinds_between)

    def _read(
        self, tokens: Tensor, backbone: State, previous: State, kinds: Tensor
    ) -> tuple[Prediction, State]:
        y, backbone = self.backbone(tokens, backbone, kinds)
        return Prediction(self.head(self.norm(y[:, -1]))), TokenState(backbone, previous)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Standardise observations by these; see `SequenceModel.set_statistics`.

        Weights that came with statistics of their own keep them.
        """
        standardise(self.embedding.observation, mean, std)
