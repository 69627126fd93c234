"""Damaged checkpoints: refused as such, also by one who knows how to make the checksum right."""

import contextlib
import hashlib

import numpy as np
import pytest
from hypothesis import given

from common.federation import Client, Federation
from common.geometry import Certificate
from common.handshake import Preparation
from common.scaling import Scaling
from common.solution import Answer, LocalSolution, Measures, Part
from server import encoding
from server.checkpoint import CLASSES, Checkpoint, Origin
from server.monitor import MonitorState
from strategies.cuts import Cut
from strategies.cutting_plane import CutState
from tests.faults.mutation import fuzz_share, mutated

VECTOR = np.array([1.0, -2.0, 0.5])
SOLUTION = LocalSolution((Part(VECTOR, 1.5),), active=2, steps=3)
STATE = CutState(VECTOR, (Cut(0, VECTOR, 0.5), Cut(1, -VECTOR)), None, ("a", "b"))
MONITOR = MonitorState(
    Certificate(3, 3, 2, 1.0),
    Certificate(3, 3, 2, 1.0, 0.5, 0.1, VECTOR),
    (1.0, {"round": 3}, VECTOR),
    {},
    None,
)
FEDERATION = Federation(
    (Client(1, "a", 3, "f", 1.0, 0.25), Client(2, "b", 2, "f", 0.5, 0.2)),
    Preparation(Scaling(VECTOR, VECTOR**2, intercept=False), ("0", "1")),
    norm=2.0,
    salt="s",
)
WHOLE = Checkpoint(
    4,
    (STATE, Answer("a", (SOLUTION,), Measures(0.5, -0.1, 1, 3))),
    MONITOR,
    1.5,
    Origin({"a": 1}, FEDERATION),
)
CONTENT = encoding.dump(WHOLE, CLASSES)
START = len(encoding.MAGIC) + encoding.DIGEST


def test_the_whole_one_is_read() -> None:
    assert encoding.dump(encoding.load(CONTENT, CLASSES), CLASSES) == CONTENT


@fuzz_share(4)
@given(mutated(CONTENT))
def test_damaged_checkpoints(content: bytes) -> None:
    if content != CONTENT:
        with pytest.raises(ValueError, match="it is"):
            encoding.load(content, CLASSES)


@fuzz_share(4)
@given(mutated(CONTENT[START:]))
def test_checkpoints_with_a_right_checksum(body: bytes) -> None:
    content = encoding.MAGIC + hashlib.sha256(body).digest() + body
    with contextlib.suppress(ValueError):
        encoding.load(content, CLASSES)
