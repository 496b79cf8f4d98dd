"""A machine of its own for tests: a process with its own home, which trains, pushes and loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parent.parent.parent

Answer = dict[str, Any]
"""What an order came to: its own entries, or `error` and `message`."""


class Machine:
    """The side of the test: orders go to the process, line by line; a context manager.

    Args:
        home: The machine's home; its cache is inside.
        endpoint: The hub that is its default one.
        variables: Further ones of its environment.
    """

    def __init__(self, home: Path, endpoint: str, variables: Mapping[str, str]) -> None:
        home.mkdir(parents=True, exist_ok=True)
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_", "DECISION"))
        }
        own = {"HOME": str(home), "HF_ENDPOINT": endpoint, "PYTHONPATH": str(ROOT), **variables}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub.machine"],
            cwd=home,
            env={**kept, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def tell(self, order: str, *arguments: object) -> None:
        """Give an order, and do not wait; see `Desk`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([order, *arguments]) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Answer:
        """Wait for the answer to the oldest order that has none yet."""
        assert self._process.stdout is not None
        answer: Answer = json.loads(self._process.stdout.readline() or '{"error": "it died"}')
        return answer

    def do(self, order: str, *arguments: object) -> Answer:
        """Give an order that must succeed."""
        self.tell(order, *arguments)
        answer = self.hear()
        assert "error" not in answer, answer
        return answer


class Desk:
    """The side of the machine: its orders, and the algorithm that it has."""

    def __init__(self) -> None:
        self.algorithm: Any = None
        self.dialled = 0
        sys.addaudithook(self._listen)

    def _listen(self, event: str, _: tuple[object, ...]) -> None:
        self.dialled += event in ("socket.connect", "socket.getaddrinfo")

    def train(self, seed: int) -> Answer:
        """Train anew."""
        from tests.fixtures import tiny_algorithm, tiny_trajectories

        self.algorithm = tiny_algorithm(seed=seed).learn(tiny_trajectories(False), 2)
        return {}

    def learn(self, updates: int) -> Answer:
        """Learn on from what is there."""
        from tests.fixtures import tiny_trajectories

        self.algorithm.learn(tiny_trajectories(False), updates)
        return {}

    def push(self, name: str) -> Answer:
        """Push what is there."""
        made = self.algorithm.push_to_hub(name)
        return {"commit": made.commit, "changed": made.changed}

    def load(self, name: str) -> Answer:
        """Load by name."""
        import decision_policies

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.algorithm = decision_policies.load(name)
        return {"warnings": [str(warning.message) for warning in caught]}

    def act(self) -> Answer:
        """Act a few steps; the bits of the actions."""
        import numpy as np

        self.algorithm.reset()
        steps = [np.full(3, step, np.float32) for step in range(6)]
        taken = [self.algorithm.predict(step, reward=1.0)[0] for step in steps]
        return {"actions": b"".join(action.tobytes() for action in taken).hex()}

    def connections(self) -> Answer:
        """Tell how often a connection was looked for since this was last asked."""
        dialled, self.dialled = self.dialled, 0
        return {"dialled": dialled}


def main() -> None:
    """Do what is ordered until there is nobody who orders."""
    import torch

    torch.set_num_threads(1)
    desk = Desk()
    for line in sys.stdin:
        order, *arguments = json.loads(line)
        try:
            answer = getattr(desk, order)(*arguments)
        except Exception as error:  # the test asks which it was
            answer = {"error": type(error).__name__, "message": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
