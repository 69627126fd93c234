"""Features that may be sparse: ``scipy.sparse`` rows stay sparse as long as nothing makes them dense."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = Any
"""A float64 ``numpy.ndarray`` (n, d) or a ``scipy.sparse.csr_array`` of the same."""


def is_sparse(X: Features) -> bool:
    """Tell sparse features from dense ones, without importing scipy where nobody has."""
    scipy_sparse = sys.modules.get("scipy.sparse")
    return scipy_sparse is not None and bool(scipy_sparse.issparse(X))


def dense(X: Features) -> NDArray[np.float64]:
    """Return the features as a numpy array."""
    return np.asarray(X.toarray() if is_sparse(X) else X, np.float64)


def widened(X: Features, dimension: int) -> Features:
    """Return sparse features with zero columns appended up to ``dimension``; dense ones as they are."""
    if not is_sparse(X) or X.shape[1] == dimension:
        return X
    wider = X.copy()
    wider.resize((X.shape[0], dimension))
    return wider


def data_bytes(X: Features) -> bytes:
    """Return bytes that differ when the features do."""
    if is_sparse(X):
        return b"".join(part.tobytes() for part in (X.indptr, X.indices, X.data))
    return bytes(X.tobytes())
