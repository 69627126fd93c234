"""Data in svmlight files: ``label index:value …`` with indices from 1, kept sparse."""

from pathlib import Path

import numpy as np

from common.datafiles.checks import Dataset, checked, one_line, row_name
from common.errors import UserError


def read_svmlight(path: Path, label: str, labelled: bool) -> Dataset:
    """Read sparse rows; as many columns as the largest index, which another client's file may exceed."""
    try:
        from scipy.sparse import csr_array
        from sklearn.datasets import load_svmlight_file
    except ImportError:
        raise UserError("svmlight files need scikit-learn: pip install 'localgd[svmlight]'") from None
    if path.stat().st_size == 0:
        raise UserError("the file is empty")
    try:
        X, y = load_svmlight_file(str(path), dtype=np.float64, zero_based=False)
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"not an svmlight file, 'label index:value …' with indices from 1 ({one_line(error)})"
        ) from error
    return checked(csr_array(X), y, None, row_name)
