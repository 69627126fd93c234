"""A model as a scikit-learn estimator: what is claimed of it holds."""

import io
import sys
from dataclasses import replace

import numpy as np
import pytest

from common.datafiles.checks import column_fingerprint
from common.errors import UserError
from common.model import Model

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3))
TWO = Model(
    np.array([1.0, -2.0, 0.5]), np.array(0.5), ("0", "1"), np.array([1.0, 0, 0]), np.array([2.0, 1.0, 3.0])
)
WORDS = replace(TWO, classes=("ill", "well"))
THREE = Model(RNG.standard_normal((3, 3)), np.array([0.1, 0.2, 0.3]), ("a", "b", "c"), np.ones(3), np.ones(3))
NUMBERS = replace(TWO, classes=())


@pytest.fixture(autouse=True)
def sklearn():
    return pytest.importorskip("sklearn")


@pytest.mark.parametrize("model", [TWO, WORDS, THREE])
def test_a_classifier_says_what_the_model_says(model: Model) -> None:
    estimator = model.to_sklearn()
    np.testing.assert_array_equal(estimator.predict(X).astype(str), model.predict(X))
    np.testing.assert_array_equal(estimator.decision_function(X), model.scores(X))
    linear = (X @ estimator.coef_.T + estimator.intercept_).squeeze()
    np.testing.assert_allclose(estimator.decision_function(X), linear, rtol=1e-10, atol=1e-12)
    assert estimator.score(X, model.predict(X)) == 1.0
    assert estimator.get_params(deep=False) == {"model": model}


def test_classes_that_are_whole_numbers_are_integers() -> None:
    estimator = TWO.to_sklearn()
    assert estimator.classes_.tolist() == [0, 1]
    y = (TWO.scores(X) > 0).astype(int)
    y[0] = 1 - y[0]
    for labels in (y, y.astype(float), y.astype(bool), y.astype(str)):
        assert estimator.score(X, labels) == 39 / 40


def test_a_regressor() -> None:
    estimator = NUMBERS.to_sklearn()
    np.testing.assert_allclose(estimator.predict(X), X @ estimator.coef_ + estimator.intercept_, atol=1e-12)
    assert estimator.score(X, NUMBERS.scores(X)) == 1.0


@pytest.mark.parametrize("model", [TWO, THREE, NUMBERS])
def test_what_scikit_learn_does_with_a_fitted_estimator(model: Model) -> None:
    import joblib  # type: ignore[import-untyped]
    from sklearn.base import clone, is_classifier, is_regressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import cross_val_predict, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.utils.validation import check_is_fitted

    estimator, y = model.to_sklearn(), model.predict(X)
    y = y.astype(int) if model is TWO else y
    check_is_fitted(estimator)
    assert (is_classifier(estimator), is_regressor(estimator)) == (bool(model.classes), not model.classes)
    np.testing.assert_array_equal(clone(estimator).predict(X), y)
    np.testing.assert_array_equal(cross_val_predict(estimator, X, y, cv=2), y)
    assert cross_val_score(estimator, X, y, cv=2).tolist() == [1.0] * 2
    assert make_pipeline("passthrough", estimator).score(X, y) == 1.0
    assert permutation_importance(estimator, X, y, n_repeats=2).importances_mean.shape == (3,)
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    np.testing.assert_array_equal(joblib.load(file).predict(X), y)


def test_scorers_and_displays_of_two_classes() -> None:
    from sklearn.metrics import get_scorer, roc_auc_score

    estimator, y = TWO.to_sklearn(), RNG.integers(0, 2, 40)
    assert get_scorer("roc_auc")(estimator, X, y) == roc_auc_score(y, TWO.scores(X))


def test_columns_that_do_not_fit() -> None:
    pandas = pytest.importorskip("pandas")
    estimator = replace(TWO, columns=column_fingerprint(("age", "dose", "mass"))).to_sklearn()
    frame = pandas.DataFrame(X, columns=["age", "dose", "mass"])
    np.testing.assert_array_equal(estimator.predict(frame), estimator.predict(X))
    with pytest.raises(ValueError, match="another order, than the model's: 'dose', 'age', 'mass'"):
        estimator.predict(frame[["dose", "age", "mass"]])
    with pytest.raises(ValueError, match="X has 2 feature columns, and the model takes 3"):
        estimator.predict(X[:, :2])


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "common.estimators", raising=False)
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(UserError, match="pip install"):
        TWO.to_sklearn()
