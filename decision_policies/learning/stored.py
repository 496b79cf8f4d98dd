"""Stored: what an algorithm does to be kept: saved to a folder, and loaded by a name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import torch

from decision_policies import hub
from decision_policies.learning import hyperparameters, persistence
from decision_policies.learning.sb3 import Surface, check_env
from decision_policies.models.extractors import install
from decision_policies.models.rewards import RewardHead

if TYPE_CHECKING:
    from decision_policies.data.trajectories import Source
    from decision_policies.learning.training import Training
    from decision_policies.models.model import SequenceModel
    from decision_policies.spec import SequenceSpec


class Stored(Surface):
    """Saves and loads an algorithm; what it needs of one is `persistence.Learner`."""

    if TYPE_CHECKING:
        source: Source
        seed: int | None
        device: str
        reward_coef: float
        features_extractor_class: type | None
        features_extractor_kwargs: dict[str, Any] | None
        _training: Training | None
        _saved_training: persistence.SavedTraining | None

        def build_model(self, spec: SequenceSpec) -> SequenceModel: ...  # noqa: D102

    def torch_device(self) -> torch.device:
        """Device of the hyper-parameter `device`; "auto" is a GPU if there is one."""
        if self.device != "auto":
            return torch.device(self.device)
        mine = os.environ.get("LOCAL_RANK", "0")  # each of several processes has its own
        return torch.device(f"cuda:{mine}" if torch.cuda.is_available() else "cpu")

    def hyperparameters(self) -> Mapping[str, Any]:
        """List the hyper-parameters and their values."""
        return {name: getattr(self, name) for name in hyperparameters.names(type(self))}

    def compose(self, spec: SequenceSpec) -> SequenceModel:
        """Build the model, with its features extractor and its reward head if it has them.

        Raises:
            TypeError: There is no observation encoder whose place the extractor could take.
        """
        model = self._with_extractor(self.build_model(spec), spec)
        if spec.predicts_rewards:  # built last: the weights that act are the same without it
            head = RewardHead(spec.observation_space, model.head.n_features, self.reward_coef)
            model.reward_head = head
        return model

    def _with_extractor(self, model: SequenceModel, spec: SequenceSpec) -> SequenceModel:
        extractor, options = self.features_extractor_class, self.features_extractor_kwargs or {}
        if extractor is None:
            return model
        # Even where weights are only compared: extractors try what they are made of, with numbers.
        with torch.device("cpu"), torch.random.fork_rng([]):
            installed = install(model, spec.observation_space, extractor, options)
        if not installed:
            raise TypeError(
                f"{type(self).__name__} has no observation encoder of this package's, whose place "
                f"{extractor.__name__} could take"
            )
        return model

    def save(self, path: str | PathLike[str], *, training_state: bool = True) -> None:
        """Save to a folder or a zip, atomically; see `checkpoint`.

        Args:
            path: The folder; or the one file, where it ends in ".zip". An older checkpoint there is
                replaced once the new one is whole.
            training_state: Also save what an exact resume needs: twice the size of the weights,
                three times with `ema_decay`.

        Raises:
            CheckpointError: There is something else at that path, or a weight is not finite.
            OSError: The disk is full or cannot be written to; what was there is untouched.
            RuntimeError: There is no policy yet.
        """
        self._trained()
        persistence.save(self, path, training_state=training_state)

    def push_to_hub(  # noqa: PLR0913 - what a push is made of, each by its name
        self,
        repo_id: str,
        *,
        evaluation: hub.Evaluated | None = None,
        environment: str | None = None,
        target_return: float | None = None,
        deterministic: bool = True,
        video: str | PathLike[str] | None = None,
        private: bool = False,
        revision: str = "main",
        commit_message: str | None = None,
        token: str | None = None,
        endpoint: str | PathLike[str] | None = None,
    ) -> hub.PushResult:
        """Push to a hub as one commit, with a card; others then `load(repo_id)`.

        Args:
            repo_id: `owner/name`; the repository is made if it is not there.
            evaluation: What `evaluate_policy` returned, for the card; None: the card says that
                nothing was measured.
            environment: Id of the environment that it played in; None is the one that the dataset
                records.
            target_return: The return that the evaluation asked for; None is the policy's own.
            deterministic: Whether the evaluation took the likeliest actions.
            video: An MP4 of the policy at work.
            private: Let a repository that is made now be seen by its owner only.
            revision: The branch.
            commit_message: The commit's title.
            token: Of the account; None is the one that `hf auth login` keeps, which goes to no hub
                but the default one.
            endpoint: A hub's URL, or a folder that serves as one; None is `$DECISION_POLICIES_HUB`
                if it is set, else Hugging Face's, or `$HF_ENDPOINT`.

        Returns:
            Where it is now: `commit` is a revision to load by, `changed` whether it is a new one.

        Raises:
            ValueError: A name is none, or the evaluation's environment is not known.
            RuntimeError: There is no policy yet.
            HubError: `HubAuth`, the token may not write; `HubConflict`, somebody else pushed
                meanwhile; `HubOffline`; or what else went wrong. Nothing is half pushed.
        """
        self._trained()
        return hub.push_algorithm(
            self,
            repo_id,
            evaluation=evaluation,
            environment=environment,
            target_return=target_return,
            deterministic=deterministic,
            video=video,
            private=private,
            revision=revision,
            commit_message=commit_message,
            token=token,
            endpoint=endpoint,
        )

    @classmethod
    def load(  # noqa: PLR0913 - where to look, each by its name
        cls,
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
    ) -> Self:
        """Load a saved algorithm; it acts at once, and learns on where it was.

        Where it was is known of a local folder only: a policy from a hub begins with a new
        optimiser.

        Args:
            name: The folder or zip that `save` wrote; `hub/<alias>[@revision]`, a policy that the
                package ships or knows; or a repository on a hub,
                `owner/name[@revision][/subfolder]`, with `hf://` before it where a folder might be
                meant. See `hub.resolve`.
            env: If given, an environment, a vector of them or an id, whose spaces are compared with
                those that the policy was made for.
            device: Where to put the weights.
            revision: A branch, a tag or a commit of the repository; "main" if there is none.
            subfolder: The policy's folder inside the repository.
            endpoint: A hub's URL, or a folder that serves as one; None is Hugging Face's, or
                `$HF_ENDPOINT`.
            token: Of an account that may read it; None is the one that `hf auth login` keeps, which
                goes to no hub but the default one.
            cache_dir: Where to keep what is fetched; None is `$DECISION_POLICIES_CACHE/hub`, or
                `~/.cache/decision_policies/hub`.
            local_files_only: Ask nothing of a hub: what was fetched before is used.
            features_extractor_class: The class that the policy was saved with, if it was saved with
                one: code is never looked up by a name that a checkpoint holds.

        Raises:
            FileNotFoundError: There is no such folder.
            ValueError: The name is none.
            CheckpointError: It is no whole, unaltered checkpoint of this class.
            HubError: It could not be fetched; `HubNotFound`, `HubAuth` and `HubOffline` say why.
        """
        folder = hub.resolve(
            name,
            revision=revision,
            subfolder=subfolder,
            endpoint=endpoint,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            algorithm=cls.__name__,
        )
        algorithm = persistence.load(cls, folder, device, str(name), features_extractor_class)
        spec = algorithm._trained().spec
        check_env(env, spec.observation_space, spec.action_space)
        return algorithm
