"""Data in ``.npz`` files."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.datafiles.checks import Dataset, checked, one_line, row_name, some
from common.errors import UserError


def read_npz(path: Path, label: str, labelled: bool) -> Dataset:
    """Read the arrays ``X``, ``y`` and, where there are any, the names ``columns``."""
    if path.stat().st_size == 0:
        raise UserError("the file is empty")
    arrays: dict[str, NDArray[Any]] = {}
    needed = "X and y are" if labelled else "X is"
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
                    if array.dtype.kind == "U" and not _is_text(array):
                        raise ValueError(f"{name} holds numbers that are no characters")
                elif name == "X" or (name == "y" and labelled):
                    raise UserError(f"no {name} in it (it holds {some(archive.files)}); {needed} needed")
        except (UserError, OSError):
            raise
        except Exception as error:  # numpy and zipfile raise a dozen kinds, even tokenize.TokenError
            if not (name and "allow_pickle" in str(error)):
                raise UserError(f"damaged or cut short ({one_line(error)})") from error
            dtype = "float64" if name == "X" else "str"
            hint = f"save {name}.astype({dtype!r})"
            raise UserError(f"{name} holds Python objects, which are never loaded; {hint}") from error
    columns = tuple(str(name) for name in arrays["columns"].ravel()) if "columns" in arrays else None
    return checked(arrays["X"], arrays.get("y"), columns, row_name)


def _is_text(array: NDArray[Any]) -> bool:
    """Tell whether texts hold whole characters of Unicode only, which numpy does not check."""
    points = np.frombuffer(array.astype(array.dtype.newbyteorder("=")).tobytes(), np.uint32)
    return not ((points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))).any()
