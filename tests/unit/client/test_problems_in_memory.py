"""What a client keeps in memory between messages."""

import os
from pathlib import Path

import numpy as np
import pytest

from client.dataset import forget, load, node_config, source_of
from client.memory import Kept, memory_share, problem_bytes
from client.problem import Problem
from common.losses import LOSSES


def problem(rows: int, columns: int = 10) -> Problem:
    return Problem(np.ones((rows, columns)), LOSSES["logistic"])


def test_problems_are_kept_up_to_their_bytes() -> None:
    one = 8 * 5 * (10 + 5)
    problems = Kept(3 * one, problem_bytes)
    for key in "abc":
        problems.keep(key, problem(5))
    assert problems.find("a") is not None  # used again: now b is the one used longest ago
    problems.keep("d", problem(5))
    assert [key for key in "abcd" if problems.find(key)] == ["a", "c", "d"]
    problems.keep("large", problem(100))  # larger than the bound: alone, but there
    assert [key for key in ("a", "c", "d", "large") if problems.find(key)] == ["large"]
    problems.keep("e", problem(5))
    assert problems.find("large") is None
    assert problems.find("e") is not None


def test_what_was_dropped_makes_room() -> None:
    kept = Kept(10, len)
    kept.keep("a", "12345678")
    kept.drop("a")
    kept.drop("never there")
    kept.keep("b", "12345")
    kept.keep("c", "12345")
    assert [kept.find(key) for key in "abc"] == [None, "12345", "12345"]


def test_data_are_read_again_only_when_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "clinic.npz"
    np.savez(path, X=np.ones((3, 2)), y=np.array([1, -1, 1]))
    where = source_of(node_config(path, "label", None))
    first = load(where)
    assert load(where) is first
    forget(where)
    again = load(where)
    assert again is not first
    np.testing.assert_array_equal(again.X, first.X)


def test_the_share_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 4 * 2**20}
    monkeypatch.setattr(os, "sysconf", told.__getitem__)
    assert memory_share() == 4 * 2**30
    told["SC_PHYS_PAGES"] = 2**16
    assert memory_share() == 2**30
    monkeypatch.delattr(os, "sysconf")
    assert memory_share() == 2**30
