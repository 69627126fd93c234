"""TensorBoard's event files: what TensorBoard itself reads from them."""

import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from server.tensorboard import EventFile, check, numbers

ROW: dict[str, Any] = {
    "round": 1, "loss": 0.5, "margin": None, "missing": ["b"], "bytes": {"sent": 12, "received": 7},
    "client_drift_deg": {"a": 3.0},
}  # fmt: skip


def test_the_numbers_of_a_row() -> None:
    assert dict(numbers(ROW)) == {
        "loss": 0.5, "missing": 1, "bytes/sent": 12, "bytes/received": 7, "client_drift_deg/a": 3.0,
    }  # fmt: skip


def test_tensorboard_reads_them_and_forgets_what_a_resumed_run_does_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for done, losses in ((0, {1: 0.5, 2: 0.25, 3: 9.0}), (2, {3: 0.125})):
        file = EventFile(tmp_path, done, enabled=True)
        for number, loss in losses.items():
            file.write(ROW | {"round": number, "loss": loss})
        file.close()
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert read.Scalars("bytes/sent")[0].value == 12


def test_not_enabled_writes_nothing(tmp_path: Path) -> None:
    file = EventFile(tmp_path, 0, enabled=False)
    file.write(ROW)
    file.close()
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    check(False)
    with pytest.raises(UserError, match=r"pip install 'localgd\[tensorboard\]'"):
        check(True)
