"""Checkpoints: what a run needs to go on as if nothing had happened, on disk whole or not at all."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from logging import WARNING
from pathlib import Path
from typing import Any

import numpy as np
from flwr.common.logger import log
from numpy.typing import NDArray

from common.config import Config, Value, defaults
from common.errors import UserError
from common.federation import Client, Federation
from common.files import remove_leftovers, sync_names, whole
from common.geometry import Certificate
from common.handshake import Preparation
from common.scaling import Scaling
from common.solution import Answer, LocalSolution, Measures, Part
from server import encoding
from server.monitor import Monitor, MonitorState
from strategies import Callback, Costs, LocalSolveStrategy, Turnout
from strategies.consensus import ConsensusState
from strategies.cuts import Cut
from strategies.cutting_plane import CutState
from strategies.local_gd import AverageState
from strategies.modified_local_gd import AnchoredState

Vector = NDArray[np.float64]

KEPT = 2
"""So many checkpoints stay: should the newest be damaged, the one before is used."""

FREE = (
    "num-server-rounds", "stop-at-certified-angle", "round-timeout", "join-timeout", "checkpoint-every",
    "tensorboard", "out", "resume", "on-missing", "min-clients", "max-bad-replies",
    "max-message-bytes",
)  # fmt: skip
"""The keys that may have changed when a run goes on: they change no round in which everybody answers well."""


@dataclass(frozen=True)
class Origin:
    """What a checkpoint builds on: with the same a run goes on from it.

    ``federation`` is who takes part with which data, and how all prepare their rows.
    """

    config: Mapping[str, Value]
    federation: Federation


@dataclass(frozen=True)
class Checkpoint:
    """A run after the combine of round ``number``: the strategy's state, the monitor's, the time it took.

    ``last`` has each client's last answer, where those count again that are missing.
    The row of round ``number`` is not written yet: the next answers measure its model.
    """

    number: int
    state: Any
    monitor: MonitorState
    seconds: float
    origin: Origin
    last: Mapping[str, Answer] = field(default_factory=dict)


CLASSES = (
    Checkpoint, Origin, Federation, Client, Preparation, Scaling, MonitorState, Certificate,
    AverageState, AnchoredState, CutState, Cut, ConsensusState,
    Answer, LocalSolution, Measures, Part,
)  # fmt: skip
"""All that a checkpoint may be made of."""


class Checkpoints(Callback):
    """Write a checkpoint every so many rounds; `write` does it at once.

    What a round leaves is immutable, so the newest complete one is at hand at any moment, in the middle of a
    round too.

    Parameters
    ----------
    folder
        Where they go; made when the first is written.
    every
        Rounds from one to the next; 0 for only when `write` is called.
    began
        When the run began, on the clock of `time.perf_counter`.
    sync
        Called before a checkpoint is written: makes the rows that it follows on durable.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        strategy: LocalSolveStrategy[Any],
        monitor: Monitor,
        origin: Origin,
        began: float,
        sync: Callable[[], None],
    ) -> None:
        self.folder, self.every, self.origin, self.began, self.sync = folder, every, origin, began, sync
        self.strategy, self.monitor = strategy, monitor
        self._newest: Checkpoint | None = None
        self._written = -1

    @property
    def number(self) -> int:
        """The round of the newest checkpoint on disk."""
        return self._written

    def begin(self, number: int, state: Any) -> None:
        """Take the round to start from; before round 1 on disk too, so that any run that began can go on."""
        self._take(number, state)
        if number:
            self._written = number
            for path in files(self.folder):  # damaged ones, which are not to count among those that stay
                if path.name > file_name(number):
                    path.unlink(missing_ok=True)
        self.write()

    def combined(
        self, number: int, weights: Vector, dual_mass: float, turnout: Turnout, costs: Costs
    ) -> None:
        """Keep the round at hand, and on disk if it is its turn."""
        self._take(number, self.strategy.state)
        if self.every and number % self.every == 0:
            self.write()

    def changed(self, client: str, federation: Federation) -> None:
        """Have runs that go on from here expect the clients' data of today."""
        self.origin = replace(self.origin, federation=federation)

    def write(self) -> None:
        """Put the newest complete round on disk; a disk that is full does not end the run."""
        newest = self._newest
        if newest is None or newest.number == self._written:
            return
        try:
            self.sync()
            save(self.folder, newest)
        except OSError as error:
            log(WARNING, "round %d: cannot write a checkpoint: %s", newest.number, error.strerror)
        else:
            self._written = newest.number

    def _take(self, number: int, state: Any) -> None:
        seconds = time.perf_counter() - self.began
        self._newest = Checkpoint(number, state, self.monitor.state, seconds, self.origin, self.strategy.last)


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, whole or not at all, and remove all but the newest ones."""
    if not folder.is_dir():
        folder.mkdir()
        sync_names(folder.parent)
    path = folder / file_name(checkpoint.number)
    content = encoding.dump(checkpoint, CLASSES)
    with whole(path, mode=0o600) as file:  # what it holds can be single examples
        file.write(content)
    for stale in files(folder)[:-KEPT]:
        stale.unlink(missing_ok=True)
    remove_leftovers(folder)
    return path


def file_name(number: int) -> str:
    """Return what the checkpoint of a round is called."""
    return f"round-{number:08d}"


def files(folder: Path) -> list[Path]:
    """List the checkpoints, the oldest first."""
    return sorted(folder.glob("round-*"))


def earlier(config: Config) -> Checkpoint | None:
    """Return where the run of ``resume`` goes on, if that is given.

    Raises
    ------
    UserError
        When it cannot, or not with this configuration.
    """
    if not config.resume:
        return None
    if config.built_in:
        raise UserError(
            f"strategy = '{config.strategy}' cannot be resumed: what Flower's own strategies remember is not "
            "written to checkpoints"
        )
    checkpoint = newest(Path(config.resume))
    check_config(checkpoint, config)
    return checkpoint


def newest(run: Path) -> Checkpoint:
    """Return the newest checkpoint of a run directory that is whole, and say which are not.

    Raises
    ------
    UserError
        When there is none.
    """
    damaged: list[str] = []
    for path in reversed(files(run / "checkpoint")):
        try:
            checkpoint = encoding.load(path.read_bytes(), CLASSES)
        except (OSError, ValueError) as error:
            damaged.append(f"{path.name}: {error.strerror if isinstance(error, OSError) else error}")
            continue
        for line in damaged:
            log(WARNING, "checkpoint %s; the one before, of round %d, is used", line, checkpoint.number)
        if not isinstance(checkpoint, Checkpoint):
            raise UserError(f"resume = '{run}': {path.name} is no checkpoint of this version")
        return checkpoint
    if not run.is_dir():
        raise UserError(f"resume = '{run}': no such directory")
    why = "; ".join(damaged) or "it has not begun its first round"
    raise UserError(f"resume = '{run}' holds no checkpoint to go on from: {why}")


def check_config(checkpoint: Checkpoint, config: Config) -> None:
    """Refuse a configuration with which a run cannot go on.

    Raises
    ------
    UserError
        Names the key and both its values.
    """
    now, then = config.values(), defaults() | dict(checkpoint.origin.config)
    for name, value in now.items():
        if name not in FREE and then[name] != value:
            raise UserError(
                f"resume = '{config.resume}': {name} is {value!r} now and was {then[name]!r} then; a run "
                f"goes on only as it began, but for {', '.join(FREE)}"
            )
