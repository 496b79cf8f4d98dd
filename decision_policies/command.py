"""The command `decision-policies`: the zoo's verbs, run from wherever the package is installed."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

PACKAGE = Path(__file__).parent
FOLDERS = (PACKAGE / "zoo", PACKAGE.parent / "zoo")
"""Where the zoo is in a wheel, and in a clone."""


def main() -> int:
    """Run a verb; `decision-policies --help` lists them.

    The zoo is no part of the library, and nothing in it imports the zoo: only this command does,
    under the name that it has in a clone, for this one process.

    Returns:
        The exit status.
    """
    folder = next((f for f in FOLDERS if (f / "__main__.py").is_file()), None)
    if folder is None:
        sys.stderr.write("decision-policies: this installation has no zoo; install it again\n")
        return 2
    spec = spec_from_file_location("zoo", folder / "__init__.py")
    assert spec is not None, "it is a file of Python"
    assert spec.loader is not None, "as every file"
    sys.modules["zoo"] = zoo = module_from_spec(spec)
    spec.loader.exec_module(zoo)
    status: int = import_module("zoo.__main__").main(program="decision-policies")
    return status
