"""A trained model as scikit-learn estimators; the only module that imports scikit-learn where it is read."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_array

from common.datafiles.checks import label_text

if TYPE_CHECKING:
    from common.model import Model

Vector = NDArray[np.float64]


class _Federated(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: a model that is trained already, and its formula on raw features.

    What scikit-learn does with a fitted estimator works: ``predict``, ``score``, scorers, displays,
    ``permutation_importance``, a place at the end of a ``Pipeline``, ``clone`` and ``joblib``.  ``fit``
    trains nothing, since a federation has: ``cross_val_score`` scores every fold by the same model.
    """

    def __init__(self, model: "Model") -> None:
        self.model = model

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Return the estimator as it is: the federation has trained it."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Say that it needs no ``fit``."""
        return True

    @property
    def n_features_in_(self) -> int:
        """The number of feature columns."""
        return len(self.model.mean)

    @property
    def _slopes(self) -> Vector:
        slopes: Vector = self.model.weights / self.model.scale
        return slopes

    @property
    def _constant(self) -> Vector:
        constant: Vector = np.asarray(self.model.intercept - self._slopes @ self.model.mean)
        return constant

    def _scores(self, X: Any) -> Vector:
        """Return the model's scores of raw features; a data frame's columns are compared by their names."""
        columns = [str(name) for name in X.columns] if hasattr(X, "columns") else None
        rows = check_array(X, dtype=np.float64)
        if difference := self.model.unlike(rows.shape[1], columns):
            raise ValueError(f"X has {difference}")
        return self.model.scores(rows)


class FederatedClassifier(ClassifierMixin, _Federated):  # type: ignore[misc]
    """A linear classifier of raw features, trained by a federation.

    Classes whose names are whole numbers are integers here, as data files and scikit-learn have them.

    Attributes
    ----------
    classes_
        The classes, (C,).
    coef_, intercept_
        Of the raw features: (1, d) and (1,) for two classes, else (C, d) and (C,).
    """

    @property
    def classes_(self) -> NDArray[Any]:
        """The classes, (C,)."""
        names = self.model.classes
        whole = all(name.removeprefix("-").isdecimal() and len(name) < 19 for name in names)
        return np.array([int(name) for name in names] if whole else names)

    @property
    def coef_(self) -> Vector:
        """The weights of raw features, (1, d) for two classes, else (C, d)."""
        return np.atleast_2d(self._slopes)

    @property
    def intercept_(self) -> Vector:
        """The intercept of raw features, (1,) for two classes, else (C,)."""
        return np.atleast_1d(self._constant)

    def decision_function(self, X: ArrayLike) -> Vector:
        """Return scores (n,), positive for the second of two classes, or (n, C)."""
        return self._scores(X)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class of each row of raw features (n, d)."""
        chosen: NDArray[Any] = self.classes_[self.model.chosen(self._scores(X))]
        return chosen

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy; labels are compared as data files are, so that 1, 1.0 and ``"1"`` are one."""
        right = label_text(self.predict(X)) == label_text(y)
        return float(np.average(right, weights=None if sample_weight is None else np.asarray(sample_weight)))


class FederatedRegressor(RegressorMixin, _Federated):  # type: ignore[misc]
    """A linear regression of raw features, trained by a federation; ``score`` is R².

    Attributes
    ----------
    coef_, intercept_
        Of the raw features: (d,) and a number.
    """

    @property
    def coef_(self) -> Vector:
        """The weights of raw features, (d,)."""
        return self._slopes

    @property
    def intercept_(self) -> float:
        """The intercept of raw features."""
        return float(self._constant)

    def predict(self, X: ArrayLike) -> Vector:
        """Return the predicted number of each row of raw features (n, d)."""
        return self._scores(X)
