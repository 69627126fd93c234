"""Virtual clients: the shards that a run deals out itself, and the rows it holds out for testing."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from common import datafiles, datasets
from common.config import Config
from common.datafiles import Dataset
from common.errors import UserError
from common.losses import LOSSES


def count(config: Config) -> int:
    """Return how many virtual clients there are: one per file of ``data-dir``, or the key ``clients``."""
    return len(_files(config).paths) if config.dataset == "file" else config.clients


def names(config: Config) -> Sequence[str]:
    """Return the names of the virtual clients, in the order of their partitions.

    Every message to a virtual client asks for them, so they are the same object each time.
    """
    return _files(config).names if config.dataset == "file" else _numbered(config.clients)


def shard(config: Config, partition: int) -> Dataset:
    """Return the data of one virtual client.

    Raises
    ------
    UserError
        When there is no such partition, or its data cannot be had.
    """
    if not 0 <= partition < count(config):
        raise UserError(f"there is no partition {partition}: the data are dealt to {count(config)} clients")
    if config.dataset == "file":
        return datafiles.read(_files(config).paths[partition])
    return _dealt(config)[0][partition]


def held_out(config: Config) -> Dataset | None:
    """Return the rows held out for testing: the file ``test``, or a share of a named data set, or nothing."""
    if config.test:
        return datafiles.read(Path(config.test))
    if config.dataset == "file":
        return None
    test = _dealt(config)[1]
    return test if len(test.y) else None


@lru_cache(maxsize=4)
def _dealt(config: Config) -> tuple[tuple[Dataset, ...], Dataset]:
    """Return the shards of a named data set, and its held-out rows."""
    whole = datasets.load(config.dataset, config.seed).labelled(LOSSES[config.loss].labels)
    train, test = datasets.split(whole, config.test_fraction, config.seed)
    shards = datasets.shard(
        train, config.clients, config.partition, config.alpha, config.seed, min_shard=config.min_shard
    )
    return tuple(map(_plain, shards)), _plain(test)


def _plain(part: datasets.NamedDataset) -> Dataset:
    return Dataset(part.X, part.y, None)


@lru_cache(maxsize=4)
def _numbered(clients: int) -> Sequence[str]:
    return [f"client-{k}" for k in range(clients)]


class _Files(NamedTuple):
    paths: Sequence[Path]
    names: Sequence[str]


def _files(config: Config) -> _Files:
    """List the data files of ``data-dir``, one per client; the file ``test`` is none, wherever it is."""
    if not config.data_dir:
        raise UserError(
            "dataset = 'file' needs data-dir: a directory with one <client>.npz or .csv per client"
        )
    directory = Path(config.data_dir)
    try:
        return _listed(directory, directory.stat().st_mtime_ns, config.test)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"data-dir = '{directory}' is not a directory") from None


@lru_cache(maxsize=4)
def _listed(directory: Path, changed: int, test: str) -> _Files:
    """List a directory's data files but the held-out rows, once for as long as none comes or goes."""
    held_out = Path(test).resolve() if test else None
    files = sorted(
        path
        for path in directory.iterdir()
        if path.suffix.lower() in datafiles.READERS and path.is_file() and path.resolve() != held_out
    )
    if not files:
        raise UserError(
            f"data-dir = '{directory}' has no data files; allowed: {', '.join(datafiles.READERS)}"
        )
    stems = [path.stem for path in files]
    if len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise UserError(f"data-dir = '{directory}' has two files for the client '{twice}'; remove one")
    return _Files(files, stems)
