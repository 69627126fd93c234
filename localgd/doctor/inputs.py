"""What a run reads: a configuration, and data files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from client.engine import check_torch
from common import config as configuration
from common import datafiles, virtual
from common.config import Config
from common.datafiles import Dataset
from common.errors import UserError
from common.model import check_weights
from common.reference.least_norm import needed
from common.sparse import is_sparse
from localgd.doctor import Finding
from server.results import check_out

FEW = 20
"""Up to this many classes are counted one by one; more are likely numbers to predict."""


def config(path: Path) -> Iterator[Finding]:
    """Examine a configuration, and everything it names."""
    values = configuration.read(path)
    config = Config.of(values)
    yield Finding(
        "ok",
        path.name,
        f"{config.strategy} with {config.solver}, {config.loss}, {config.num_server_rounds} rounds",
    )
    if config.engine == "torch" or config.device == "cuda":
        check_torch(config.device)
    check_out(config)
    yield from _data(config)
    if config.test:
        yield from data(Path(config.test), "label")
    for key in ("init", "reference"):
        if (named := getattr(config, key)) not in ("", "auto", "none"):
            check_weights(Path(named), key)
            yield Finding("ok", key, named)
    if config.reference == "auto" and (config.dataset != "file" or config.data_dir):
        try:
            needed()
        except UserError as error:
            yield Finding("problem", "reference", str(error))


def data(path: Path, label: str) -> Iterator[Finding]:
    """Examine a data file."""
    yield from _findings(path.name, datafiles.read(path, label))


def _data(config: Config) -> Iterator[Finding]:
    if config.dataset == "file" and not config.data_dir:
        yield Finding("ok", "data", "dataset = 'file': each client brings its own; try --data on its machine")
        return
    names = virtual.names(config)
    parts = [virtual.shard(config, k) for k in range(len(names))]
    rows, columns = [part.X.shape[0] for part in parts], parts[0].X.shape[1]
    told = f"{len(parts)} clients with {min(rows)} to {max(rows)} rows, {columns} feature columns"
    yield Finding("ok", "data", f"{config.dataset}: {told}")


def _findings(what: str, found: Dataset) -> Iterator[Finding]:
    rows, columns = found.X.shape
    classes, counts = np.unique(found.y, return_counts=True)
    told = f"{rows} rows, {columns} feature columns"
    if len(classes) <= FEW:
        counted = zip(classes.tolist(), counts.tolist(), strict=True)
        told += "; labels: " + ", ".join(f"{name} {count}" for name, count in counted)
    else:
        told += f"; {len(classes)} different labels: numbers to predict (loss = 'squared')?"
    yield Finding("ok", what, told)
    if len(classes) == 1:
        yield Finding("warning", what, f"every label is '{classes[0]}': other clients must have others")
    if is_sparse(found.X):
        return
    constant = int(np.sum(found.X.max(axis=0) == found.X.min(axis=0)))
    if constant:
        yield Finding("warning", what, f"{constant} of {columns} columns are constant here")
    if len(classes) <= FEW and (pair := _contradiction(found)):
        yield Finding(
            "warning",
            what,
            f"rows {pair[0]} and {pair[1]} differ in nothing but the label: no model has both right",
        )


def _contradiction(found: Dataset) -> tuple[int, int] | None:
    """Return two rows, counted from 1, that are the same but for the label, if there are any."""
    seen: dict[bytes, int] = {}
    for row, features in enumerate(found.X):
        first = seen.setdefault(features.tobytes(), row)
        if found.y[first] != found.y[row]:
            return first + 1, row + 1
    return None
