"""Apply a trained model to a file: predictions as CSV, and how good they are where the labels are known."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import datafiles
from common.datafiles import Dataset
from common.errors import UserError
from common.labels import r_squared, targets
from common.model import Model
from common.sparse import Features, dense, is_sparse, widened

Vector = NDArray[np.float64]
AT_ONCE = 2**24
"""How many numbers of sparse rows are made dense at a time."""


@dataclass(frozen=True)
class Predictions:
    """What a model says of some rows: scores (n,) or (n, C), and class names or numbers (n,)."""

    model: Model
    data: Dataset
    scores: Vector
    values: NDArray[np.str_] | Vector

    def table(self) -> str:
        """Return as CSV each row's number, its label if known, the prediction, and the scores."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        label = ["label"] if self.data.labelled else []
        names = self._score_names()
        writer.writerow(["row", *label, "prediction", *names])
        scores = self.scores.reshape(len(self.values), -1)[:, : len(names)].tolist()
        for index, (value, own) in enumerate(zip(self.values.tolist(), scores, strict=True)):
            known = [self.data.y[index]] if label else []
            writer.writerow([index + 1, *known, value, *own])
        return stream.getvalue()

    def summary(self) -> str:
        """Say how good the predictions are, if that can be known."""
        n = len(self.values)
        if not self.data.labelled:
            return f"{n} rows without labels"
        if not self.model.classes:
            return f"R² {r_squared(self.scores, targets(self.data.y)):.4f} on {n} rows"
        right = int(np.sum(self.values == self.data.y))
        lines = [f"accuracy {100 * right / n:.1f}% ({right} of {n} rows)", *self._confusion()]
        return "\n".join(lines)

    def _score_names(self) -> list[str]:
        named = self.model.classes if self.scores.ndim == 2 else self.model.classes[1:]
        return [f"score {name}" for name in named]

    def _confusion(self) -> Iterator[str]:
        """Yield a table: labels downwards, predictions across."""
        names = self.model.classes
        counts = [[int(np.sum((self.data.y == a) & (self.values == b))) for b in names] for a in names]
        cells = [
            ["label \\ prediction", *names],
            *([a, *map(str, row)] for a, row in zip(names, counts, strict=True)),
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for first, *others in cells:
            right = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
            yield "  ".join((first.ljust(widths[0]), *right))


def load_model(path: str | Path) -> Model:
    """Read a model file, or that of a run directory; ``to_sklearn`` makes a scikit-learn estimator of it.

    Raises
    ------
    UserError
        When there is none, or it is not one.
    """
    return Model.load(model_file(Path(path)))


def model_file(path: Path) -> Path:
    """Return the model file of a run directory, or the file itself.

    Raises
    ------
    UserError
        When a directory has no model.
    """
    if not path.is_dir():
        return path
    if (path / "model.npz").is_file():
        return path / "model.npz"
    if (path / "rounds.jsonl").exists():
        raise UserError(f"{path} has no model.npz: its run did not end well; --resume {path} goes on with it")
    raise UserError(f"{path} has no model.npz: name a run directory or a model file")


def predict(model: Model, path: Path, label: str | None) -> Predictions:
    """Apply a model to a data file of any format.

    Parameters
    ----------
    label
        The label column, which must then be there; if not given it is ``label``, which may be missing.

    Raises
    ------
    UserError
        When the file cannot be read, its columns are not the model's, or a label is none of its classes.
    """
    data = datafiles.read(path, label or "label", labelled=label is not None)
    X = widened(data.X, len(model.mean)) if data.X.shape[1] < len(model.mean) else data.X
    if difference := model.unlike(X.shape[1], data.columns):
        hint = "; if one of them is the label, name it with --label" if not data.labelled else ""
        raise UserError(f"{path} has {difference}{hint}")
    if data.labelled:
        _check_labels(model, data, path)
    scores = _scores(model, X)
    return Predictions(model, data, scores, model.named(scores))


def _check_labels(model: Model, data: Dataset, path: Path) -> None:
    if not model.classes:
        targets(data.y, f"{path}: ")
        return
    known = np.isin(data.y, model.classes)
    if not known.all():
        row = int(known.argmin())
        raise UserError(
            f"{path}: row {row + 1}: the label '{data.y[row]}' is none of the model's "
            f"({', '.join(model.classes)})"
        )


def _scores(model: Model, X: Features) -> Vector:
    if not is_sparse(X):
        return model.scores(X)
    step = max(1, AT_ONCE // X.shape[1])
    return np.concatenate([model.scores(dense(X[k : k + step])) for k in range(0, X.shape[0], step)])
