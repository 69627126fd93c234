"""This device's private data: where they are, what they are called, and what may be told about them."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from flwr.app import Context, UserConfig

from client.memory import Kept, memory_share
from common import datafiles, virtual
from common.config import Config, Value
from common.datafiles import Dataset
from common.errors import UserError
from common.handshake import Description
from common.labels import targets
from common.losses import LOSSES
from common.scaling import ColumnStatistics
from common.sparse import data_bytes, is_sparse


class Source(NamedTuple):
    """Where a client's data come from: a file of its own, or a partition of a configured data set."""

    name: str
    path: str
    label: str
    config: Config | None = None
    partition: int = -1


def source(context: Context) -> Source:
    """Find the client's data from Flower's node config.

    ``data``, ``label`` and ``name`` describe a device with a file; ``partition-id`` a virtual client,
    whose data the run config describes.
    """
    return source_of(context.node_config, context.run_config)


def called(context: Context) -> str:
    """Return what the client is called, if only by its number."""
    try:
        return source(context).name
    except UserError:
        return str(context.node_config.get("name") or f"node {context.node_id}")


def source_of(node: UserConfig, run_config: UserConfig | None = None) -> Source:
    """Find the data of a node config; a partition needs the run config too."""
    if "data" in node:
        path = str(node["data"])
        return Source(str(node.get("name") or Path(path).stem), path, str(node.get("label") or "label"))
    if "partition-id" in node:
        run_config = run_config or {}
        config = _config(tuple(run_config.items()), tuple(map(type, run_config.values())))
        partition = int(node["partition-id"])
        names = virtual.names(config)
        partitions = int(node.get("num-partitions", len(names)))
        if partitions != len(names):
            raise UserError(
                f"num-partitions = {partitions}, but the data are dealt to {len(names)} clients; "
                "start as many nodes as there are clients"
            )
        if partition >= len(names):
            raise UserError(f"there is no partition {partition}: the data are dealt to {len(names)} clients")
        return Source(names[partition], "", "", config, partition)
    raise UserError("this node has no data: its node config needs 'data' (a file) or 'partition-id'")


@lru_cache(maxsize=4)
def _config(items: tuple[tuple[str, Value], ...], types: tuple[type, ...]) -> Config:
    """Check a run config once, not for every message; the types tell ``1`` from ``true``."""
    return Config.of(dict(items))


def node_config(path: Path, label: str, name: str | None) -> UserConfig:
    """Return the node config of a device with a data file; its name is the file's unless given."""
    return {"data": str(path), "label": label, "name": name or path.stem}


def load(source: Source) -> Dataset:
    """Read and check the data: once, until they are not needed any more."""
    data = _loaded.find(source)
    if data is None:
        if source.config is None:
            data = datafiles.read(Path(source.path), source.label)
        else:
            data = virtual.shard(source.config, source.partition)
        _loaded.keep(source, data)
    return data


def forget(source: Source) -> None:
    """Let go of data that `load` has read; it reads them again if it has to."""
    _loaded.drop(source)


def describe(name: str, data: Dataset, salt: str, statistics: bool, loss: str = "logistic") -> Description:
    """Say what the server may know: name, shape, label names, a salted fingerprint, column statistics.

    Labels that are numbers to predict stay here; they are only checked.
    """
    numbers = LOSSES[loss].labels == "numbers"
    if numbers:
        targets(data.y)
    digest = hashlib.sha256(salt.encode() + data_bytes(data.X) + "\0".join(data.y.tolist()).encode())
    return Description(
        name=name,
        count=data.X.shape[0],
        dimension=data.X.shape[1],
        classes=() if numbers else tuple(sorted(set(data.y.tolist()))),
        fingerprint=digest.hexdigest()[:16],
        columns=data.column_fingerprint,
        statistics=ColumnStatistics.of(data.X) if statistics else None,
        open=is_sparse(data.X),
    )


def _bytes(data: Dataset) -> int:
    X = data.X
    held = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes if is_sparse(X) else X.nbytes
    return int(held + data.y.nbytes)


_loaded = Kept(memory_share(), _bytes)
