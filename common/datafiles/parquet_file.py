"""Data in ``.parquet`` files: numeric columns and a label column."""

from pathlib import Path

import numpy as np

from common.datafiles.checks import Dataset, checked, one_line, row_name
from common.datafiles.csv_file import label_column
from common.errors import UserError


def read_parquet(path: Path, label: str, labelled: bool) -> Dataset:
    """Read the columns of a table; all but the label's must be numbers."""
    try:
        from pyarrow import ArrowException, float64, types
        from pyarrow.parquet import read_table
    except ImportError:
        raise UserError(".parquet needs the package pyarrow: pip install 'localgd[parquet]'") from None
    try:
        table = read_table(path)
    except ArrowException as error:
        raise UserError(f"damaged or not a parquet file ({one_line(error)})") from error
    at = label_column(table.column_names, label, labelled)
    names = tuple(name for index, name in enumerate(table.column_names) if index != at)
    for name in names:
        kind = table.schema.field(name).type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            raise UserError(f"column {name!r} holds {kind}, not numbers")
    X = np.empty((table.num_rows, len(names)))
    for index, name in enumerate(names):
        X[:, index] = table.column(name).cast(float64(), safe=False).to_numpy()  # a missing value becomes NaN
    if at is None:
        return checked(X, None, names, row_name)
    y = ["" if value is None else str(value) for value in table.column(at).to_pylist()]
    return checked(X, np.array(y), names, row_name)
