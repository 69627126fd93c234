"""Mistakes on a SuperLink with SuperNodes, each with a data file of its own.

That a run gives the weights of one process is in `tests/faults/test_superlink.py`.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import Config
from common.errors import RunError
from localgd.processes import CONNECTION, FlowerProcesses
from localgd.submission import submit
from tests.e2e.flower import (
    alone,
    break_client,
    flower_processes,
    localgd,
    set_keys,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("flower"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def flower_alone() -> Iterator[None]:
    with alone():
        yield


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """The private files of two clients, beside a configuration."""
    directory = tmp_path_factory.mktemp("superlink")
    done = localgd("shard", "synthetic", "--clients", 2, "--out", directory / "shards", env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    (directory / "config.toml").write_text(
        'solver = "projection"\nclients = 2\nnum-server-rounds = 3\n', encoding="utf-8"
    )
    return directory


@pytest.fixture(scope="module")
def link(shards: Path, flower_alone: None) -> Iterator[FlowerProcesses]:
    """A SuperLink with two SuperNodes."""
    with flower_processes() as processes:
        processes.superlink()
        for k in range(2):
            path = shards / "shards" / f"client-{k}.npz"
            processes.supernode(f"client-{k}", {"name": f"client-{k}", "data": str(path)})
        yield processes


def test_a_client_that_raises_is_named(link: FlowerProcesses, shards: Path, monkeypatch) -> None:
    break_client(monkeypatch, "client-1")
    config = Config(solver="projection", dataset="file", clients=2, out=str(shards / "raises"))
    lines: list[str] = []
    with pytest.raises(RunError, match=r"round 1: client-1 failed: .*ValueError.*no luck.*its own log"):
        submit(config, CONNECTION, 120, lines.append, environment=link.environment)
    assert not [line for line in lines if "Traceback" in line]
    summary = json.loads((shards / "raises" / "summary.json").read_text())
    assert summary["stopped_by"] == "failed"


def test_too_few_nodes_are_waited_for_in_vain(link: FlowerProcesses, shards: Path) -> None:
    keys = set_keys(clients=5, min_clients=5, join_timeout=3, out=str(shards / "too-few"))
    began = time.monotonic()
    done = localgd("submit", shards / "config.toml", CONNECTION, *keys, env=link.environment)
    assert time.monotonic() - began < 60
    assert done.returncode == 1
    assert "waiting for clients, at most 3 s (join-timeout): 2 of 5 are here" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    [line] = done.stderr.splitlines()
    assert "only 2 of 5 clients came within join-timeout = 3 s" in line
    assert "start more, or lower clients" in line


def test_a_wrong_data_path_is_the_nodes_own_mistake(link: FlowerProcesses, shards: Path) -> None:
    node = link.supernode("lost", {"name": "clinic-3", "data": "/nowhere/train.npz"})
    keys = set_keys(clients=3, min_clients=3, join_timeout=60, out=str(shards / "lost"))
    done = localgd("submit", shards / "config.toml", CONNECTION, *keys, env=link.environment)
    node.terminate()
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    [line] = done.stderr.splitlines()
    assert "clinic-3: " in line
    assert "/nowhere/train.npz" in line
    assert not (shards / "lost").exists()


def test_an_unknown_connection_is_said_so(shards: Path, link: FlowerProcesses) -> None:
    done = localgd("submit", shards / "config.toml", "nobody", env=link.environment)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "'flwr run' on 'nobody' failed" in line
