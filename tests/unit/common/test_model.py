import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.model import Model, read_weights, save_arrays
from common.scaling import Scaling
from tests.problems import repeatable

MODEL = Model(np.array([1.0, -2.0]), np.array(0.5), ("no", "yes"), np.array([1.0, 0.0]), np.array([2.0, 1.0]))


@repeatable
@given(st.integers(0, 2**32 - 1), st.integers(1, 10), st.booleans())
def test_scores_of_raw_features_are_those_of_the_rows(seed: int, d: int, intercept: bool) -> None:
    rng = np.random.default_rng(seed)
    scaling = Scaling(rng.standard_normal(d), rng.uniform(0.1, 10, d), intercept, norm=rng.uniform(0.1, 10))
    weights, X = rng.standard_normal(scaling.dimension), rng.standard_normal((20, d))
    model = Model.of(weights, scaling, ("a", "b"))
    np.testing.assert_allclose(model.scores(X), scaling.rows(X) @ weights, rtol=1e-11, atol=1e-11)


def test_prediction_by_hand() -> None:
    X = np.array([[3.0, 1.0], [5.0, 1.0], [1.0, 0.0]])  # scores 1 − 2 + .5, 2 − 2 + .5, .5
    np.testing.assert_allclose(MODEL.scores(X), [-0.5, 0.5, 0.5])
    assert MODEL.predict(X).tolist() == ["no", "yes", "yes"]


def test_a_saved_model_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    MODEL.save(path)
    found = Model.load(path)
    np.testing.assert_array_equal(found.weights, MODEL.weights)
    np.testing.assert_array_equal(found.mean, MODEL.mean)
    np.testing.assert_array_equal(found.scale, MODEL.scale)
    assert (float(found.intercept), found.classes) == (0.5, ("no", "yes"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.npz"
    MODEL.save(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_arrays(path, weights=np.zeros(3))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.npz"]


def npz(path: Path) -> None:
    np.savez(path, other=np.zeros(2))


def npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(2))


def text(path: Path) -> None:
    path.write_text("weights", encoding="utf-8")


def cut(path: Path) -> None:
    MODEL.save(path)
    path.write_bytes(path.read_bytes()[:200])


def objects(path: Path) -> None:
    np.savez(path, weights=np.array([None, {}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.touch(),
        lambda path: path.mkdir(),
        npz,
        npy,
        text,
        cut,
        objects,
    ],
    ids=["absent", "empty", "directory", "npz", "npy", "text", "cut", "objects"],
)
def test_a_file_that_is_no_model(make, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    make(path)
    with pytest.raises(UserError, match=r"model\.npz") as caught:
        Model.load(path)
    assert "\n" not in str(caught.value)


# initial weights and references

SCALING = Scaling(np.array([1.0, 0.0]), np.array([2.0, 1.0]), intercept=True, norm=4.0)


def test_weights_of_the_whole_dimension(tmp_path: Path) -> None:
    path = tmp_path / "init.npz"
    np.savez(path, weights=np.array([1, 2, 3]))
    weights = read_weights(path, "init", SCALING)
    np.testing.assert_array_equal(weights, [1.0, 2.0, 3.0])
    assert weights.dtype == np.float64


@pytest.mark.parametrize("intercept", [True, False])
def test_a_model_file_gives_back_the_weights_it_was_made_of(intercept: bool, tmp_path: Path) -> None:
    scaling = Scaling(SCALING.mean, SCALING.scale, intercept, norm=4.0)
    weights = np.arange(1.0, scaling.dimension + 1)
    Model.of(weights, scaling, ("a", "b")).save(tmp_path / "model.npz")
    np.testing.assert_allclose(read_weights(tmp_path / "model.npz", "init", scaling), weights, rtol=1e-15)


@pytest.mark.parametrize(
    "weights",
    [np.zeros(2), np.zeros(4), np.zeros((1, 3)), np.array([0.0, np.nan, 0.0]), np.array(["a", "b", "c"])],
    ids=["short", "long", "matrix", "nan", "text"],
)
def test_weights_that_do_not_fit(weights: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "init.npz"
    np.savez(path, weights=weights)
    with pytest.raises(UserError, match=r"init = .*init\.npz"):
        read_weights(path, "init", SCALING)


def test_a_model_of_another_scaling_is_converted(tmp_path: Path) -> None:
    # the same scores on raw features, whatever the scaling that the weights are kept in
    rng = np.random.default_rng(3)
    X = rng.normal(size=(7, 4))
    old = Scaling(rng.normal(size=4), rng.random(4) + 0.5, intercept=True, norm=2.5)
    new = Scaling(rng.normal(size=4), rng.random(4) + 0.5, intercept=True, norm=0.7)
    model = Model.of(rng.normal(size=5), old, ("0", "1"))
    model.save(tmp_path / "model.npz")
    weights = read_weights(tmp_path / "model.npz", "init", new)
    np.testing.assert_allclose(new.rows(X) @ weights, model.scores(X), rtol=1e-12)


def test_an_intercept_that_the_run_has_no_place_for(tmp_path: Path) -> None:
    scaling = Scaling.identity(2, intercept=True)
    Model.of(np.array([1.0, 2.0, 3.0]), scaling, ("0", "1")).save(tmp_path / "model.npz")
    with pytest.raises(UserError, match="has an intercept, and this run has intercept = false"):
        read_weights(tmp_path / "model.npz", "init", Scaling.identity(2, intercept=False))
