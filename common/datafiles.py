"""Read, check and write one private data file: the examples of one device, or a held-out test set."""

import csv
import difflib
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import UserError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples that passed every check: finite features, one non-empty label each."""

    X: NDArray[np.float64]  # (n, d)
    y: NDArray[np.str_]  # (n,) label names as text
    columns: tuple[str, ...] | None = None  # d feature names, when the file has them


def read(path: Path, label: str = "label") -> Dataset:
    """Read one data file and check all of it.

    Parameters
    ----------
    path
        ``.npz`` with ``X`` (n, d) and ``y`` (n,), or ``.csv`` with a header and a label column.
    label
        The name of the label column; ``.npz`` files do not use it.

    Raises
    ------
    UserError
        One line that names the file, the row (and line), the column and what is allowed.
    """
    try:
        if not path.is_file():
            raise UserError("a directory, not a data file" if path.is_dir() else "no such file")
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            raise UserError(f"unknown kind of file {path.suffix!r}; allowed: {', '.join(READERS)}")
        return reader(path, label)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def write(path: Path, dataset: Dataset) -> None:
    """Write a ``.npz`` that `read` gives back; the file appears whole or not at all."""
    if path.suffix.lower() != ".npz":
        raise UserError(f"{path}: data are written as .npz only")
    arrays: dict[str, Any] = {"X": dataset.X, "y": dataset.y}
    if dataset.columns is not None:
        arrays["columns"] = np.array(dataset.columns, dtype=np.str_)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, **arrays)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def label_text(y: ArrayLike) -> NDArray[np.str_]:
    """Labels as canonical text, so that clients agree whatever type each of them stored.

    Whole numbers in any form (``1``, ``1.0``, ``True``, ``" 1 "``, ``"1e0"``) become ``"1"``, other numbers
    their shortest decimal text (``"0.5"``); other text is stripped. ``"007"`` is a name and stays.

    Raises
    ------
    UserError
        An empty, NaN or infinite label, with its 1-based row; or labels that are not 1-d.
    """
    return _labels(np.asarray(y), _row)


Where = Callable[[int], str]  # row index from 0 -> how an error names that row

_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,999})")
_NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_MISSING = ("", "na", "n/a", "null", "none", "?")


def _row(index: int) -> str:
    return f"row {index + 1}"


def _read_npz(path: Path, label: str) -> Dataset:
    if path.stat().st_size == 0:
        raise UserError("the file is empty")
    arrays: dict[str, NDArray[Any]] = {}
    name = ""
    with path.open("rb") as stream:  # not np.load(path), which leaves a damaged file open
        if stream.read(2) != b"PK" or not zipfile.is_zipfile(stream):
            raise UserError("not a .npz file, or cut short; write it with numpy.savez(file, X=X, y=y)")
        stream.seek(0)
        try:
            archive = np.load(stream, allow_pickle=False)
            for name in ("X", "y", "columns"):
                if name in archive.files:
                    array = arrays[name] = np.asarray(archive[name])
                    if array.dtype.kind == "U":  # numpy does not check that it holds text
                        "".join(array.ravel().tolist()).encode()
                elif name != "columns":
                    raise UserError(f"no {name} in it (it holds {_some(archive.files)}); X and y are needed")
        except (UserError, OSError):
            raise
        except Exception as error:  # numpy and zipfile raise a dozen kinds, even tokenize.TokenError
            if not (name and "allow_pickle" in str(error)):
                raise UserError(f"damaged or cut short ({_one_line(error)})") from error
            dtype = "float64" if name == "X" else "str"
            hint = f"save {name}.astype({dtype!r})"
            raise UserError(f"{name} holds Python objects, which are never loaded; {hint}") from error
    columns = tuple(str(name) for name in arrays["columns"].ravel()) if "columns" in arrays else None
    return _checked(arrays["X"], arrays["y"], columns, _row)


def _read_csv(path: Path, label: str) -> Dataset:
    features: list[NDArray[np.float64]] = []
    labels: list[str] = []
    ends = [0]  # the lines on which the header and then each row end; a quoted cell may span several

    def where(index: int) -> str:
        return f"row {index + 1} (line {ends[index + 1]})"

    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(stream, strict=True)  # strict: an unclosed quote is an error, not one huge cell
        filled = filter(None, rows)
        try:
            header = [name.strip() for name in next(filled, [])]
            at = _label_column(header, label)
            ends = [rows.line_num]
            columns = tuple(header[:at] + header[at + 1 :])
            for index, cells in enumerate(filled):
                ends.append(rows.line_num)
                if len(cells) != len(header):
                    raise UserError(f"{where(index)}: {len(cells)} cells, but the header has {len(header)}")
                labels.append(cells.pop(at))
                try:
                    features.append(np.array(list(map(float, cells))))
                except ValueError as error:
                    raise UserError(f"{where(index)}, {_bad_cell(cells, columns)}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"not UTF-8 text (after line {rows.line_num}); save it as CSV UTF-8") from error
        except csv.Error as error:
            raise UserError(f"not a csv file: {_one_line(error)}, in what follows line {ends[-1]}") from error
    X = np.array(features, dtype=np.float64).reshape(len(labels), len(columns))
    return _checked(X, np.array(labels, dtype=np.str_), columns, where)


def _label_column(header: Sequence[str], label: str) -> int:
    if not header:
        raise UserError("the file is empty; a header and at least one row are needed")
    if label not in header:
        if len(header) == 1 and re.search(r"[;\t|]", header[0]):
            raise UserError(f"the header has no commas ({_some(header)}); cells must be parted by commas")
        if sum(map(_is_number, header)) > len(header) / 2:
            raise UserError(f"no header: the first line must name the columns, but it holds {_some(header)}")
        near = difflib.get_close_matches(label, header, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"no label column {label!r}; {hint}the columns are {_some(header)}")
    for index, name in enumerate(header):
        if name == "":
            raise UserError(f"column {index + 1} has no name in the header; every column needs one")
        if (first := header.index(name)) < index:
            raise UserError(f"columns {first + 1} and {index + 1} are both named {name!r}; names must differ")
    return header.index(label)


def _bad_cell(cells: Sequence[str], columns: Sequence[str]) -> str:
    cell, name = next(pair for pair in zip(cells, columns, strict=True) if not _is_number(pair[0]))
    if cell.strip().lower() in _MISSING:
        return f"column {name!r}: the value is missing ({cell!r}); every cell needs a number"
    return f"column {name!r}: {_clip(cell)!r} is not a number"


def _checked(X: NDArray[Any], y: NDArray[Any], columns: tuple[str, ...] | None, where: Where) -> Dataset:
    if X.dtype.kind not in "biuf":
        raise UserError(f"X must hold real numbers, not {X.dtype}")
    if X.ndim != 2:
        raise UserError(f"X must be 2-d (examples, features), not of shape {X.shape}")
    y = _labels(y, where)
    if len(X) != len(y):
        raise UserError(f"X has {len(X)} rows but y has {len(y)} labels; there must be as many")
    if len(X) == 0:
        raise UserError("no examples; at least one row is needed")
    if X.shape[1] == 0:
        raise UserError("no features; at least one column beside the label is needed")
    if columns is not None and len(columns) != X.shape[1]:
        raise UserError(f"columns has {len(columns)} names but X has {X.shape[1]} columns")
    with np.errstate(over="ignore"):  # what float64 cannot hold becomes infinite, and is refused as such
        X = np.ascontiguousarray(X, dtype=np.float64)
    finite = np.isfinite(X)
    if not finite.all():
        row, column = map(int, np.unravel_index(int(finite.argmin()), X.shape))
        name = str(column + 1) if columns is None else repr(columns[column])
        raise UserError(f"{where(row)}, column {name}: {X[row, column]} is not allowed; it must be finite")
    return Dataset(X, y, columns)


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


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(_clip(name)) for name in names[:6])
    return f"{shown}, … {len(names)} in all" if len(names) > 6 else shown or "nothing"


def _clip(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# extension -> reader(path, label); a reader raises UserError without the file's name, `read` adds it
READERS: dict[str, Callable[[Path, str], Dataset]] = {".npz": _read_npz, ".csv": _read_csv}
