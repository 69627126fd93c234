import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from common.messages import (
    count_bytes,
    pack_answer,
    pack_question,
    unpack_answer,
    unpack_question,
)
from common.solution import Answer, LocalSolution, Measures, Part, SolverSettings
from tests.problems import same

SOLUTIONS = (
    LocalSolution((Part(np.array([0.5, -1.0]), 1.5),), active=2, steps=7),
    LocalSolution(
        (Part(np.array([1e-300, 3.0]), 0.0), Part(np.array([2.0, 0.5]), 0.25)),
        active=0,
        steps=9,
        result="inexact",
    ),
)
ANSWER = Answer("lab", SOLUTIONS, Measures(loss=0.25, margin=-0.5, errors=1, count=3))


def test_work_at_the_weights_sends_them_once() -> None:
    arrays = ArrayRecord({"weights": Array(np.array([1.0, 2.0]))})
    settings = SolverSettings(solver="proximal", learning_rate=0.5, beta=2.0, preparation="f00d")
    question = unpack_question(content := pack_question(7, arrays, (np.array([1.0, 2.0]),), settings))
    assert list(content.array_records["arrays"]) == ["weights"]
    np.testing.assert_array_equal(question.weights, [1, 2])
    assert len(question.centres) == 1
    np.testing.assert_array_equal(question.centres[0], [1, 2])
    assert (question.settings, question.number) == (settings, 7)


def test_work_with_centres() -> None:
    arrays = ArrayRecord({"weights": Array(np.zeros(2))})
    sent = (np.array([1.0, 2.0]), np.zeros(2), np.array([3.0, 4.0]))
    content = pack_question(1, arrays, sent, SolverSettings())
    question = unpack_question(content)
    np.testing.assert_array_equal(question.centres, sent)
    assert len(content.array_records["arrays"]) == 3  # the second is the weights
    assert question.settings == SolverSettings()
    assert list(arrays) == ["weights"]  # what was given is not changed


def test_work_without_centres_asks_for_no_solves() -> None:
    arrays = ArrayRecord({"weights": Array(np.array([1.0, 2.0]))})
    question = unpack_question(pack_question(1, arrays, (), SolverSettings()))
    np.testing.assert_array_equal(question.weights, [1, 2])
    assert question.centres == ()


def test_answer() -> None:
    found = unpack_answer(pack_answer(ANSWER), (2,))
    assert (found.client, found.measures) == ("lab", ANSWER.measures)
    assert len(found.solutions) == 2
    for solution, expected in zip(found.solutions, SOLUTIONS, strict=True):
        same(solution, expected)


def test_answer_of_an_evaluation_has_no_solutions() -> None:
    found = unpack_answer(pack_answer(dataclasses.replace(ANSWER, solutions=())), (2,))
    assert found.solutions == ()
    assert found.measures == ANSWER.measures


def spoil(record: str, key: str, value: Any) -> Callable[[RecordDict], None]:
    def change(content: RecordDict) -> None:
        spoiled: Any = content[record]
        spoiled[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (spoil("arrays", "displacement-0", Array(np.zeros(3))), r"shape \(3,\), not \(2,\)"),
        (spoil("arrays", "displacement-1", Array(np.zeros((1, 2)))), "shape"),
        (spoil("arrays", "displacement-0", Array(np.array([np.nan, 0.0]))), "displacement is not finite"),
        (spoil("arrays", "displacement-1", Array(np.array([0.0, np.inf]))), "displacement is not finite"),
        (spoil("metrics", "dual-mass", [1.0, -1e-300, 1.0]), "dual mass is -1e-300"),
        (spoil("metrics", "dual-mass", [float("nan"), 0.0, 1.0]), "dual mass is nan"),
        (spoil("metrics", "dual-mass", [float("inf"), 0.0, 1.0]), "dual mass is inf"),
        (spoil("metrics", "dual-mass", [1.0]), "2 parts, where 1 were sent"),
        (spoil("metrics", "parts", [1]), "zip"),
        (spoil("metrics", "parts", [0, 2]), "solution of 0 parts"),
        (spoil("metrics", "parts", [-1, 3]), "solution of -1 parts"),
        (spoil("metrics", "parts", [1, 3]), "solution of 3 parts, where 3 were sent in all"),
        (spoil("metrics", "parts", [1, 1]), "2 parts in its solutions, where 3 were sent"),
        (spoil("metrics", "loss", float("nan")), "loss nan"),
        (spoil("metrics", "margin", float("-inf")), "margin -inf"),
    ],
)
def test_a_bad_answer_is_refused(change: Callable[[RecordDict], None], complaint: str) -> None:
    content = pack_answer(ANSWER)
    change(content)
    with pytest.raises(ValueError, match=complaint):
        unpack_answer(content, (2,))


@pytest.mark.parametrize(
    ("record", "key"),
    [
        ("arrays", "displacement-2"),
        ("metrics", "dual-mass"),
        ("metrics", "parts"),
        ("metrics", "loss"),
        ("config", "name"),
    ],
)
def test_an_incomplete_answer_is_refused(record: str, key: str) -> None:
    content = pack_answer(ANSWER)
    del content[record][key]
    with pytest.raises(ValueError, match=f"it lacks '{key}'"):
        unpack_answer(content, (2,))


def test_bytes_grow_with_the_arrays() -> None:
    def size(d: int) -> int:
        return count_bytes(RecordDict({"arrays": ArrayRecord({"weights": Array(np.zeros(d))})}))

    assert size(1000) - size(500) == 500 * 8
    extra = RecordDict({"metrics": MetricRecord({"a": 1.0}), "config": ConfigRecord({"b": "word"})})
    assert count_bytes(extra) > 0
