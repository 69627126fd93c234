"""What the end-to-end tests share: the command, as processes and in this one, and the example's shards."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flwr.common.logger import FLOWER_LOGGER

from common import datafiles, virtual
from common.config import Config
from localgd import cli
from tests.processes import Finished, Processes


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Processes whose results several tests look at."""
    with Processes(tmp_path_factory.mktemp("shared")) as processes:
        yield processes


@pytest.fixture
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Processes of one test; what they print is kept outside the test's tmp_path."""
    with Processes(tmp_path_factory.mktemp("processes")) as processes:
        yield processes


@pytest.fixture
def localgd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Finished]]:
    """The command in this process, with the test's tmp_path as the current directory."""

    def run(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["localgd", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Finished(int(ended.value.code or 0), *capsys.readouterr())

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "0")  # so that what the command sets is put back
    monkeypatch.setenv("FLWR_DISABLE_UPDATE_CHECK", "1")
    handlers, propagate = list(FLOWER_LOGGER.handlers), FLOWER_LOGGER.propagate
    yield run
    FLOWER_LOGGER.handlers[:] = handlers  # the command's own writes to a file that capsys closes
    FLOWER_LOGGER.propagate = propagate


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with client-0.npz … client-5.npz of the example, and held-out/test.npz."""
    folder, config = tmp_path_factory.mktemp("shards"), Config.of({"dataset": "tissue"})
    for k, name in enumerate(virtual.names(config)):
        datafiles.write(folder / f"{name}.npz", virtual.shard(config, k))
    test = virtual.held_out(config)
    assert test is not None
    (folder / "held-out").mkdir()
    datafiles.write(folder / "held-out" / "test.npz", test)
    return folder
