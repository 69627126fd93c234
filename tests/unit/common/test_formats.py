"""Data in parquet and svmlight files, and sparse rows on their way through a federation."""

from pathlib import Path

import numpy as np
import pytest

from client.problem import Problem
from client.solvers import solve
from common.datafiles import Dataset, read
from common.errors import UserError
from common.labels import signed
from common.losses import LOSSES
from common.scaling import ColumnStatistics, Scaling
from common.solution import SolverSettings
from common.sparse import dense, is_sparse

RNG = np.random.default_rng(7)
X = np.where(RNG.random((12, 30)) < 0.2, RNG.normal(size=(12, 30)), 0.0)
Y = np.where(np.arange(12) % 2, 1, -1)


@pytest.fixture
def parquet(tmp_path: Path):
    """Return a function that writes named columns to a parquet file."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    def write(**columns) -> Path:
        path = tmp_path / "data.parquet"
        write_table(pa.table(columns), path)
        return path

    return write


@pytest.fixture
def svmlight(tmp_path: Path):
    """Return a function that writes text to an svmlight file."""
    pytest.importorskip("sklearn")

    def write(text: str) -> Path:
        path = tmp_path / "data.svm"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def sparse(svmlight) -> Dataset:
    rows = [" ".join(f"{j + 1}:{v!r}" for j, v in enumerate(x) if v) for x in X.tolist()]
    return read(svmlight("".join(f"{y} {row}\n" for y, row in zip(Y, rows, strict=True))))


def test_parquet_gives_what_csv_gives(parquet, tmp_path: Path) -> None:
    path = parquet(a=[1, 2, 3], label=["yes", "no", " yes "], b=[0.5, 1.5, -2.0], c=[True, False, True])
    csv = tmp_path / "data.csv"
    csv.write_text("a,label,b,c\n1,yes,0.5,1\n2,no,1.5,0\n3,yes,-2.0,1\n")
    ours, theirs = read(path), read(csv)
    np.testing.assert_array_equal(ours.X, theirs.X)
    assert ours.y.tolist() == theirs.y.tolist()
    assert ours.columns == theirs.columns == ("a", "b", "c")


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"a": [1.0, None], "label": [0, 1]}, "row 2, column 'a': nan is not allowed"),
        ({"a": [1.0, 2.0], "label": [0, None]}, "row 2: the label is empty"),
        ({"a": ["x", "y"], "label": [0, 1]}, "column 'a' holds string, not numbers"),
        ({"a": [1.0], "labels": [0]}, "did you mean 'labels'"),
        ({"label": [0, 1]}, "no features"),
    ],
)
def test_parquet_refused(parquet, columns, text: str) -> None:
    with pytest.raises(UserError, match=r"data\.parquet: ") as error:
        read(parquet(**columns))
    assert text in str(error.value)


def test_damaged_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "data.parquet"
    path.write_bytes(b"PAR1 and then nothing of use PAR1")
    with pytest.raises(UserError, match="not a parquet file"):
        read(path)


def test_svmlight_stays_sparse(sparse: Dataset) -> None:
    assert is_sparse(sparse.X)
    np.testing.assert_array_equal(dense(sparse.X), X[:, : sparse.X.shape[1]])
    assert sparse.y.tolist() == [str(y) for y in Y]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("1 0:2.0\n", "indices from 1"),
        ("1 1:2.0\n-1 2:nan\n", "row 2, column 2: nan"),
        ("one 1:2.0\n", "not an svmlight file"),
        ("1 1:x\n", "not an svmlight file"),
        ("1 3:1 2:1\n", "not an svmlight file"),
    ],
)
def test_svmlight_refused(svmlight, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read(svmlight(text))
    assert message in str(error.value)


def test_sparse_statistics_equal_dense_ones(sparse: Dataset) -> None:
    ours, theirs = ColumnStatistics.of(sparse.X).widened(30), ColumnStatistics.of(X)
    np.testing.assert_allclose(ours.mean, theirs.mean, atol=1e-15)
    np.testing.assert_allclose(ours.m2, theirs.m2, atol=1e-13)


@pytest.mark.parametrize("standard", [False, True])
def test_sparse_rows_equal_dense_ones(sparse: Dataset, standard: bool) -> None:
    scaling = Scaling.identity(30, intercept=True)
    if standard:
        scaling = Scaling.standard(ColumnStatistics.of(X), intercept=True)
    rows = scaling.rows(sparse.X)
    assert is_sparse(rows) is not standard
    np.testing.assert_allclose(dense(rows), scaling.rows(X), rtol=1e-15)


@pytest.mark.parametrize("solver", ["gradient", "projection"])
def test_sparse_solves_equal_dense_ones(sparse: Dataset, solver: str) -> None:
    scaling = Scaling.identity(30, intercept=True)
    problems = [
        Problem(signed(scaling.rows(rows), sparse.y, ("-1", "1")), LOSSES["logistic"])
        for rows in (sparse.X, X)
    ]
    centre = RNG.normal(size=31)
    settings = SolverSettings(solver, local_steps=50, learning_rate=0.5)
    ours, theirs = (solve(problem, centre, settings) for problem in problems)
    np.testing.assert_allclose(ours.displacement, theirs.displacement, atol=1e-11)
    assert ours.active == theirs.active
    assert is_sparse(problems[0].rows)
    assert problems[0].beta == pytest.approx(problems[1].beta, rel=1e-12)
    assert problems[0].max_norm == pytest.approx(problems[1].max_norm, rel=1e-15)
    assert problems[0].measure(centre).loss == pytest.approx(problems[1].measure(centre).loss, rel=1e-13)


def test_largest_singular_value_of_large_sparse_rows() -> None:
    from scipy.sparse import random_array

    Z = random_array((1100, 1200), density=0.01, format="csr", rng=np.random.default_rng(0))
    exact = np.linalg.norm(Z.toarray(), 2)
    assert Problem(Z, LOSSES["logistic"]).beta == pytest.approx(exact**2 / 4400, rel=1e-9)


def test_a_federation_of_sparse_files_of_unequal_width(tmp_path: Path) -> None:
    """Each client's file ends at its own largest index; the run equals that of dense files."""
    pytest.importorskip("sklearn")
    from common.config import Config, Value
    from localgd.federations import run_in_process

    models = {}
    for kind in ("svm", "npz"):
        shards = tmp_path / kind
        shards.mkdir()
        for k, part in enumerate(np.split(np.arange(12), 3)):
            width = 30 if k == 0 else int(np.flatnonzero(X[part].any(axis=0)).max()) + 1
            if kind == "npz":
                np.savez(shards / f"c{k}.npz", X=X[part], y=Y[part])
                continue
            rows = [" ".join(f"{j + 1}:{x[j]!r}" for j in range(width) if x[j]) for x in X[part].tolist()]
            text = "".join(f"{y} {row}\n" for y, row in zip(Y[part], rows, strict=True))
            (shards / f"c{k}.svm").write_text(text)
        out = tmp_path / f"run-{kind}"
        values: dict[str, Value] = {
            "dataset": "file",
            "data-dir": str(shards),
            "scale": "max-norm",
            "num-server-rounds": 5,
        }
        run_in_process(Config.of(values | {"out": str(out), "solver": "projection"}))
        with np.load(out / "model.npz") as model:
            models[kind] = model["weights"]
    assert len(models["svm"]) <= 30
    np.testing.assert_allclose(models["svm"], models["npz"][: len(models["svm"])], atol=1e-12)
