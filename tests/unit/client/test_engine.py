import importlib.util

import numpy as np
import pytest

from client.engine import check_torch, to_engine, to_numpy
from common.errors import UserError

ARRAY = np.array([1.0, 2.0])


@pytest.mark.parametrize("engine", ["numpy", "auto"])
def test_numpy_is_left_alone(engine: str) -> None:
    assert to_engine(ARRAY, engine, "cpu") is ARRAY


def test_torch_in_double_precision() -> None:
    torch = pytest.importorskip("torch")
    moved = to_engine(ARRAY, "torch", "cpu")
    assert isinstance(moved, torch.Tensor)
    assert moved.dtype == torch.float64
    np.testing.assert_array_equal(to_numpy(moved), ARRAY)


def test_back_to_double_precision() -> None:
    assert to_numpy(np.ones(2, np.float32)).dtype == np.float64


def test_numpy_has_no_gpu() -> None:
    with pytest.raises(UserError, match="engine = 'numpy' works on device = 'cpu' only"):
        to_engine(ARRAY, "numpy", "cuda")


def test_torch_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'localgd\[torch\]'"):
        to_engine(ARRAY, "torch", "cpu")
    with pytest.raises(UserError, match="needs torch"):
        to_engine(ARRAY, "auto", "cuda")


def test_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="device = 'cuda' is not available here"):
        check_torch("cuda")
    check_torch("cpu")
