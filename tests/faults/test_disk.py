"""A disk that fills up: said in one line, nothing half-written, and the run goes on once there is room."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.data import RunFiles, assert_identical
from tests.faults.federations import KINDS, Federation, sound_checkpoint
from tests.processes import Processes

# No file may grow any larger, which fails as a full disk does; coverage may write its own at the end.
FULL = """
import atexit, resource
most = resource.getrlimit(resource.RLIMIT_FSIZE)
atexit.register(resource.setrlimit, resource.RLIMIT_FSIZE, most)
resource.setrlimit(resource.RLIMIT_FSIZE, ({}, most[1]))
"""


@pytest.fixture
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with Processes(tmp_path_factory.mktemp("disk")) as processes:
        yield processes


def test_without_room_for_rows_the_run_ends_and_goes_on_later(processes: Processes, tmp_path: Path) -> None:
    federation = Federation.make(processes, clients=2)
    keys = {**KINDS["projection"], "num-server-rounds": 40, "checkpoint-every": 7}
    whole = federation.run(keys, "--out", tmp_path / "whole")
    failed = federation.run(keys, "--out", tmp_path / "run", before=FULL.format(10_000)).wait()
    assert failed.code == 1
    [line] = failed.stderr.splitlines()
    assert line.startswith(f"localgd: cannot write to '{tmp_path}/run/rounds.jsonl': File too large (see ")
    assert RunFiles(tmp_path / "run").json("summary.json")["stopped_by"] == "failed"
    assert (sound_checkpoint(tmp_path / "run", every=7) or 0) >= 7
    assert federation.run(keys, "--resume", tmp_path / "run").wait().code == 0
    assert whole.wait().code == 0
    assert_identical(RunFiles(tmp_path / "run"), RunFiles(tmp_path / "whole"))


def test_without_room_for_checkpoints_the_run_goes_on(processes: Processes, tmp_path: Path) -> None:
    federation = Federation.make(processes, clients=2, rows=20, columns=1000)
    keys = {**KINDS["cutting-plane"], "num-server-rounds": 8, "checkpoint-every": 1}
    done = federation.run(keys, "--out", tmp_path / "run", before=FULL.format(100_000)).wait()
    assert (done.code, done.stderr) == (0, "")
    assert "round 8: cannot write a checkpoint: File too large\n" in done.stdout
    assert len(RunFiles(tmp_path / "run").rows) == 8
    assert RunFiles(tmp_path / "run").json("summary.json")["stopped_by"] == "rounds"
    assert (sound_checkpoint(tmp_path / "run", every=9) or 0) < 8
