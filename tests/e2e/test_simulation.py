"""The same app in Flower's simulation."""

import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import Config
from common.errors import RunError
from localgd.federations import run_in_process
from localgd.processes import CONNECTION, marked
from localgd.submission import submit
from tests.e2e.flower import (
    alone,
    assert_same_weights,
    break_client,
    flower_processes,
    localgd,
    plain_environment,
    rows,
    set_keys,
    weights,
)

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("flower"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="Ray's simulation is experimental there"),
]


@pytest.fixture(scope="module", autouse=True)
def flower_alone() -> Iterator[None]:
    with alone():
        yield


def simulate(tmp_path: Path, **keys) -> tuple[int, str, str]:
    """Simulate a small federation and check that nothing is left of it."""
    config = tmp_path / "config.toml"
    config.write_text('solver = "projection"\ndataset = "synthetic"\n', encoding="utf-8")
    mark = secrets.token_hex(8)
    options = [*set_keys(**keys), "--out", tmp_path / "simulated", "--timeout", 200]
    done = localgd("simulate", config, *options, env=plain_environment(LOCALGD_MARK=mark), timeout=250)
    assert not marked(f"LOCALGD_MARK={mark}")
    return done.returncode, done.stdout, done.stderr


def test_a_run_goes_on_in_the_simulation(tmp_path: Path) -> None:
    keys = {"solver": "projection", "dataset": "synthetic"}
    run_in_process(Config.of({**keys, "num-server-rounds": 3, "out": str(tmp_path / "begun")}))
    run_in_process(Config.of({**keys, "num-server-rounds": 20, "out": str(tmp_path / "whole")}))
    config = tmp_path / "config.toml"
    config.write_text("".join(f'{key} = "{value}"\n' for key, value in keys.items()), encoding="utf-8")
    options = [*set_keys(num_server_rounds=20), "--resume", tmp_path / "begun", "--timeout", 200]
    done = localgd("simulate", config, *options, env=plain_environment(), timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["round"] for row in rows(tmp_path / "begun")] == list(range(1, 21))
    assert all(row["true_angle_deg"] <= row["certified_angle_deg"] for row in rows(tmp_path / "begun"))
    ours, theirs = weights(tmp_path / "begun"), weights(tmp_path / "whole")
    assert np.linalg.norm(ours - theirs) <= 1e-9 * np.linalg.norm(theirs)


def test_the_weights_are_those_of_one_process_with_a_hundred_clients(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"clients": 100, "min_shard": 1, "partition": "iid", "num_server_rounds": 2}
    code, said, complaint = simulate(tmp_path, **keys)
    assert code == 0, said + complaint
    assert [row["clients"] for row in rows(tmp_path / "simulated")] == [100, 100]
    config = Config(solver="projection", dataset="synthetic", out=str(tmp_path / "one-process"), **keys)
    assert_same_weights(tmp_path / "simulated", config)


def test_a_request_to_end_leaves_nothing_either(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('solver = "projection"\ndataset = "synthetic"\n', encoding="utf-8")
    mark = secrets.token_hex(8)
    command = [sys.executable, "-m", "localgd", "simulate", config, "-c", "num-server-rounds=100000"]
    with subprocess.Popen(
        [*map(str, command), "--out", str(tmp_path / "simulated")],
        env=plain_environment(LOCALGD_MARK=mark),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any("the results go to" in line for line in process.stdout)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not marked(f"LOCALGD_MARK={mark}")


def test_mistakes_end_the_run_with_one_line(tmp_path: Path, monkeypatch) -> None:
    config = Config(solver="projection", dataset="synthetic", out=str(tmp_path / "wrong-size"))
    lines: list[str] = []
    with flower_processes() as processes:
        processes.superlink(simulation=True)
        with pytest.raises(RunError, match=r"num-supernodes = 4, but clients = 6; .*'num-supernodes=6'"):
            submit(config, CONNECTION, 120, lines.append, "num-supernodes=4", processes.environment)
        assert not [line for line in lines if "Traceback" in line]
        assert not (tmp_path / "wrong-size").exists()

        break_client(monkeypatch, "client-4")
        size = "num-supernodes=6 client-resources-num-cpus=1"
        with pytest.raises(RunError, match=r"round 1: client-4 failed: .*no luck; its own log"):
            submit(config, CONNECTION, 120, lines.append, size, processes.environment)
