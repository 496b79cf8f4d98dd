"""`python -m zoo push`: evaluates a saved policy and pushes it to a hub, with card and replay."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from decision_policies import hub
from decision_policies.hub import registry

from .acting import VIDEO_CURE, Actor
from .acting import add_arguments as add_actor
from .benchmark_run import SEED_SETS
from .card import EPISODES, add_measuring, load_subject, tell
from .record import record
from .ship import publish

EXAMPLES = f"""\
One commit holds the weights, their config and manifest, a card (README.md), the figures of
{EPISODES} fresh episodes (results.json) and, where imageio-ffmpeg is installed, a replay. What is
there already is not committed again. Others then write

    DeMa.load("me/dema-cartpole")

`hf auth login` keeps the token that the Hub wants. A folder serves as a hub, too: no account, no
server, everybody who can read it can load from it, by --endpoint or $DECISION_POLICIES_HUB.

examples:
  a saved policy:
    python -m zoo push dema-cartpole me/dema-cartpole
  the best policy of the latest experiment, seen by nobody else:
    python -m zoo push --algo dema --env CartPole-v1 --load-best me/dema-cartpole --private
  every policy that the package ships:
    python -m zoo push --all --namespace me
  to a folder, without measuring anything:
    python -m zoo push dema-cartpole team/dema-cartpole --endpoint /srv/hub --episodes 0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `push` to its parser."""
    add_actor(parser, seed=SEED_SETS["evaluation"])
    add_measuring(parser)
    add = parser.add_argument
    text = "the repository; made if it is not there"
    add("repo_id", nargs="?", metavar="OWNER/NAME", help=text)
    text = "publish every policy that the package ships, see `ship`; needs --namespace"
    add("--all", action="store_true", help=text)
    add("--namespace", metavar="OWNER", help="whose repositories they are, with --all")
    text = "let a repository that is made now be seen by its owner only"
    add("--private", action="store_true", help=text)
    text = "another hub: its URL, or a folder (default: $DECISION_POLICIES_HUB, or the Hub)"
    add("--endpoint", metavar="WHERE", help=text)
    add("--revision", default="main", metavar="BRANCH", help="(default: main)")
    add("-m", "--message", metavar="TEXT", help="title of the commit")
    add("--no-video", action="store_true", help="record no replay")


def run(arguments: argparse.Namespace) -> None:
    """Pushes what the command line asks for, and says where it is.

    Raises:
        ValueError: It names nothing that there is, or no repository.
        OSError: There is no such checkpoint, or the hub did not take it.
    """
    if arguments.all:
        return _push_all(arguments)
    if arguments.repo_id is None and arguments.algo is not None:  # the only name is not a policy's
        arguments.name, arguments.repo_id = None, arguments.name
    if arguments.repo_id is None:
        raise ValueError("name the repository, OWNER/NAME, behind the policy")
    hub.check_names(arguments.repo_id, arguments.revision)
    subject = load_subject(arguments)
    story, actor = tell(subject, arguments), subject.actor
    played = story.evaluation
    if actor is not None and played is not None:
        print(f"{actor.name} in {actor.environment}: {played}")
    with TemporaryDirectory() as folder:
        film = None if arguments.no_video else actor
        made = hub.push_algorithm(
            subject.algorithm,
            arguments.repo_id,
            evaluation=played,
            environment=None if actor is None else actor.environment,
            options=story.options,
            tasks=story.tasks,
            target_return=None if actor is None else actor.asked(),
            deterministic=actor is None or actor.deterministic,
            stages=story.stages,
            command=story.command,
            note=story.note,
            video=None if film is None else replay(film, Path(folder), arguments.quiet),
            private=arguments.private,
            revision=arguments.revision,
            commit_message=arguments.message,
            endpoint=arguments.endpoint,
        )
    print(f"{'pushed' if made.changed else 'there already'}: {made.url}")
    where = f', endpoint="{arguments.endpoint}"' if arguments.endpoint else ""
    where += f', revision="{arguments.revision}"' if arguments.revision != "main" else ""
    print(f'load it by {type(subject.algorithm).__name__}.load("{made.repo_id}"{where})')
    print(f"or, to go on using exactly this one, with revision={made.commit!r}")


def _push_all(arguments: argparse.Namespace) -> None:
    """Publishes what is shipped."""
    if arguments.namespace is None or arguments.name is not None:
        raise ValueError("--all goes with --namespace OWNER, and with no policy of its own")
    if arguments.revision != "main" or arguments.message is not None:
        raise ValueError("--all pushes to main, under a title of its own: leave both out")
    root = registry.POLICIES
    for made in publish(
        arguments.namespace, root, endpoint=arguments.endpoint, private=arguments.private
    ):
        print(f"{'pushed' if made.changed else 'there already'}: {made.url}")
    if any(entry.commit is None for entry in registry.read(root)):
        print("the registry names the default hub's repositories only, so none of these")


def replay(actor: Actor, folder: Path, quiet: bool) -> Path | None:
    """Records an episode as an MP4 where that is possible; else says why it is not.

    Args:
        actor: Who plays.
        folder: Where to put the file.
        quiet: Show no progress.
    """
    if find_spec("imageio_ffmpeg") is None:
        print(f"no replay: it needs imageio-ffmpeg, {VIDEO_CURE}")
        return None
    path = folder / "replay.mp4"
    options = argparse.Namespace(episodes=1, seed=SEED_SETS["evaluation"], quiet=quiet)
    try:
        record(actor, path, options)
    except ValueError as error:
        print(f"no replay: {error}")
        return None
    return path
