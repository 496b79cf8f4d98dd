"""What the tests of collecting share: a run of a tenth of a second, and checks of its data."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np

from zoo.collect import Recipe

# A2C learns every 5 steps, so that a whole run takes a tenth of a second.
TINY = Recipe(
    "CartPole-v1",
    "tiny/cartpole-v0",
    algorithm="a2c",
    train_steps=20,
    snapshots=2,
    epsilons=(1.0, 0.3),
    steps=60,
    score_episodes=2,
)
PARTS = ("observations", "actions", "rewards", "terminations", "truncations")


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_follows_cartpole(dataset: minari.MinariDataset) -> None:
    env: Any = gym.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    for episode in dataset.iterate_episodes():
        steps = len(episode.actions)
        assert len(episode.observations) == steps + 1
        for t in range(steps):
            env.state = episode.observations[t].astype(np.float64)
            env.steps_beyond_terminated = None
            following, reward, terminated, _, _ = env.step(episode.actions[t])
            # Stored observations are rounded to float32; the simulator's state is not.
            np.testing.assert_allclose(following, episode.observations[t + 1], atol=2e-6)
            assert reward == episode.rewards[t]
            assert terminated == episode.terminations[t]
        assert not episode.truncations[:-1].any()
        assert episode.truncations[-1] == (not episode.terminations[-1])
    env.close()


def assert_equal_data(left: minari.MinariDataset, right: minari.MinariDataset) -> None:
    for one, other in zip(left.iterate_episodes(), right.iterate_episodes(), strict=True):
        for part in PARTS:
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


def command_line(recipe: Recipe, root: Path) -> list[str]:
    line = (
        f"collect --env {recipe.env_id} --dataset {recipe.dataset_id} --algo {recipe.algorithm} "
        f"--train-steps {recipe.train_steps} --snapshots {recipe.snapshots} "
        f"--steps {recipe.steps} --score-episodes {recipe.score_episodes} --seed {recipe.seed} "
        f"--epsilon {' '.join(map(str, recipe.epsilons))}"
    )
    return [*line.split(), "--output", str(root)]
