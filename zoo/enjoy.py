"""`python -m zoo enjoy`: shows a policy at work in a window, or says what it did."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .acting import add_arguments as add_actor
from .acting import as_target, load_actor, play
from .collect import one_torch_thread
from .record import record
from .video import check_path

EPISODES = 3

EXAMPLES = """\
A line for each episode says what it returned and what was asked for. Without a display, --record
writes a video and --no-render only plays.

examples:
  the latest experiment of a system in an environment, in a window:
    python -m zoo enjoy --algo dema --env CartPole-v1
  experiment 2, asked for a middling return:
    python -m zoo enjoy --algo dema --env CartPole-v1 --exp-id 2 --target-return 250
  a saved policy for 1000 steps, without a window:
    python -m zoo enjoy dema-cartpole --n-timesteps 1000 --no-render
  into a video instead:
    python -m zoo enjoy dema-cartpole --record cartpole.mp4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `enjoy` to its parser."""
    add_actor(parser, seed=0)
    add = parser.add_argument
    text = f"(default: {EPISODES}, unless --n-timesteps says how long)"
    add("--episodes", type=int, metavar="N", help=text)
    text = "stop after so many steps of the environment"
    add("-n", "--n-timesteps", type=int, metavar="N", help=text)
    add("--target-return", type=as_target, metavar="R", help="(default: as in training)")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--no-render", action="store_true", help="open no window")
    text = "write an .mp4 or .gif rather than open a window"
    shown.add_argument("--record", type=Path, metavar="FILE", help=text)


def run(arguments: argparse.Namespace) -> None:
    """Plays what the command line asks for.

    Raises:
        ValueError: It names nothing that there is, or there is no display.
        OSError: There is no such checkpoint.
    """
    if arguments.record is not None:
        check_path(arguments.record)
    if arguments.episodes is None and arguments.n_timesteps is None:
        arguments.episodes = EPISODES
    actor = load_actor(arguments, arguments.target_return)
    if arguments.record is not None:
        record(actor, arguments.record, arguments)
        print(f"written: {arguments.record}")
        return
    if not arguments.no_render:
        check_display()
    env = actor.make(None if arguments.no_render else "human")
    played: list[float] = []
    with one_torch_thread():
        limits = {"episodes": arguments.episodes, "timesteps": arguments.n_timesteps}
        for episode in play(actor, env, arguments.seed, **limits):
            played += [episode.total] if episode.ended else []
            print(actor.played(episode), flush=True)
    if played:
        print(f"mean return {sum(played) / len(played):.1f} over {len(played)} episodes")


def check_display() -> None:
    """Raises a ValueError where no window can be opened, with what to do instead."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in names):
        raise ValueError(
            "there is no display to open a window on (DISPLAY is not set): write a video with "
            "--record FILE.mp4, or only play with --no-render"
        )
