"""Servers and clients that are killed at random moments: `make faults` kills 50 and 20 of them."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from common.geometry import angle
from tests.e2e.data import RunFiles
from tests.faults.effort import CLIENTS_KILLED, INTERRUPTED, SERVERS_KILLED
from tests.faults.federations import KINDS, Federation
from tests.faults.kills import Moment, kill_client, kill_in_process, kill_on_stream
from tests.processes import Processes

pytestmark = pytest.mark.xdist_group("kills")

CLIENTS, ROUNDS = 2, 40

Whole = Callable[[str], RunFiles]


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Processes(tmp_path_factory.mktemp("kills")) as processes:
        yield Federation.make(processes, CLIENTS)


@pytest.fixture(autouse=True)
def alone(federation: Federation) -> Iterator[None]:
    """Let no client of a test that failed join the next one's server, on the same port."""
    yield
    for process in federation.processes.started:
        if process.running():
            process.end()


@pytest.fixture(scope="module")
def whole(federation: Federation) -> Whole:
    """A run that nobody has killed, of each kind."""
    runs: dict[str, RunFiles] = {}

    def run(kind: str) -> RunFiles:
        if kind not in runs:
            out = federation.data / kind
            done = federation.run(keys(kind), "--out", out).wait()
            assert done.code == 0, done
            runs[kind] = RunFiles(out)
        return runs[kind]

    return run


def keys(kind: str) -> dict:
    return {**KINDS[kind], "num-server-rounds": ROUNDS}


@pytest.mark.parametrize("number", range(SERVERS_KILLED))
def test_a_killed_server_goes_on_to_the_same_bits(
    number: int, federation: Federation, whole: Whole, tmp_path: Path
) -> None:
    """No file is damaged, no round lost that a checkpoint was due for; clients of a served run stay."""
    kind, way = list(KINDS)[number % len(KINDS)], (kill_in_process, kill_on_stream)[number % 2]
    when = Moment.draw(np.random.default_rng(number), ROUNDS)
    killed = way(federation, keys(kind), tmp_path / "run", whole(kind), when)
    print(f"{way.__name__}, {kind}, {when}: {killed}")


@pytest.mark.parametrize("number", range(INTERRUPTED))
def test_an_interrupted_server_loses_no_round(
    number: int, federation: Federation, whole: Whole, tmp_path: Path
) -> None:
    how = (signal.SIGINT, signal.SIGTERM)[number % 2]
    kind, way = list(KINDS)[number % len(KINDS)], (kill_on_stream, kill_in_process)[number % 2]
    when = Moment.draw(np.random.default_rng(2000 + number), ROUNDS, how)
    killed = way(federation, keys(kind), tmp_path / "run", whole(kind), when)
    print(f"{way.__name__}, {kind}, {when}: {killed}")


@pytest.mark.parametrize("number", range(CLIENTS_KILLED))
def test_a_killed_client_that_starts_again_changes_no_bit(
    number: int, federation: Federation, whole: Whole, tmp_path: Path
) -> None:
    kind = list(KINDS)[number % len(KINDS)]
    when = Moment.draw(np.random.default_rng(1000 + number), ROUNDS)
    rows = kill_client(federation, keys(kind), tmp_path / "run", whole(kind), when, k=number % CLIENTS)
    print(f"client-{number % CLIENTS}, {kind}, {when}: after {rows} rows")


def test_a_run_goes_on_without_a_client_and_takes_it_back(
    federation: Federation, whole: Whole, tmp_path: Path
) -> None:
    """Nothing is certified while it is away, so a run that ends by its certificate has it back."""
    out, patient = tmp_path / "run", {"on-missing": "skip", "min-clients": 1, "join-timeout": 1}
    begun = KINDS["cutting-plane"] | {"num-server-rounds": 2, **patient}
    server = federation.serve(begun | {"join-timeout": 60}, "--out", out)
    clients = [federation.join(k) for k in range(CLIENTS)]
    assert [process.wait().code for process in (server, *clients)] == [0, 0, 0]
    longer = begun | {"num-server-rounds": 100_000, "stop-at-certified-angle": 1e-3}
    steady = federation.join(0)
    server = federation.serve(longer, "--resume", out)
    server.wait_for("not here: client-1; on-missing = skip: it begins without")
    late = federation.join(1)
    for process in (server, steady, late):
        done = process.wait()
        assert (done.code, done.stderr) == (0, ""), done
    assert "client-1 is back" in server.stdout()
    run, exact = RunFiles(out), whole("cutting-plane")
    assert [row["missing"] for row in run.rows[:2]] == [[], ["client-1"]]
    assert {row["certified_angle_deg"] for row in run.rows if row["missing"]} == {180.0}
    assert run.json("summary.json")["stopped_by"] == "certified-angle"
    assert angle(run.weights, exact.weights) <= 2e-3
