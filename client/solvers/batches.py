"""Mini-batches: which examples each local step of Local-SGD sees."""

import hashlib
import itertools
from collections.abc import Hashable, Iterator

import numpy as np
from numpy.typing import NDArray

Batches = Iterator[NDArray[np.intp]]


def batches(count: int, size: int, *draw: Hashable) -> Batches | None:
    """Return an endless stream of mini-batches of ``size`` of ``count`` examples, or None for the full batch.

    Every batch is drawn afresh, without replacement, from random numbers that depend on ``draw`` alone: the
    seed, the client, the round and the centre.  So a client needs no state, and one that was started again
    draws the same.
    """
    if not 0 < size < count:
        return None
    digest = hashlib.sha256(repr(draw).encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
    return (np.sort(rng.choice(count, size, replace=False)) for _ in itertools.repeat(None))
