"""`python -m zoo pull`: copies a policy from a hub into a folder."""

from __future__ import annotations

import argparse
import shutil
import uuid
from pathlib import Path

from decision_policies import hub
from decision_policies.checkpoint import open_checkpoint
from decision_policies.hub.cache import check_whole

EXAMPLES = """\
`load` fetches by itself and keeps what it fetched; `pull` is for a copy in a place of your own: to
look into, to carry to a machine without network, to train on.

examples:
  the newest policy of a repository, into the folder dema-cartpole:
    python -m zoo pull me/dema-cartpole
  exactly one commit of it, elsewhere:
    python -m zoo pull me/dema-cartpole --revision 1f0c...e2 --output policies/cartpole
  from a folder that serves as a hub:
    python -m zoo pull team/dema-cartpole --endpoint /srv/hub
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `pull` to its parser."""
    add = parser.add_argument
    text = "owner/name[@revision][/subfolder], or hub/ALIAS"
    add("name", metavar="NAME", help=text)
    text = "the folder to make (default: the last part of NAME, here)"
    add("-o", "--output", type=Path, metavar="FOLDER", help=text)
    add("--revision", metavar="REVISION", help="a branch, tag or commit (default: main)")
    text = "another hub: its URL, or a folder (default: $DECISION_POLICIES_HUB, or the Hub)"
    add("--endpoint", metavar="WHERE", help=text)


def run(arguments: argparse.Namespace) -> None:
    """Copies what the command line asks for, and says where it is.

    Raises:
        ValueError: It is no name, or something is in the way.
        OSError: The hub does not have it, or it cannot be written.
    """
    target = arguments.output or Path(arguments.name.partition("@")[0].rstrip("/")).name
    target = Path(target)
    if target.exists():
        raise ValueError(f"{target} is there already: choose another place by --output")
    found = hub.resolve(arguments.name, revision=arguments.revision, endpoint=arguments.endpoint)
    if found.is_file():
        raise ValueError(f"{found} is a zip, and here already: load it as it is")
    check_whole(found)
    saved = open_checkpoint(found)
    saved.contents.check_links(p.relative_to(found).as_posix() for p in found.rglob("*"))
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    try:
        shutil.copytree(saved.folder, temporary)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    algorithm, updates = saved.config["algorithm"], saved.config["num_timesteps"]
    source = saved.config["source"]
    learnt = f" on {source['dataset']}" if source["dataset"] else ""
    print(f"{target}: {algorithm} after {updates} updates{learnt}")
    print(f'load it by {algorithm}.load("{target}")')
