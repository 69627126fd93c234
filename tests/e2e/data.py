"""Data files of small federations, and the documented formula of a model file in plain numpy."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import datafiles
from common.datafiles import Dataset
from tests.processes import ROOT

Vector = NDArray[np.float64]
TISSUE = ROOT / "examples" / "tissue.toml"


def blobs(seed: int, rows: int = 12, columns: int = 3, labels: tuple[str, ...] = ("0", "1")) -> Dataset:
    """Rows whose labels take turns, with a shift of 8 in every column from each label to the next."""
    turn = np.arange(rows) % len(labels)
    X = np.random.default_rng(seed).standard_normal((rows, columns)) + 8.0 * turn[:, None]
    return Dataset(X, np.array(labels)[turn])


def write_federation(folder: Path, *parts: Dataset) -> Path:
    """Write client-0.npz, client-1.npz, … and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, part in enumerate(parts):
        datafiles.write(folder / f"client-{k}.npz", part)
    return folder


def write_npz(path: Path, data: Dataset) -> None:
    """Write a data file without any check."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, X=data.X, y=data.y)


def write_csv(path: Path, data: Dataset, columns: tuple[str, ...] | None = None) -> None:
    """Write a data file with every digit of every number."""
    names = columns or tuple(f"gene {k}" for k in range(data.X.shape[1]))
    rows = zip(data.X.tolist(), data.y.tolist(), strict=True)
    lines = [",".join((*names, "label")), *(",".join((*map(repr, row), label)) for row, label in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class RunFiles:
    """A run directory, read without the project's own code."""

    path: Path

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rounds."""
        return [json.loads(line) for line in (self.path / "rounds.jsonl").read_text().splitlines()]

    def json(self, name: str) -> Any:
        """``handshake.json`` or ``summary.json``."""
        return json.loads((self.path / name).read_text())

    def model(self, name: str = "model.npz") -> dict[str, NDArray[Any]]:
        """``model.npz`` or ``best.npz``."""
        with np.load(self.path / name, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    @property
    def weights(self) -> Vector:
        """The weight vector of the last row: the features' weights, then the intercept's."""
        return weights(self.model(), self.json("handshake.json")["norm"])


def assert_identical(ours: RunFiles, theirs: RunFiles) -> None:
    """Compare every bit of the models, and every row but for the clock."""
    for row, other in zip(ours.rows, theirs.rows, strict=True):
        differ = {
            key: (row.get(key), other.get(key)) for key in row | other if row.get(key) != other.get(key)
        }
        differ.pop("seconds", None)
        assert not differ, f"round {row['round']}: {differ}"
    for name in ("model.npz", "best.npz"):
        mine, its = ours.model(name), theirs.model(name)
        assert {key: mine[key].tobytes() for key in mine} == {key: its[key].tobytes() for key in its}


def scores(model: dict[str, NDArray[Any]], X: Vector) -> Vector:
    """Return the scores of raw features; a positive one is the second class."""
    result: Vector = ((X - model["mean"]) / model["scale"]) @ model["weights"] + model["intercept"]
    return result


def weights(model: dict[str, NDArray[Any]], norm: float) -> Vector:
    """Return the weight vector that works on the scaled rows with a last entry of 1/norm."""
    return np.append(model["weights"], model["intercept"] * norm)


def signs(y: NDArray[np.str_], classes: tuple[str, ...]) -> Vector:
    """Return -1 for the first class and 1 for the second."""
    return np.where(y == classes[1], 1.0, -1.0)
