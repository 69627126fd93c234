"""Data that the studies make themselves."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import datafiles, datasets
from common.datasets import NamedDataset
from examples.paper.runs import Keys

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


def gaussian_regression(seed: int) -> NamedDataset:
    """Return 100 rows with 200 features and a linear target with noise: twice as many features as rows."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((100, 200))
    return _regression(X, X @ rng.standard_normal(200) / np.sqrt(200) + 0.1 * rng.standard_normal(100))


def diabetes_features(seed: int) -> NamedDataset:
    """Return the diabetes data (442 rows) in 1000 random Fourier features (Rahimi and Recht 2007)."""
    from sklearn.datasets import load_diabetes

    rng = np.random.default_rng(seed)
    X, target = load_diabetes(return_X_y=True)
    X = X / X.std(axis=0)
    wave = rng.standard_normal((X.shape[1], 1000))  # a kernel as wide as one standard deviation
    phase = rng.uniform(0, 2 * np.pi, 1000)
    return _regression(np.cos(X @ wave + phase), (target - target.mean()) / target.std())


def noisy(seed: int) -> NamedDataset:
    """Return 300 rows with 20 features, of which a sixth have the wrong label."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((300, 20))
    sign = np.where(X @ rng.standard_normal(20) > 0, 1.0, -1.0)
    sign[rng.permutation(300)[:50]] *= -1
    y = datafiles.label_text(sign)
    return NamedDataset("noisy", X, y, y)


def ten_columns(seed: int) -> NamedDataset:
    """Return breast cancer in its first ten columns, which do not separate the classes."""
    whole = datasets.load("breast-cancer")
    return NamedDataset("ten-columns", whole.X[:, :10], whole.y, whole.group)


def _regression(X: Matrix, target: Vector) -> NamedDataset:
    fifth = np.searchsorted(np.quantile(target, [0.2, 0.4, 0.6, 0.8]), target)
    return NamedDataset("regression", X, np.array([repr(t) for t in target.tolist()]), fifth.astype(np.str_))


def _dealt(make: Callable[[int], NamedDataset]) -> Callable[[Keys, Path], None]:
    """Return what deals such data to the clients' files, as a named data set would be."""

    def deal(keys: Keys, folder: Path) -> None:
        seed, clients, alpha = int(keys["seed"]), int(keys["clients"]), float(keys["alpha"])
        folder.mkdir(parents=True)
        for k, part in enumerate(datasets.shard(make(seed), clients, "dirichlet", alpha, seed)):
            datafiles.write(folder / f"client-{k}.npz", datafiles.Dataset(part.X, part.y, None))

    return deal


DATA: Mapping[str, Callable[[Keys, Path], None]] = {
    "gaussian regression": _dealt(gaussian_regression),
    "diabetes features": _dealt(diabetes_features),
    "noisy": _dealt(noisy),
    "ten columns": _dealt(ten_columns),
}
"""The key ``data``: writes the clients' files into a directory."""
