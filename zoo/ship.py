"""`python -m zoo ship`: puts a trained policy into the package, to be loaded as `hub/<alias>`."""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from decision_policies import atomic, hub
from decision_policies.checkpoint import MANIFEST, open_checkpoint
from decision_policies.hub import registry

from .acting import add_arguments as add_actor
from .benchmark_run import SEED_SETS
from .card import add_measuring, figures, load_subject, results_beside, tell

EXAMPLES = """\
For those who release the package. What is shipped is loaded without a network, by everybody:

    DeMa.load("hub/hopper")

The registry (registry.json) keeps, for each alias and class, the environment, the data, the return
that is asked for, the score over fresh episodes and the SHA-256 of the manifest. A policy that is
there already is replaced, and is then published nowhere until `push --all` has been run again.

examples:
  the best policy of the latest experiment:
    python -m zoo ship --algo dema --env Hopper-v5 --load-best --alias hopper
  publish all that is shipped, and note where:
    python -m zoo push --all --namespace me
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `ship` to its parser."""
    add_actor(parser, seed=SEED_SETS["evaluation"])
    add_measuring(parser)
    parser.add_argument("--alias", required=True, help="the name behind hub/")
    text = "the folder with registry.json (default: the package's own)"
    parser.add_argument("--root", type=Path, default=registry.POLICIES, metavar="DIR", help=text)


def run(arguments: argparse.Namespace) -> None:
    """Ships what the command line asks for, and says how it is loaded.

    Raises:
        ValueError: It names nothing that there is, or no figures could be made of it.
        OSError: There is no such checkpoint, or it cannot be written.
    """
    known = registry.read(arguments.root)
    subject = load_subject(arguments)
    story, actor = tell(subject, arguments), subject.actor
    if actor is None or story.evaluation is None:
        raise ValueError("nothing is shipped without figures: leave --episodes 0 out")
    name = type(subject.algorithm).__name__
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "policy"
        subject.algorithm.save(folder, training_state=False)
        saved = open_checkpoint(folder)
        results = figures(saved, story, story.evaluation, actor)
        card = hub.model_card(
            saved,
            f"hub/{arguments.alias}",
            type(subject.algorithm),
            results=results,
            stages=story.stages,
            command=story.command,
            note=story.note,
        )
        files = hub.gather(folder, card, results)
    entry = registry.Entry(
        alias=arguments.alias,
        algorithm=name,
        repository=None,
        commit=None,
        sha256=hashlib.sha256(files[MANIFEST]).hexdigest(),
        environment=actor.environment,
        dataset=saved.config["source"]["dataset"],
        target_return=float(saved.config["spec"]["target_return"]),
        score=float(story.evaluation.mean),
    )
    listed = {(e.alias, e.algorithm): e for e in (*known, entry)}.values()  # each in its old place
    registry.check([*listed], arguments.root)
    atomic.write_folder(entry.folder(arguments.root), files)
    registry.write([*listed], arguments.root)
    print(f"{actor.name} in {actor.environment}: {story.evaluation}")
    size = sum(map(len, files.values())) / 1e6
    print(f'shipped, {size:.1f} MB: {name}.load("hub/{entry.alias}")')


def publish(
    namespace: str, root: Path, *, endpoint: str | None = None, private: bool = False
) -> list[hub.PushResult]:
    """Pushes all that is shipped, and notes in the registry where each policy is.

    Only what the default hub has is noted: everybody looks there for what a registry names, and a
    team's repository of that name may be a stranger's there.

    Args:
        namespace: Whose repositories they are; each is called `<class>-<alias>`.
        root: The folder with registry.json.
        endpoint: As for `hub.push`.
        private: As for `hub.push`.

    Raises:
        ValueError: Nothing is shipped.
        OSError: A hub did not take one; those before it are pushed, and noted.
    """
    entries, pushed = list(registry.read(root)), []
    noted = endpoint is None and not os.environ.get("DECISION_POLICIES_HUB")
    for place, entry in enumerate(entries):
        folder = entry.folder(root)
        if not folder.exists():
            continue
        repository = f"{namespace}/{entry.algorithm.lower()}-{entry.alias}"
        card = (folder / "README.md").read_text(encoding="utf-8")
        made = hub.push(
            folder,
            repository,
            card=card.replace(f"hub/{entry.alias}", repository),
            results=results_beside(folder),
            private=private,
            endpoint=endpoint,
        )
        if noted:
            entries[place] = replace(entry, repository=repository, commit=made.commit)
            registry.write(entries, root)
        pushed.append(made)
    if not pushed:
        raise ValueError(f"{root} ships no policy; `python -m zoo ship` puts one there")
    return pushed
