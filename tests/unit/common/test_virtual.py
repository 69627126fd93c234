"""Virtual clients are found without a look at the whole federation for each of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from common import virtual
from common.config import Config
from common.errors import UserError


def write(directory: Path, *names: str) -> Config:
    directory.mkdir(exist_ok=True)
    for name in names:
        np.savez(directory / f"{name}.npz", X=np.ones((2, 2)), y=np.array([1, -1]))
    return Config.of({"dataset": "file", "data-dir": str(directory)})


def test_a_directory_is_listed_once_until_files_come_or_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(tmp_path / "data", "b", "a")
    listings: list[Path] = []
    listing = Path.iterdir

    def counted(path: Path) -> Iterator[Path]:
        listings.append(path)
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", counted)
    for _ in range(3):
        assert list(virtual.names(config)) == ["a", "b"]
        assert virtual.count(config) == 2
        assert virtual.shard(config, 1).X.shape == (2, 2)
    assert len(listings) == 1
    write(tmp_path / "data", "c")
    assert list(virtual.names(config)) == ["a", "b", "c"]
    (tmp_path / "data" / "a.npz").unlink()
    assert list(virtual.names(config)) == ["b", "c"]
    assert len(listings) == 3


def test_the_names_of_numbered_clients_are_the_same_object() -> None:
    config = Config.of({"dataset": "synthetic", "clients": 3})
    assert list(virtual.names(config)) == ["client-0", "client-1", "client-2"]
    assert virtual.names(config) is virtual.names(config)


@pytest.mark.parametrize("name", ["absent", "file.npz"])
def test_no_such_directory(name: str, tmp_path: Path) -> None:
    write(tmp_path, "file")
    with pytest.raises(UserError, match="is not a directory"):
        virtual.names(Config.of({"dataset": "file", "data-dir": str(tmp_path / name)}))


def test_held_out_rows_beside_the_clients_are_no_client(tmp_path: Path) -> None:
    """As `localgd shard` writes them: training on them would make their accuracy worthless."""
    config = write(tmp_path / "data", "a", "b", "test")
    assert virtual.names(config) == ["a", "b", "test"]
    apart = Config.of(config.values() | {"test": f"{tmp_path}/data/../data/test.npz"})
    assert virtual.names(apart) == ["a", "b"]
    held_out = virtual.held_out(apart)
    assert held_out is not None
    assert len(held_out.y) == 2
