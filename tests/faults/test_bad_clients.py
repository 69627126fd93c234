"""Clients that answer wrongly, twice or not at all: each run ends as its policy says, and names them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.data import RunFiles, assert_identical
from tests.faults.effort import ALL
from tests.faults.federations import Federation
from tests.processes import Finished, Processes

pytestmark = pytest.mark.xdist_group("kills")

FIRST = 3
"""The round from which on the client misbehaves."""

ALTERED = f"""
import dataclasses, math, time
import client.app as module
solve = module.solve
def altered(problem, centre, settings, name, number, k):
    solution = solve(problem, centre, settings, name, number, k)
    if number < {FIRST}:
        return solution
    def change(displacement):
        {{}}
    parts = (dataclasses.replace(p, displacement=change(p.displacement)) for p in solution.parts)
    return dataclasses.replace(solution, parts=tuple(parts))
module.solve = altered
"""
NAN = ALTERED.format("return displacement * math.nan")
HUGE = ALTERED.format("return displacement * 1e6")
HANGING = ALTERED.format("time.sleep(1e6)")
TWICE = """
import client.stream
class Twice(client.stream.SimpleQueue):
    def put(self, frames):
        if frames is None:
            return super().put(None)
        frames = list(frames)  # which pass once
        super().put(frames)
        super().put(frames)
client.stream.SimpleQueue = Twice
"""

ROUNDS = 8
KEYS = {
    "strategy": "modified-local-gd",
    "solver": "projection",
    "num-server-rounds": ROUNDS,
    "min-clients": 1,
}


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Processes(tmp_path_factory.mktemp("bad")) as processes:
        yield Federation.make(processes, clients=2)


def served(federation: Federation, out: Path, before: str, **keys: object) -> Finished:
    """Serve a run in which client-1 is another program than it should be."""
    named = {key.replace("_", "-"): value for key, value in keys.items()}
    server = federation.serve({**KEYS, **named}, "--out", out)
    clients = [federation.join(0), federation.join(1, before=before)]
    done = server.wait()
    assert clients[0].wait().code == done.code
    clients[1].end()
    assert "Traceback" not in done.stdout + done.stderr
    return done


BAD = {
    "nan": (NAN, "client-1 answered badly: its displacement is not finite"),
    "huge": (HUGE, "client-1 answered badly: its displacement has length"),
    "hanging": (HANGING, "client-1 did not answer within 2 s"),
}
ENDED = ["huge", "nan", "hanging"]
GONE_ON = [
    ("nan", "skip"),
    ("hanging", "reuse"),
    ("nan", "reuse"),
    ("huge", "skip"),
    ("huge", "reuse"),
    ("hanging", "skip"),
]


@pytest.mark.parametrize("kind", ENDED if ALL else ENDED[:1])
def test_with_wait_the_run_ends(kind: str, federation: Federation, tmp_path: Path) -> None:
    before, told = BAD[kind]
    done = served(federation, tmp_path / "run", before, on_missing="wait", round_timeout=2.0)
    assert done.code == 1
    [line] = done.stderr.splitlines()
    assert f"round {FIRST}: {told}" in line
    summary = RunFiles(tmp_path / "run").json("summary.json")
    assert (summary["stopped_by"], summary["rounds"]) == ("failed", FIRST - 2)


@pytest.mark.parametrize(("kind", "policy"), GONE_ON if ALL else GONE_ON[:2])
def test_otherwise_it_goes_on(kind: str, policy: str, federation: Federation, tmp_path: Path) -> None:
    before, told = BAD[kind]
    done = served(federation, tmp_path / "run", before, on_missing=policy, round_timeout=2.0)
    assert (done.code, done.stderr) == (0, "")
    assert f"round {FIRST}: {told}" in done.stdout
    run = RunFiles(tmp_path / "run")
    with_it = FIRST - 2  # the model of the round before is measured in this one
    assert [row["missing"] for row in run.rows] == [[]] * with_it + [["client-1"]] * (ROUNDS - with_it)
    assert {row["margin"] for row in run.rows[with_it:]} == {None}, "nobody knows it on the client's data"
    if kind != "hanging":
        assert "client-1 takes no part any more" in done.stdout
        assert run.json("summary.json")["refused"] == {"client-1": 3}


def test_one_that_answers_twice_changes_nothing(federation: Federation, tmp_path: Path) -> None:
    few = {**KEYS, "num-server-rounds": 4}
    whole = federation.run(few, "--out", tmp_path / "whole")
    done = served(federation, tmp_path / "run", TWICE, num_server_rounds=4)
    assert (done.code, done.stderr) == (0, "")
    assert "client client-1 answered " in done.stdout
    assert " unasked, or twice (1 such)" in done.stdout
    assert whole.wait().code == 0
    assert_identical(RunFiles(tmp_path / "run"), RunFiles(tmp_path / "whole"))


JUMPS = """
import itertools, time
clock, calls = time.time, itertools.count()
time.time = lambda: clock() + (864_000 if next(calls) > 30 else -864_000)
"""


def test_a_clock_that_jumps_changes_nothing(federation: Federation, tmp_path: Path) -> None:
    """A client's and the server's: ten days in the past at first, then ten in the future."""
    few = {**KEYS, "num-server-rounds": 4}
    whole = federation.run(few, "--out", tmp_path / "whole")
    server = federation.serve(few, "--out", tmp_path / "run", before=JUMPS)
    clients = [federation.join(0), federation.join(1, before=JUMPS)]
    for process in (server, *clients):
        ended = process.wait()
        assert (ended.code, ended.stderr) == (0, ""), ended
    assert whole.wait().code == 0
    assert_identical(RunFiles(tmp_path / "run"), RunFiles(tmp_path / "whole"))


@pytest.mark.skipif(not ALL, reason="one more of its kind: make faults")
def test_one_that_keeps_answering_twice_is_left_out(federation: Federation, tmp_path: Path) -> None:
    done = served(
        federation, tmp_path / "run", TWICE, num_server_rounds=30, on_missing="skip", round_timeout=2.0
    )
    assert (done.code, done.stderr) == (0, "")
    assert "client client-1 is left out from now on" in done.stdout
    assert RunFiles(tmp_path / "run").rows[-1]["missing"] == ["client-1"]
