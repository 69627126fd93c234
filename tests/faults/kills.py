"""Kill a process at a random moment, and hold what comes of it against the run that nobody has killed."""

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.e2e.data import RunFiles, assert_identical
from tests.faults.federations import Federation, begun, rows_written, sound_checkpoint
from tests.processes import Finished, Process

EVERY = 3
"""Rounds from one checkpoint to the next."""


EXIT_CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130, signal.SIGTERM: 143}


@dataclass(frozen=True)
class Moment:
    """When to kill, and how: after so many rows, and then this share of `EVERY` rounds' time."""

    rows: int
    later: float
    how: signal.Signals = signal.SIGKILL

    @classmethod
    def draw(cls, rng: np.random.Generator, rounds: int, how: signal.Signals = signal.SIGKILL) -> "Moment":
        """Draw one in a run of so many rounds; ``rows`` is −1 for as soon as there is a directory."""
        return cls(int(rng.integers(-1, rounds - EVERY)), float(rng.random()), how)


@dataclass(frozen=True)
class Killed:
    """The rows that a killed run had written, and the round it went on from, if there was one."""

    rows: int
    went_on_from: int | None


def kill_in_process(
    federation: Federation, keys: Mapping[str, Any], out: Path, whole: RunFiles, when: Moment
) -> Killed:
    """Kill `localgd run` and resume it; see `kill_on_stream`."""
    keys = {**keys, "checkpoint-every": EVERY}
    _kill(federation.run(keys, "--out", out), out, whole, when)
    killed = _look(out, when)
    _check(federation.run(keys, *_again(out, killed)).wait(), killed)
    assert_identical(RunFiles(out), whole)
    return killed


def kill_on_stream(
    federation: Federation, keys: Mapping[str, Any], out: Path, whole: RunFiles, when: Moment
) -> Killed:
    """Kill `localgd serve` and resume it; its clients find it again, but join anew if it said goodbye.

    Parameters
    ----------
    whole
        The same federation in one process that nobody has killed.

    Raises
    ------
    AssertionError
        When a file is damaged, a round lost that a checkpoint was due for, or the result another.
    """
    keys = {**keys, "checkpoint-every": EVERY}
    server = federation.serve(keys, "--out", out)
    clients = [federation.join(k) for k in range(federation.clients)]
    _kill(server, out, whole, when)
    killed = _look(out, when)
    if when.how != signal.SIGKILL:
        for client in clients:
            ended = client.wait()
            assert (ended.code, ended.stderr) == (1, "localgd: the server was interrupted\n"), ended
        clients = [federation.join(k) for k in range(federation.clients)]
    _check(federation.serve(keys, *_again(out, killed)).wait(), killed)
    for client in clients:
        ended = client.wait()
        assert (ended.code, ended.stderr) == (0, ""), ended
    assert_identical(RunFiles(out), whole)
    return killed


def kill_client(
    federation: Federation, keys: Mapping[str, Any], out: Path, whole: RunFiles, when: Moment, k: int
) -> int:
    """Kill a client of a served run and start it anew; return how many rows there were."""
    server = federation.serve(keys, "--out", out)
    clients = [federation.join(k) for k in range(federation.clients)]
    _kill(clients[k], out, whole, when)
    rows = rows_written(out)
    clients[k] = federation.join(k)
    done = server.wait()
    assert (done.code, done.stderr) == (0, ""), done
    assert f"client client-{k} is gone" in done.stdout
    assert f"client client-{k} is back" in done.stdout
    for client in clients:
        ended = client.wait()
        assert (ended.code, ended.stderr) == (0, ""), ended
    assert_identical(RunFiles(out), whole)
    return rows


def _kill(process: Process, out: Path, whole: RunFiles, when: Moment) -> None:
    while process.running() and (not begun(out) or rows_written(out) < when.rows):
        time.sleep(0.001)
    typical = float(np.median([row["seconds"]["total"] for row in whole.rows]))
    time.sleep(when.later * EVERY * typical)
    assert process.running(), f"it ended before it could be killed: {process.wait()}"
    process.signal(when.how)
    done = process.wait()
    assert done.code == EXIT_CODES[when.how], done
    assert "Traceback" not in done.stderr
    if when.how == signal.SIGINT:
        assert done.stderr == "localgd: interrupted\n"


def _look(out: Path, when: Moment) -> Killed:
    killed = Killed(rows_written(out), sound_checkpoint(out, EVERY))
    if when.how != signal.SIGKILL and killed.went_on_from is not None:
        assert RunFiles(out).json("summary.json")["stopped_by"] == "interrupted"
        assert killed.went_on_from >= killed.rows, "a round is lost"
    return killed


def _again(out: Path, killed: Killed) -> tuple[object, ...]:
    return ("--out", out) if killed.went_on_from is None else ("--resume", out)


def _check(done: Finished, killed: Killed) -> None:
    assert (done.code, done.stderr) == (0, ""), done
    if killed.went_on_from is not None:
        assert f"going on from the checkpoint of round {killed.went_on_from}\n" in done.stdout
