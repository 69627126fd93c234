"""Flower's own processes killed in mid-run: the run comes to the same end, or goes on as its policy says."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import Config, Value
from common.geometry import angle
from localgd.federations import run_in_process
from localgd.processes import CONNECTION
from tests.e2e.data import RunFiles, assert_identical, write_federation
from tests.e2e.flower import alone, plain_environment, set_keys
from tests.faults.effort import ALL
from tests.faults.federations import begun, rows_written, thin_shards
from tests.faults.superlink import DurableFlower

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("flower"), pytest.mark.timeout(600)]

ROUNDS, CLIENTS = 3, 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clients' files."""
    return write_federation(tmp_path_factory.mktemp("data"), *thin_shards(CLIENTS, 12, 40))


@pytest.fixture(scope="module")
def flower(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DurableFlower]:
    """A SuperLink that can be killed, and a SuperNode for each client."""
    with alone(), DurableFlower() as flower:
        flower.environment = plain_environment(flower.environment)
        flower.start(tmp_path_factory.mktemp("link"))
        for k in range(CLIENTS):
            start_node(flower, data, k, f"client-{k}")
        yield flower


def start_node(flower: DurableFlower, data: Path, k: int, log: str) -> None:
    """Start a client's SuperNode, whose log has a name of its own."""
    flower.supernode(log, {"name": f"client-{k}", "data": str(data / f"client-{k}.npz")})


@contextlib.contextmanager
def submitted(
    flower: DurableFlower, out: Path, place: str = "out", /, **keys: Value
) -> Iterator[subprocess.Popen[str]]:
    """Hand a run to the SuperLink, into a new directory or, with ``place`` "resume", to go on in one."""
    config = out.with_suffix(".toml")
    config.write_text(f'strategy = "cutting-plane"\nclients = {CLIENTS}\n')
    command = [
        sys.executable,
        "-m",
        "localgd",
        "submit",
        config,
        CONNECTION,
        *set_keys(**{place: str(out)}, **keys),
    ]
    with subprocess.Popen(
        [*map(str, command), "--timeout", "300"],
        env=flower.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as submit:
        try:
            yield submit
        finally:
            submit.kill()


def wait_for(submit: subprocess.Popen[str], out: Path, rows: int) -> None:
    """Wait until the run has written so many rows."""
    while submit.poll() is None and not (begun(out) and rows_written(out) >= rows):
        time.sleep(0.05)


def said_by(submit: subprocess.Popen[str]) -> str:
    """Wait until it has ended well, and return what it has said."""
    assert submit.stdout is not None
    said = submit.stdout.read()
    assert submit.wait(60) == 0, said
    return said


def in_one_process(data: Path, out: Path, **keys: Value) -> RunFiles:
    """Make the run that nobody has killed."""
    values: dict[str, Value] = {"strategy": "cutting-plane", "dataset": "file", "reference": "none"}
    values |= {"data-dir": str(data), "out": str(out)} | {k.replace("_", "-"): v for k, v in keys.items()}
    run_in_process(Config.of(values))
    return RunFiles(out)


def test_a_killed_superlink_delays_a_run_and_changes_no_bit(
    flower: DurableFlower, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with submitted(flower, out, num_server_rounds=ROUNDS) as submit:
        wait_for(submit, out, rows=1)
        flower.kill("superlink")
        rows = rows_written(out)
        time.sleep(2)
        flower.restart()
        said = said_by(submit)
    assert rows < ROUNDS
    assert f"the results go to {out}" in said
    whole = in_one_process(data, tmp_path / "whole", clients=CLIENTS, num_server_rounds=ROUNDS)
    assert_identical(RunFiles(out), whole)


def test_a_run_goes_on_without_a_killed_supernode_and_takes_it_back(
    flower: DurableFlower, data: Path, tmp_path: Path
) -> None:
    """Nothing is certified while it is away, so a run that ends by its certificate has it back."""
    out = tmp_path / "run"
    keys: dict[str, Value] = {"on_missing": "skip", "min_clients": 1, "round_timeout": 25}
    with submitted(flower, out, **keys, stop_at_certified_angle=70, num_server_rounds=100) as submit:
        wait_for(submit, out, rows=0)
        flower.kill("client-1")
        start_node(flower, data, 1, "client-1-again")
        said = said_by(submit)
    assert "client-1 did not answer within 25 s; on-missing = skip: it goes on without" in said
    assert "client-1 is back" in said
    run = RunFiles(out)
    *before, last = run.rows
    without = {(*row["missing"], row["certified_angle_deg"]) for row in before if row["missing"]}
    assert without == {("client-1", 180.0)}
    assert last["missing"] == last["without"] == []
    assert run.json("summary.json")["stopped_by"] == "certified-angle"
    exact = in_one_process(data, tmp_path / "exact", num_server_rounds=5)
    assert angle(run.weights, exact.weights) <= last["certified_angle_deg"] <= 70


@pytest.mark.skipif(not ALL, reason="Flower takes a minute to notice; make faults waits for it")
def test_a_run_that_waits_changes_no_bit_when_a_supernode_is_killed(
    flower: DurableFlower, data: Path, tmp_path: Path
) -> None:
    """Nor does a resume."""
    out = tmp_path / "run"
    with submitted(flower, out, num_server_rounds=ROUNDS) as submit:
        wait_for(submit, out, rows=1)
        flower.kill("client-0")
        start_node(flower, data, 0, "client-0-again")
        said = said_by(submit)
    assert "client-0 is back" in said
    with submitted(flower, out, "resume", num_server_rounds=ROUNDS + 2) as submit:
        assert f"going on from the checkpoint of round {ROUNDS}" in said_by(submit)
    whole = in_one_process(data, tmp_path / "whole", clients=CLIENTS, num_server_rounds=ROUNDS + 2)
    assert_identical(RunFiles(out), whole)
