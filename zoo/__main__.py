"""`python -m zoo <verb>`: finds the verb's module, lets it read its options, and runs it."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

PROGRAM = "python -m zoo"

# A verb is a line here and a module zoo/<verb>.py, with _ for -, with `add_arguments(parser)`,
# `run(arguments)` and `EXAMPLES`. Only the module of the verb that is asked for is imported.
VERBS = {
    "check": "check that a dataset can be learnt from, and report what it is like",
    "benchmark": "train and evaluate a table of algorithms, datasets and seeds; resumable",
    "train": "train a policy on a dataset by its table, evaluate it on the way; resumable",
    "tune": "search hyper-parameters by optuna; several processes share a study; resumable",
    "evaluate": "play episodes, and compare the returns asked for with those obtained",
    "targets": "ask a policy for little and for much; asked against obtained, and a picture",
    "enjoy": "watch a policy act in a window",
    "record": "write a video of a policy's episodes",
    "card": "write the model card of a policy",
    "push": "evaluate a policy and push it to a hub, with its card and a replay",
    "pull": "copy a policy from a hub into a folder",
    "plot-train": "draw the evaluations of experiments over their training",
    "collect": "roll a Stable-Baselines3 agent out into a small Minari dataset",
    "histories": "let learners learn many tasks, and keep how they did as a Minari dataset",
    "in-context": "let policies meet unseen tasks for many episodes; a line, a picture, a JSON",
    "ship": "put a trained policy into the package, to be loaded as hub/<alias>",
    "study": "run a small experiment over a grid: one question, a table, a picture; resumable",
}


def build_parser(chosen: str | None, program: str = PROGRAM) -> argparse.ArgumentParser:
    """The command line, with the options of one verb.

    Args:
        chosen: the verb to load; the others are listed only.
        program: what the user types before the verb.

    Returns:
        The parser; its result has the attributes `verb` and, for the chosen verb, `run` and
        `program`.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description="Commands around decision_policies.",
        epilog=f"`{program} VERB --help` explains a verb, with examples.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, summary in VERBS.items():
        subparser = verbs.add_parser(
            verb,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if verb == chosen:
            module = import_module(f"zoo.{verb.replace('-', '_')}")
            subparser.epilog = module.EXAMPLES.replace(PROGRAM, program)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run, program=program)
    return parser


def main(arguments: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Runs a verb.

    Args:
        arguments: the command line without the program; `None` for the process's own.
        program: what the user types before the verb.

    Returns:
        0 when the verb has done its work; 2 when it could not and 130 when it was interrupted,
        with the reason on the error stream.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parsed = build_parser(words[0] if words else None, program).parse_args(words)
    # A polite kill cleans up as Ctrl-C does, which training holds back until an update is whole.
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        parsed.run(parsed)
    except (ValueError, OSError) as error:
        print(f"{program} {parsed.verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program} {parsed.verb}: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
