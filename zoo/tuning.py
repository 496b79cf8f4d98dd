"""A study that several processes share: one file, in which no trial is lost or run twice."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from .benchmark_rows import lock
from .tuning_space import draw

BEGINNING = b'{"op_code"'
"""Of each line of a journal."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class WholeLines:
    """Lets one process at a time write to a journal, and a dead one leave no half line.

    Unlike optuna's own locks it needs no time to notice that its holder has died.

    Args:
        path: The journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Waits for the others, and cuts off what a dead one has begun to write."""
        self._held = self.path.open("r+b")
        fcntl.flock(self._held, fcntl.LOCK_EX)
        content = self._held.read()
        self._held.truncate(content.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Lets the others in."""
        if self._held is not None:
            self._held.close()
            self._held = None


@dataclass(frozen=True)
class SharedStudy:
    """A study, as one of the processes that work at it sees it.

    Attributes:
        storage: The journal: a line of JSON for each event.
        name: Of the study; a journal may hold several.
        settings: What decides what a trial is; it must be the same in all processes.
        search: Hyper-parameters to draw.
        seed: Of the draws.
        startup: Trials that are drawn at random, and not stopped early.
    """

    storage: Path
    name: str
    settings: Mapping[str, Any]
    search: list[str]
    seed: int
    startup: int
    _running: dict[int, ExitStack] = field(default_factory=dict, init=False)

    @cached_property
    def study(self) -> optuna.Study:
        """The study of optuna's; made by the first process, joined by the others.

        Raises:
            ValueError: The file is no journal, or the study was begun with other settings.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.storage.parent.mkdir(parents=True, exist_ok=True)
        self.storage.touch()
        with self._turn():
            made = self._opened()
            known = made.user_attrs.get("settings")
            if known is None:
                made.set_user_attr("settings", dict(self.settings))
        if known not in (None, self.settings):
            there, here = _flat(known), _flat(self.settings)
            odd = [name for name in there | here if there.get(name) != here.get(name)]
            said = "; ".join(f"{name} is {there.get(name)!r}" for name in odd)
            raise ValueError(
                f"the study {self.name!r} in {self.storage} was begun with other settings "
                f"({said}): repeat them, or begin another by --study-name"
            )
        return made

    def _opened(self) -> optuna.Study:
        """Opens the study, or makes it; a file that is something else stays as it is."""
        with self.storage.open("rb") as file:
            start = file.read(len(BEGINNING))
        try:
            if not BEGINNING.startswith(start):
                raise ValueError("its first line is none")
            lines = WholeLines(self.storage)
            backend = JournalFileBackend(str(self.storage), lines)  # type: ignore[arg-type]
            options: Any = {
                "study_name": self.name,
                "storage": JournalStorage(backend),
                "pruner": optuna.pruners.MedianPruner(self.startup),
            }
            if self.name in optuna.get_all_study_names(options["storage"]):
                return optuna.load_study(**options)
            return optuna.create_study(direction="maximize", **options)
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{self.storage} is no journal of optuna's: {error}") from error

    def finished(self) -> list[FrozenTrial]:
        """Trials that have come to an end, or were stopped early; in order."""
        return self.study.get_trials(deepcopy=False, states=FINISHED)

    def claim(self, trials: int) -> Trial | None:
        """Takes the next trial: one that a dead process has left, else a new one.

        Args:
            trials: Trials of the study in all, over all processes.

        Returns:
            The trial, with its values drawn; None where all are finished, or run elsewhere.
        """
        study, counted = self.study, (*FINISHED, TrialState.RUNNING)
        with self._turn():
            self._recover()
            taken = len(study.get_trials(deepcopy=False, states=counted))
            if taken >= trials:
                return None
            # By the trials so far: the same draws, however many processes and interruptions.
            study.sampler = optuna.samplers.TPESampler(
                seed=self.seed * 1_000_003 + taken, n_startup_trials=self.startup
            )
            trial = study.ask()
            draw(trial, self.search)
            held = self._running[trial.number] = ExitStack()
            held.enter_context(lock(self._mark(trial.number)))
        return trial

    def tell(self, trial: Trial, value: float | None) -> None:
        """Writes down what came of a trial; None: it was stopped early."""
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        with self._turn():
            self.study.tell(trial, value, state)
            self.leave(trial)

    def leave(self, trial: Trial) -> None:
        """Lets go of a trial; unless its end was told, the next process takes it over."""
        self._running.pop(trial.number).close()
        self._mark(trial.number).unlink(missing_ok=True)

    def _recover(self) -> None:
        """Puts the trials of dead processes back, to be run with the values that they have."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number in self._running:
                continue
            try:
                with lock(self._mark(trial.number)):
                    pass
            except ValueError:
                continue  # it runs in another process
            self._mark(trial.number).unlink(missing_ok=True)
            self.study.tell(trial.number, state=TrialState.FAIL)
            self.study.enqueue_trial(trial.params)

    def _mark(self, number: int) -> Path:
        """The file that is locked while a trial runs; a process that dies lets go of it."""
        return self.storage.with_name(f".{self.storage.name}.{self.name}.{number}.lock")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Lets one process at a time take or end trials; the others wait."""
        with self.storage.with_name(f".{self.storage.name}.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Name settings inside of settings by a path, such as plan.updates."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = value if isinstance(value, Mapping) else {}
        flat |= {f"{name}.{key}": each for key, each in inner.items()} or {name: value}
    return flat
