"""What every data file is checked for, whatever its format: finite features, one label for each row."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import UserError
from common.sparse import Features, is_sparse


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples that passed every check: finite features, and one label each or none at all."""

    X: Features  # (n, d) float64, dense or sparse
    y: NDArray[np.str_]  # (n,) label names as text; all empty where the file has no labels
    columns: tuple[str, ...] | None = None  # d feature names, when the file has them

    @property
    def labelled(self) -> bool:
        """Tell whether there are labels."""
        return bool(self.y[0] != "")

    @property
    def column_fingerprint(self) -> str:
        """A hash of the feature names in order, or ``"none"``."""
        return "none" if self.columns is None else column_fingerprint(self.columns)


def column_fingerprint(columns: Sequence[str]) -> str:
    """Hash feature names in order."""
    return hashlib.sha256("\0".join(columns).encode()).hexdigest()[:16]


def label_text(y: ArrayLike) -> NDArray[np.str_]:
    """Labels as canonical text, so that clients agree whatever type each of them stored.

    Whole numbers in any form (``1``, ``1.0``, ``True``, ``" 1 "``, ``"1e0"``) become ``"1"``, other numbers
    their shortest decimal text (``"0.5"``); other text is stripped. ``"007"`` is a name and stays.

    Raises
    ------
    UserError
        An empty, NaN or infinite label, with its 1-based row; or labels that are not 1-d.
    """
    return _labels(np.asarray(y), row_name)


Where = Callable[[int], str]  # row index from 0 -> how an error names that row

_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,999})")
_NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
MOST_COLUMNS = 2**27
MISSING = ("", "na", "n/a", "null", "none", "?")


def row_name(index: int) -> str:
    """Name a row, counted from 1."""
    return f"row {index + 1}"


def checked(X: Features, y: NDArray[Any] | None, columns: tuple[str, ...] | None, where: Where) -> Dataset:
    """Return the data set, or raise a `UserError` that says where something is not as it must be.

    ``y`` is None where there are no labels.
    """
    if X.dtype.kind not in "biuf":
        kind = {"U": "text", "S": "text", "c": "complex numbers"}.get(X.dtype.kind, str(X.dtype))
        raise UserError(f"X must hold real numbers, not {kind}")
    if X.ndim != 2:
        raise UserError(f"X must be 2-d (examples, features), not of shape {X.shape}")
    y = np.full(X.shape[0], "") if y is None else _labels(y, where)
    if X.shape[0] != len(y):
        raise UserError(f"X has {X.shape[0]} rows but y has {len(y)} labels; there must be as many")
    if len(y) == 0:
        raise UserError("no examples; at least one row is needed")
    if X.shape[1] == 0:
        raise UserError("no features; at least one column beside the label is needed")
    if X.shape[1] > MOST_COLUMNS:
        raise UserError(f"{X.shape[1]} columns; a model of more than {MOST_COLUMNS} fits in no message")
    if columns is not None and len(columns) != X.shape[1]:
        raise UserError(f"columns has {len(columns)} names but X has {X.shape[1]} columns")
    if not is_sparse(X):
        with np.errstate(over="ignore"):  # what float64 cannot hold becomes infinite, and is refused as such
            X = np.ascontiguousarray(X, dtype=np.float64)
    row, column = _not_finite(X)
    if row >= 0:
        name = str(column + 1) if columns is None else repr(columns[column])
        raise UserError(f"{where(row)}, column {name}: {X[row, column]} is not allowed; it must be finite")
    return Dataset(X, y, columns)


def _not_finite(X: Features) -> tuple[int, int]:
    """Return the place of the first value that is not finite, or (-1, -1)."""
    finite = np.isfinite(X.data if is_sparse(X) else X)
    if finite.all():
        return -1, -1
    first = int(finite.argmin())
    if is_sparse(X):
        return int(np.searchsorted(X.indptr, first, side="right")) - 1, int(X.indices[first])
    row, column = np.unravel_index(first, X.shape)
    return int(row), int(column)


def _labels(y: NDArray[Any], where: Where) -> NDArray[np.str_]:
    if y.ndim != 1:
        raise UserError(f"y must be 1-d (one label for each example), not of shape {y.shape}")
    texts = [_one_label(value) for value in y]
    for index, text in enumerate(texts):
        if text == "":
            raise UserError(f"{where(index)}: the label is empty; every row needs one")
        if _NOT_FINITE.fullmatch(text):
            raise UserError(f"{where(index)}: the label is {text}; a label is text or a finite number")
    return np.array(texts, dtype=np.str_)


def _one_label(value: Any) -> str:
    # numpy's str is the shortest text that gives the value back in its own precision: float32 0.1 is "0.1"
    text = (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()
    if text.lower() in ("true", "false"):
        return "1" if text.lower() == "true" else "0"
    if _INTEGER.fullmatch(text):
        return str(int(text))
    if _NUMBER.fullmatch(text):
        number = float(text)
        return str(int(number)) if number.is_integer() and abs(number) < 2**53 else str(number)
    return text


def is_number(cell: str) -> bool:
    """Tell whether Python reads the text as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def some(names: Sequence[str]) -> str:
    """List the first few names and say how many there are."""
    shown = ", ".join(repr(clip(name)) for name in names[:6])
    return f"{shown}, … {len(names)} in all" if len(names) > 6 else shown or "nothing"


def clip(text: str) -> str:
    """Shorten a text for an error message."""
    return text if len(text) <= 40 else text[:39] + "…"


def one_line(error: BaseException) -> str:
    """Return an error's text without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
