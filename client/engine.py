"""The array namespace that a client computes in: numpy, or torch on a CPU or a GPU."""

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.sparse import Features, dense, is_sparse

Array = Any


def to_engine(array: Features, engine: str, device: str) -> Array:
    """Return the array in the namespace of ``engine``: ``auto`` is numpy, unless ``device`` is ``cuda``.

    Sparse rows stay sparse with numpy and become dense with torch.

    Raises
    ------
    UserError
        When torch or the device is not there.
    """
    if engine == "numpy" and device != "cpu":
        raise UserError(
            f"engine = 'numpy' works on device = 'cpu' only, not '{device}'; set engine = 'torch'"
        )
    if engine == "numpy" or (engine == "auto" and device == "cpu"):
        return array
    check_torch(device)
    import torch

    values = dense(array) if is_sparse(array) else np.asarray(array)
    # whole numbers, such as classes, stay whole; torch shares memory only with what may be written to
    return torch.as_tensor(values if values.flags.writeable else values.copy(), device=device)


def to_numpy(array: Array) -> NDArray[np.float64]:
    """Return an array of any engine as a float64 numpy array."""
    return np.asarray(array.cpu() if hasattr(array, "cpu") else array, dtype=np.float64)


def check_torch(device: str) -> None:
    """Raise a `UserError` unless torch is installed and has the device."""
    if importlib.util.find_spec("torch") is None:
        raise UserError("engine = 'torch' needs torch, which is not installed: pip install 'localgd[torch]'")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("device = 'cuda' is not available here; allowed: cpu")
