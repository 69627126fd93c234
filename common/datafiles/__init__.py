"""Read, check and write one private data file: the examples of one device, or a held-out test set."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common.datafiles.checks import Dataset, label_text, one_line
from common.datafiles.csv_file import read_csv
from common.datafiles.npz_file import read_npz
from common.datafiles.parquet_file import read_parquet
from common.datafiles.svmlight_file import read_svmlight
from common.errors import UserError
from common.sparse import is_sparse


def read(path: Path, label: str = "label", labelled: bool = True) -> Dataset:
    """Read one data file and check all of it.

    Parameters
    ----------
    path
        ``.npz`` with ``X`` (n, d) and ``y`` (n,); ``.csv`` (with a header) or
        ``.parquet`` with a label column; or svmlight (``.svm``, ``.svmlight``,
        ``.libsvm``), whose rows stay sparse.
    label
        The name of the label column, for the files that have one.
    labelled
        Whether the file must have labels; one that needs none and has none gets empty ones.

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
        return reader(path, label, labelled)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from error


def write(path: Path, dataset: Dataset) -> None:
    """Write a ``.npz`` that `read` gives back; the file appears whole or not at all."""
    if path.suffix.lower() != ".npz":
        raise UserError(f"{path}: data are written as .npz only")
    if is_sparse(dataset.X):
        raise UserError(f"{path}: sparse rows cannot be written as .npz")
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


# extension -> reader(path, label, labelled); it raises UserError without the file's name, which `read` adds
READERS: dict[str, Callable[[Path, str, bool], Dataset]] = {
    ".npz": read_npz,
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".svm": read_svmlight,
    ".svmlight": read_svmlight,
    ".libsvm": read_svmlight,
}

__all__ = ["READERS", "Dataset", "label_text", "read", "write"]
