"""How a round's time grows when the number of clients, examples, weights or local steps doubles."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.federations import in_process
from benchmarks.table import Row
from benchmarks.timing import in_turns, text

BASE = {"clients": 8, "count": 64, "dimension": 20_000, "steps": 200}
NAMES = {"clients": "M", "count": "n", "dimension": "d", "steps": "K"}

SLACK = 1.15
"""How much more than twice the time still counts as linear: caches end somewhere."""


def rows(quick: bool) -> Iterator[Row]:
    """Double each number on its own, rounds in turns; and the examples for the Gram matrix alone."""
    base = {"clients": 2, "count": 4, "dimension": 200, "steps": 5} if quick else BASE
    sizes = [base, *({**base, name: 2 * size} for name, size in base.items())]
    rounds = 2 if quick else 5
    with tempfile.TemporaryDirectory() as directory:
        federations = [in_process(Path(directory) / str(k), **size) for k, size in enumerate(sizes)]
        actions = [lambda run=run: run(rounds) for run in federations]
        once, *doubled = in_turns(*actions, repeats=3 if quick else 7)
    told = ", ".join(f"{NAMES[name]} = {size}" for name, size in base.items())
    for name, taken in zip(base, doubled, strict=True):
        ratio = taken.least / once.least
        yield Row(
            f"growth of a round when {NAMES[name]} doubles from {told}",
            "itself before",
            f"{text(taken.least / rounds)} against {text(once.least / rounds)}",
            ratio,
            2 * SLACK,
            at_most=True,
            limit=f"grows like {NAMES[name]}^{np.log2(ratio):.2f}",
        )
    yield _gram(base["count"], base["dimension"])


def _gram(count: int, dimension: int) -> Row:
    rng = np.random.default_rng(0)
    small, large = rng.standard_normal((count, dimension)), rng.standard_normal((2 * count, dimension))
    once, twice = in_turns(lambda: small @ small.T, lambda: large @ large.T)
    ratio = twice.least / once.least
    return Row(
        f"growth of the Gram matrix, formed once, when n doubles from {count}, d = {dimension}",
        "itself before",
        f"{text(twice.least)} against {text(once.least)}",
        ratio,
        4 * SLACK,
        at_most=True,
        limit=f"grows like n^{np.log2(ratio):.2f}",
    )
