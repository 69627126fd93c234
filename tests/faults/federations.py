"""Federations whose processes are killed: small, with a thin margin that takes many rounds to find."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import datafiles
from common.datafiles import Dataset
from server import checkpoint, encoding
from tests.e2e.data import RunFiles, write_federation
from tests.processes import Process, Processes, free_port

KINDS: dict[str, dict[str, Any]] = {
    "cutting-plane": {"strategy": "cutting-plane", "cuts": 1},
    "projection": {"strategy": "modified-local-gd", "solver": "projection"},
    "proximal": {"strategy": "modified-local-gd", "local-steps": 50},
    "mini-batches": {"strategy": "local-gd", "batch-size": 8, "local-steps": 50},
    "consensus": {"strategy": "consensus"},
}
"""A run of each is to be the same whatever happens to its processes."""


@dataclass(frozen=True)
class Federation:
    """The private files of some clients, and how their runs are started."""

    processes: Processes
    data: Path
    clients: int
    address: str

    @classmethod
    def make(cls, processes: Processes, clients: int, rows: int = 12, columns: int = 40) -> "Federation":
        """Write ``client-0.npz`` … into a folder of their own."""
        shards = thin_shards(clients, rows, columns)
        folder = processes.folder / f"data-{free_port()}"
        return cls(processes, write_federation(folder, *shards), clients, f"127.0.0.1:{free_port()}")

    def run(self, keys: Mapping[str, Any], *more: object, before: str = "") -> Process:
        """Run it in one process."""
        config = self._config(keys)
        here = ("-c", f"data-dir={self.data}", "-c", "reference=none")
        return self.processes.localgd("run", config, *here, *more, before=before)

    def serve(self, keys: Mapping[str, Any], *more: object, before: str = "") -> Process:
        """Start its server, on the same port each time."""
        serve = ("serve", self._config(keys), "--insecure", "--address", self.address)
        return self.processes.localgd(*serve, *more, before=before)

    def join(self, k: int, before: str = "", address: str = "", retry_for: float = 60) -> Process:
        """Start a client."""
        data, where = self.data / f"client-{k}.npz", address or self.address
        join = ("join", where, "--insecure", "--data", data, "--retry-for", retry_for)
        return self.processes.localgd(*join, before=before)

    def _config(self, keys: Mapping[str, Any]) -> Path:
        values = {"dataset": "file", "clients": self.clients, **keys}
        path = self.data / "config.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
        return path


def thin_shards(clients: int, rows: int, columns: int) -> list[Dataset]:
    """Rows with labels by the sign of a hidden direction, along which some have next to nothing."""
    rng = np.random.default_rng(clients)
    hidden = rng.standard_normal(columns)
    parts = []
    for _ in range(clients):
        X = rng.standard_normal((rows, columns))
        y = np.where(X @ hidden > 0, "1", "0")
        y[:2] = "0", "1"
        X[:2] -= np.outer(X[:2] @ hidden + (1, -1), hidden) / (hidden @ hidden)
        parts.append(Dataset(X, datafiles.label_text(y)))
    return parts


def begun(run: Path) -> bool:
    """Tell whether there is a run directory."""
    return (run / "rounds.jsonl").exists()


def rows_written(run: Path) -> int:
    """Return how many whole rows a run has written so far."""
    return (run / "rounds.jsonl").read_bytes().count(b"\n")


def sound_checkpoint(run: Path, every: int) -> int | None:
    """Check that a killed run has left no half-written file; return the round that it can go on from, if any.

    No round is lost that a checkpoint was due for.
    """
    rows = (run / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    whole = [json.loads(row)["round"] for row in rows if row.endswith(b"\n")]
    assert whole == list(range(1, len(whole) + 1))
    assert len(whole) >= len(rows) - 1
    if (run / "config.toml").exists():
        tomllib.loads((run / "config.toml").read_text())
    for name in ("handshake.json", "summary.json"):
        if (run / name).exists():
            RunFiles(run).json(name)
    for name in ("model.npz", "best.npz"):
        if (run / name).exists():
            RunFiles(run).model(name)
    paths = checkpoint.files(run / "checkpoint")
    numbers = [encoding.load(path.read_bytes(), checkpoint.CLASSES).number for path in paths]
    assert [path.name for path in paths] == [checkpoint.file_name(number) for number in numbers]
    newest = max(numbers, default=None)
    assert not whole or (newest is not None and newest >= len(whole) // every * every)
    return newest
