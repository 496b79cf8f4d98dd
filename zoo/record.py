"""`python -m zoo record`: writes a video of a policy's episodes."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from .acting import Actor, as_target, load_actor, play
from .acting import add_arguments as add_actor
from .collect import one_torch_thread
from .progress import progress_bar, say
from .video import check_path, frame_of, usual_suffix, video

VIDEOS = Path("videos")

EXAMPLES = """\
Frames are drawn without a window, so that no display is needed (MuJoCo may want MUJOCO_GL=egl or
MUJOCO_GL=osmesa). An .mp4 needs imageio-ffmpeg, a .gif Pillow: both are in the extra [video].

examples:
  an episode of the latest experiment:
    python -m zoo record --algo dema --env CartPole-v1
  three episodes of a saved policy, asked for a middling return:
    python -m zoo record dema-cartpole --episodes 3 --target-return 250 --output middling.gif
  the best policy of experiment 2:
    python -m zoo record --algo dema --env CartPole-v1 --exp-id 2 --load-best -o best.mp4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `record` to its parser."""
    add_actor(parser, seed=0)
    add = parser.add_argument
    add("--episodes", type=int, default=1, metavar="N", help="(default: 1)")
    add("--target-return", type=as_target, metavar="R", help="(default: as in training)")
    text = f"an .mp4 or .gif (default: {VIDEOS}/NAME{usual_suffix()})"
    add("-o", "--output", type=Path, metavar="FILE", help=text)
    text = "frames a second (default: the environment's own)"
    add("--fps", type=float, metavar="N", help=text)
    add("--quiet", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> None:
    """Records what the command line asks for.

    Raises:
        ValueError: It names nothing that there is, or no video can be made of it.
        OSError: There is no such checkpoint.
    """
    if arguments.output is not None:
        check_path(arguments.output)
    actor = load_actor(arguments, arguments.target_return)
    output = arguments.output or VIDEOS / f"{actor.name}{usual_suffix()}"
    record(actor, output, arguments)
    print(f"written: {output}")


def record(actor: Actor, output: Path, arguments: argparse.Namespace) -> None:
    """Plays episodes and writes what they look like; prints a line for each.

    Args:
        actor: Who plays.
        output: The video.
        arguments: The options `seed`, `episodes` and, where the verb has them, `n_timesteps`,
            `fps` and `quiet`.

    Raises:
        ValueError: No video can be made of it.
    """
    episodes, steps = arguments.episodes, getattr(arguments, "n_timesteps", None)
    if (episodes is not None and episodes < 1) or (steps is not None and steps < 1):
        raise ValueError("a video takes at least one episode and step")
    env = actor.make("rgb_array")
    rate = getattr(arguments, "fps", None) or float(env.metadata.get("render_fps") or 30)
    if not (math.isfinite(rate) and 0 < rate <= 1000):
        raise ValueError(f"--fps must be above 0 and at most 1000, got {rate}")
    quiet = getattr(arguments, "quiet", False)
    with (
        video(output, rate) as writer,
        one_torch_thread(),
        progress_bar("recording", episodes or 1, not quiet) as tick,
    ):
        for episode in play(
            actor,
            env,
            arguments.seed,
            episodes=episodes,
            timesteps=steps,
            on_step=lambda env: writer.add(frame_of(env)),
        ):
            tick(1)
            say(actor.played(episode))
