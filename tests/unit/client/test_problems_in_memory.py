"""What a client keeps in memory between messages."""

import numpy as np

from client.memory import Problems
from client.problem import Problem
from common.losses import LOSSES


def problem(rows: int, columns: int = 10) -> Problem:
    return Problem(np.ones((rows, columns)), LOSSES["logistic"])


def test_problems_are_kept_up_to_their_bytes() -> None:
    one = 8 * 5 * (10 + 5)
    problems = Problems(3 * one)
    for key in "abc":
        problems.keep(key, problem(5))
    found = problems.find("a")
    assert found is not None
    problems.keep("a", found)  # used again: now b is the one used longest ago
    problems.keep("d", problem(5))
    assert [key for key in "abcd" if problems.find(key)] == ["a", "c", "d"]
    problems.keep("large", problem(100))  # larger than the bound: alone, but there
    assert [key for key in ("a", "c", "d", "large") if problems.find(key)] == ["large"]
    problems.keep("e", problem(5))
    assert problems.find("large") is None
    assert problems.find("e") is not None
