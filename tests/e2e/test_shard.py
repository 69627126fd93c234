"""`localgd shard`: the private files of a named data set are the clients of `localgd run`, byte for byte."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common import datafiles, virtual
from common.config import Config
from common.errors import UserError
from tests.processes import Finished, Processes

pytestmark = pytest.mark.xdist_group("e2e-run")

Command = Callable[..., Finished]


def test_the_files_are_the_clients_of_a_run(processes: Processes, tmp_path: Path) -> None:
    out = tmp_path / "new" / "shards"
    finished = processes.localgd(
        "shard",
        "tissue",
        "--clients",
        3,
        "--partition",
        "dirichlet",
        "--alpha",
        0.5,
        "--seed",
        7,
        "--out",
        out,
    ).wait()
    assert (finished.code, finished.stderr) == (0, "")
    config = Config.of({"dataset": "tissue", "clients": 3, "alpha": 0.5, "seed": 7})
    parts = {f"client-{k}.npz": virtual.shard(config, k) for k in range(3)}
    test = virtual.held_out(config)
    assert test is not None
    assert {path.name for path in out.iterdir()} == {*parts, "test.npz"}
    for name, part in {**parts, "test.npz": test}.items():
        with np.load(out / name, allow_pickle=False) as file:
            assert np.array_equal(file["X"], part.X)
            assert np.array_equal(file["y"], part.y)
    counts = ", ".join(str(len(part.y)) for part in parts.values())
    assert finished.stdout == f"{out}: 3 clients with {counts} rows and {len(test.y)} held-out rows\n"
    assert out.stat().st_mode & 0o777 == 0o755
    assert list(out.parent.iterdir()) == [out], "an unfinished folder is left"


@pytest.mark.parametrize("partition", ["iid", "label"])
def test_every_row_goes_to_exactly_one_client(partition: str, localgd: Command, tmp_path: Path) -> None:
    finished = localgd("shard", "tissue", "--partition", partition, "--test-fraction", 0, "--out", "o")
    assert (finished.code, finished.stderr) == (0, "")
    assert "held-out" not in finished.stdout
    files = sorted((tmp_path / "o").iterdir())
    assert [path.name for path in files] == [f"client-{k}.npz" for k in range(6)]
    rows = [tuple(row) for path in files for row in datafiles.read(path).X.tolist()]
    whole = virtual.shard(Config.of({"dataset": "tissue", "clients": 1, "test-fraction": 0.0}), 0)
    assert sorted(rows) == sorted(map(tuple, whole.X.tolist()))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tisue",), r"unknown data set 'tisue'; did you mean 'tissue'\?"),
        (("file",), "named data set, not 'file'"),
        (("tissue", "--clients", 0), "clients = 0 .*>= 1"),
        (
            ("tissue", "--clients", 1000),
            r"clients = 1000 .*min-shard = 4 need 4000 rows, but 'tissue' has 151",
        ),
        (("tissue", "--partition", "random"), "partition = 'random' .*iid, dirichlet, label"),
        (("tissue", "--alpha", 0), "alpha = 0.0 .*> 0"),
        (("tissue", "--clients", 12, "--alpha", 1e-9), "alpha = 1e-09 is too small.*raise alpha"),
        (("tissue", "--test-fraction", 1), "test-fraction = 1.0 "),
        (("tissue", "--seed", -1), "seed = -1 "),
    ],
)
def test_bad_requests_leave_nothing_behind(
    arguments: tuple[object, ...], said: str, localgd: Command, tmp_path: Path
) -> None:
    finished = localgd("shard", *arguments, "--out", "sub/o")
    assert finished.code == 2
    [line] = finished.stderr.splitlines()
    assert re.search(said, line)
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_cannot_be_used(localgd: Command, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").write_text("")
    for out, said in (
        ("taken", "--out taken exists already"),
        ("file/o", "cannot write to file/o"),
    ):
        finished = localgd("shard", "tissue", "--out", out)
        assert finished.code == 2
        [line] = finished.stderr.splitlines()
        assert said in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_a_full_disk_leaves_no_partial_folder(
    localgd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = datafiles.write, list[Path]()

    def full(path: Path, part: datafiles.Dataset) -> None:
        if len(written) == 2:
            raise UserError(f"{path}: cannot be written: No space left on device")
        written.append(path)
        write(path, part)

    monkeypatch.setattr(datafiles, "write", full)
    finished = localgd("shard", "tissue", "--out", "o")
    assert finished.code == 2
    [line] = finished.stderr.splitlines()
    assert "No space left" in line
    assert len(written) == 2
    assert list(tmp_path.iterdir()) == []
