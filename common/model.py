"""The model file: what a run leaves behind, usable on raw features without any of this software."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.datafiles.checks import column_fingerprint, some
from common.errors import UserError
from common.files import whole
from common.scaling import Scaling

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """A linear model of raw features.

    ``score(x) = weights · (x − mean)/scale + intercept``.  With weights (d,) and two classes a positive score
    is the second class; with a row of weights for each class, (C, d), the class is that of the largest score;
    without classes the score is the prediction.  ``columns`` is the fingerprint of the feature names, and
    ``"none"`` where the training data have none.
    """

    weights: Vector
    intercept: Vector  # a number, or one for each class
    classes: tuple[str, ...]
    mean: Vector
    scale: Vector
    columns: str = "none"

    @classmethod
    def of(
        cls, weights: Vector, scaling: Scaling, classes: tuple[str, ...], columns: str = "none"
    ) -> "Model":
        """Build the model of the federation's weights, (dimension,) or (C, dimension)."""
        features, constant = len(scaling.mean), np.zeros(weights.shape[:-1])
        if scaling.intercept:
            constant = weights[..., -1] / scaling.norm
        return cls(
            weights[..., :features],
            np.asarray(constant),
            classes,
            scaling.mean,
            scaling.scale * scaling.norm,
            columns,
        )

    def scores(self, X: NDArray[np.float64]) -> Vector:
        """Return the scores of rows of raw features (n, d): (n,), or with weights for each class (n, C)."""
        scores: Vector = ((X - self.mean) / self.scale) @ self.weights.T + self.intercept
        return scores

    def predict(self, X: NDArray[np.float64]) -> NDArray[np.str_] | Vector:
        """Return the class name, or without classes the number, of each row of raw features (n, d)."""
        return self.named(self.scores(X))

    def named(self, scores: Vector) -> NDArray[np.str_] | Vector:
        """Return what scores (n,) or (n, C) say: class names, or without classes the numbers themselves."""
        if not self.classes:
            return scores
        named: NDArray[np.str_] = np.array(self.classes)[self.chosen(scores)]
        return named

    def chosen(self, scores: Vector) -> NDArray[np.intp]:
        """Return the number of the class that each row's scores say, (n,)."""
        return scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0).astype(np.intp)

    def to_sklearn(self) -> Any:
        """Return the model as a fitted scikit-learn estimator: `FederatedClassifier` or `FederatedRegressor`.

        Raises
        ------
        UserError
            When scikit-learn is not installed.
        """
        try:
            from common.estimators import FederatedClassifier, FederatedRegressor
        except ImportError:
            raise UserError("to_sklearn needs scikit-learn: pip install scikit-learn") from None
        return FederatedClassifier(self) if self.classes else FederatedRegressor(self)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        save_arrays(
            path,
            weights=self.weights,
            intercept=self.intercept,
            classes=np.array(self.classes, np.str_),
            mean=self.mean,
            scale=self.scale,
            columns=np.str_(self.columns),
        )

    @classmethod
    def load(cls, path: Path) -> "Model":
        """Read a model file.

        Raises
        ------
        UserError
            When it cannot be read or lacks a part.
        """
        parts = _read(path, "model", ("weights", "intercept", "classes", "mean", "scale"))
        classes = tuple(map(str, parts["classes"]))
        columns = str(parts.get("columns", "none"))  # older files say nothing of them
        model = cls(parts["weights"], parts["intercept"], classes, parts["mean"], parts["scale"], columns)
        model._check(path)
        return model

    def _check(self, path: Path) -> None:
        """Refuse parts that do not fit together, or are not finite numbers."""
        d, rows = self.mean.shape, self.weights.shape[:-1]
        numbers = (self.weights, self.intercept, self.mean, self.scale)
        if not all(part.dtype.kind == "f" and np.isfinite(part).all() for part in numbers):
            raise UserError(f"model = '{path}': weights, intercept, mean and scale must be finite numbers")
        fits = len(d) == 1 and self.weights.shape == (*rows, *d) and self.scale.shape == d
        known = len(self.classes) == rows[0] if rows else len(self.classes) in (0, 2)
        if not (fits and len(rows) < 2 and known and self.intercept.shape == rows):
            raise UserError(f"model = '{path}': its parts do not fit together; it is not a file of localgd's")

    def unlike(self, features: int, columns: Sequence[str] | None) -> str:
        """Say how the columns of some data differ from those that the model was trained on, if they do."""
        if features != len(self.mean):
            return f"{features} feature columns, and the model takes {len(self.mean)}"
        if columns is not None and "none" != self.columns != column_fingerprint(columns):
            return f"feature columns with other names, or in another order, than the model's: {some(columns)}"
        return ""


def read_weights(path: Path, key: str, scaling: Scaling, classes: tuple[str, ...] = ()) -> Vector:
    """Read the weights (dimension,) from the ``.npz`` that a configuration key names.

    It holds ``weights`` of the whole dimension, or is a model file; a model of other raw scales is
    converted to this run's.

    Parameters
    ----------
    classes
        The classes that have a row of weights each, (C, dimension), where there are several.

    Raises
    ------
    UserError
        When the file cannot be read or does not fit.
    """
    parts = _read(path, key, ("weights",))
    try:
        weights = np.asarray(parts["weights"], np.float64)
    except ValueError:
        raise UserError(f"{key} = '{path}': its weights are not numbers") from None
    rows = (len(classes),) if classes else ()
    if "classes" in parts and classes and (known := tuple(map(str, parts["classes"]))) != classes:
        raise UserError(
            f"{key} = '{path}' is for the classes {', '.join(known)}; the clients have {', '.join(classes)}"
        )
    if {"intercept", "mean", "scale"} <= parts.keys() and weights.shape == (*rows, *scaling.mean.shape):
        weights = _rescaled(weights, parts, scaling)
        if weights.shape[-1] != scaling.dimension:
            raise UserError(f"{key} = '{path}' has an intercept, and this run has intercept = false")
    if weights.shape != (*rows, scaling.dimension):
        wanted = f"{len(classes)} × {scaling.dimension}" if classes else f"{scaling.dimension}"
        raise UserError(
            f"{key} = '{path}': its weights have shape {weights.shape}; allowed: {wanted} finite numbers"
        )
    if not np.isfinite(weights).all():
        raise UserError(f"{key} = '{path}': its weights are not finite")
    return weights


def check_weights(path: Path, key: str) -> None:
    """Raise UserError unless the file that a configuration key names can be read and holds weights."""
    _read(path, key, ("weights",))


def _rescaled(weights: Vector, parts: dict[str, NDArray[Any]], scaling: Scaling) -> Vector:
    """Return a model's weights in the coordinates of a scaling, the intercept's last where there is one."""
    slopes: Vector = weights / parts["scale"]  # of the raw features
    intercept = np.asarray(parts["intercept"] + slopes @ (scaling.mean - parts["mean"]))
    rescaled = slopes * scaling.scale * scaling.norm
    if not intercept.any() and not scaling.intercept:
        return rescaled
    return np.concatenate([rescaled, intercept[..., None] * scaling.norm], axis=-1)


def save_arrays(path: Path, **arrays: NDArray[np.generic] | np.generic) -> None:
    """Write a ``.npz`` file, whole or not at all."""
    with whole(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _read(path: Path, key: str, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as stream:  # not np.load(path), which leaves a damaged file open
            archive = np.load(stream, allow_pickle=False)
            parts = {name: archive[name] for name in archive.files}
    except OSError as error:
        raise UserError(f"{key} = '{path}' cannot be read: {error.strerror}") from None
    except Exception:  # numpy and zipfile raise a dozen kinds
        raise UserError(f"{key} = '{path}' is not a .npz file, or a damaged one") from None
    missing = [name for name in names if name not in parts]
    if missing:
        raise UserError(
            f"{key} = '{path}' lacks {', '.join(missing)}; it has {', '.join(parts) or 'nothing'}"
        )
    return parts
