"""A SuperLink killed in mid-run and started again with its database: the run comes to the same end."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.config import Config, Value
from localgd.federations import run_in_process
from localgd.processes import CONNECTION
from tests.e2e.data import RunFiles, assert_identical, write_federation
from tests.e2e.flower import alone, plain_environment, set_keys
from tests.faults.federations import begun, rows_written, thin_shards
from tests.faults.superlink import DurableFlower

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("flower"), pytest.mark.timeout(600)]

ROUNDS, CLIENTS = 3, 2


def test_a_killed_superlink_delays_a_run_and_changes_no_bit(tmp_path: Path) -> None:
    data = write_federation(tmp_path / "data", *thin_shards(CLIENTS, 12, 40))
    config = tmp_path / "config.toml"
    config.write_text(f'strategy = "cutting-plane"\nclients = {CLIENTS}\nnum-server-rounds = {ROUNDS}\n')
    out = tmp_path / "run"
    with alone(), DurableFlower() as flower:
        flower.environment = plain_environment(flower.environment)
        flower.start(tmp_path)
        for k in range(CLIENTS):
            flower.supernode(f"client-{k}", {"name": f"client-{k}", "data": str(data / f"client-{k}.npz")})
        command = [sys.executable, "-m", "localgd", "submit", config, CONNECTION, *set_keys(out=str(out))]
        with subprocess.Popen(
            list(map(str, command)),
            env=flower.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as submit:
            try:
                while submit.poll() is None and not (begun(out) and rows_written(out) >= 1):
                    time.sleep(0.05)
                flower.kill("superlink")
                rows = rows_written(out)
                time.sleep(2)
                flower.restart()
                assert submit.stdout is not None
                said = submit.stdout.read()
                assert submit.wait(300) == 0, said
            finally:
                submit.kill()
        assert rows < ROUNDS
    keys: dict[str, Value] = {
        "strategy": "cutting-plane",
        "dataset": "file",
        "data-dir": str(data),
        "reference": "none",
    }
    keys |= {"clients": CLIENTS, "num-server-rounds": ROUNDS, "out": str(tmp_path / "whole")}
    run_in_process(Config.of(keys))
    assert_identical(RunFiles(out), RunFiles(tmp_path / "whole"))
