"""Data in ``.parquet`` files: numeric columns and a label column."""

from pathlib import Path

import numpy as np

from common.datafiles.checks import Dataset, checked, one_line, row_name
from common.datafiles.csv_file import label_column
from common.errors import UserError


def read_parquet(path: Path, label: str) -> Dataset:
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
    at = label_column(table.column_names, label)
    names = tuple(name for index, name in enumerate(table.column_names) if index != at)
    for name in names:
        kind = table.schema.field(name).type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            raise UserError(f"column {name!r} holds {kind}, not numbers")
    y = ["" if value is None else value for value in table.column(at).to_pylist()]
    X = np.empty((table.num_rows, len(names)))
    for index, name in enumerate(names):
        X[:, index] = table.column(name).cast(float64(), safe=False).to_numpy()  # a missing value becomes NaN
    return checked(X, np.array([str(value) for value in y]), names, row_name)
