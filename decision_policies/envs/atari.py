"""make_atari: Atari games as Decision Transformers see them, stacks of small grey frames."""

from __future__ import annotations

import difflib
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation


def make_atari(game: str, *, frame_stack: int = 4, seed: int | None = None) -> gym.Env[Any, Any]:
    """Make an Atari game for acting and evaluation, with raw scores as rewards.

    Each action is held for 4 frames, of which the last two are merged by their maximum, turned
    grey and shrunk to 84 x 84 pixels. An episode begins with 1 to 30 frames without action and ends
    with the game, not with a life. Actions are never repeated at random, and nothing is pressed on
    the policy's behalf: where a life begins with the fire button, the policy must press it.

    Args:
        game: Name of the game, such as "space_invaders" or "SpaceInvaders".
        frame_stack: Frames in an observation, as in `Trajectories.stack_frames`.
        seed: Seeds the action space, and the resets that are given no seed of their own.

    Returns:
        An environment with observations (frame_stack, 84, 84), uint8, and Discrete actions, only
        those that the game knows.

    Raises:
        ImportError: ale-py or opencv is missing.
        ValueError: There is no such game; the message names similar ones.

    References:
        Chen et al., "Decision Transformer", arXiv 2106.01345, after Mnih et al. 2015; gymnasium's
        `AtariPreprocessing`.

    Example:
        `evaluate_policy(model, partial(make_atari, "pong"), deterministic=False)`
    """
    try:
        import ale_py
        import cv2  # noqa: F401 - AtariPreprocessing asks for it late, and by another name
    except ImportError as error:
        raise ImportError(
            f"Atari games need ale-py and opencv, and {error.name or error} is missing: "
            "pip install 'decision-policies[atari]'"
        ) from error
    gym.register_envs(ale_py)
    env = gym.make(
        _registered(game), frameskip=1, repeat_action_probability=0.0, full_action_space=False
    )
    env = FrameStackObservation(AtariPreprocessing(env, noop_max=30, frame_skip=4), frame_stack)
    if seed is not None:
        env.reset(seed=seed)
        env.action_space.seed(seed)
    return env


def _registered(game: str) -> str:
    """Find the id under which a game is registered."""
    specs = [spec for spec in gym.registry.values() if spec.namespace == "ALE"]
    ids = {spec.kwargs["game"]: spec.id for spec in specs}
    plain = {name.replace("_", ""): name for name in ids}
    wanted = game.lower().replace("_", "")
    if wanted in plain:
        return ids[plain[wanted]]
    close = [plain[name] for name in difflib.get_close_matches(wanted, plain, n=3)]
    hint = (
        f"did you mean {', '.join(map(repr, close))}?" if close else f"there are {len(ids)} games"
    )
    raise ValueError(f"there is no Atari game {game!r}; {hint}")
