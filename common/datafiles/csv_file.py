"""Data in ``.csv`` files with a header."""

import csv
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.datafiles.checks import MISSING, Dataset, checked, clip, is_number, one_line, some
from common.errors import UserError


def read_csv(path: Path, label: str, labelled: bool) -> Dataset:
    """Read rows of numbers and a label, under a header that names the columns."""
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
            at = label_column(header, label, labelled)
            ends = [rows.line_num]
            columns = tuple(name for index, name in enumerate(header) if index != at)
            for index, cells in enumerate(filled):
                ends.append(rows.line_num)
                if len(cells) != len(header):
                    raise UserError(f"{where(index)}: {len(cells)} cells, but the header has {len(header)}")
                if at is not None:
                    labels.append(cells.pop(at))
                try:
                    features.append(np.array(list(map(float, cells))))
                except ValueError as error:
                    raise UserError(f"{where(index)}, {_bad_cell(cells, columns)}") from error
        except UnicodeDecodeError as error:
            after = f" (after line {rows.line_num})" if rows.line_num else ""
            raise UserError(f"not UTF-8 text{after}; save it as CSV UTF-8") from error
        except csv.Error as error:
            raise UserError(f"not a csv file: {one_line(error)}, in what follows line {ends[-1]}") from error
    X = np.array(features, dtype=np.float64).reshape(len(features), len(columns))
    return checked(X, None if at is None else np.array(labels, dtype=np.str_), columns, where)


def label_column(header: Sequence[str], label: str, labelled: bool) -> int | None:
    """Return the place of the label column in a header of distinct names; None if it need not be there."""
    if not header:
        raise UserError("the file is empty; a header and at least one row are needed")
    if label not in header:
        if len(header) == 1 and re.search(r"[;\t|]", header[0]):
            raise UserError(f"the header has no commas ({some(header)}); cells must be parted by commas")
        if sum(map(is_number, header)) > len(header) / 2:
            raise UserError(f"no header: the first line must name the columns, but it holds {some(header)}")
        if labelled:
            near = difflib.get_close_matches(label, header, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(f"no label column {label!r}; {hint}the columns are {some(header)}")
    for index, name in enumerate(header):
        if name == "":
            raise UserError(f"column {index + 1} has no name in the header; every column needs one")
        if (first := header.index(name)) < index:
            raise UserError(f"columns {first + 1} and {index + 1} are both named {name!r}; names must differ")
    return header.index(label) if label in header else None


def _bad_cell(cells: Sequence[str], columns: Sequence[str]) -> str:
    cell, name = next(pair for pair in zip(cells, columns, strict=True) if not is_number(pair[0]))
    if cell.strip().lower() in MISSING:
        return f"column {name!r}: the value is missing ({cell!r}); every cell needs a number"
    return f"column {name!r}: {clip(cell)!r} is not a number"
