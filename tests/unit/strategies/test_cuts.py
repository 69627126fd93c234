import numpy as np
import pytest

from common.solution import Answer, LocalSolution, Measures, Part
from strategies.cuts import DUPLICATE, IDLE_ROUNDS, Cut, gathered, joined, weighed


def solution(*parts: tuple[list[float], float]) -> LocalSolution:
    return LocalSolution(tuple(Part(np.array(v), mass) for v, mass in parts), active=9, steps=1)


def reply(client: str, *solutions: LocalSolution) -> Answer:
    return Answer(client, solutions, Measures(loss=0.5, margin=0.0, errors=1, count=9))


def test_each_part_of_each_solution_is_a_cut_of_its_owner() -> None:
    answers = [
        reply("a", solution(([2.0, 0.0], 2.0), ([0.0, 3.0], 1.0)), solution(([1.0, 1.0], 4.0))),
        reply("b", solution(([0.0, 0.0], 0.0))),  # it accepts the centre
    ]
    cuts = gathered(answers, {"a": 5, "b": 7}.__getitem__)
    assert [cut.owner for cut in cuts] == [5, 5, 5]
    np.testing.assert_array_equal([cut.normal for cut in cuts], [[1, 0], [0, 3], [0.25, 0.25]])


def test_the_parts_of_clients_with_one_owner_are_summed_place_by_place() -> None:
    answers = [
        reply("a", solution(([2.0, 0.0], 2.0), ([0.0, 3.0], 1.0)), solution(([1.0, 1.0], 4.0))),
        reply("b", solution(([4.0, 6.0], 1.0))),  # fewer parts and fewer centres
        reply("c", solution(([8.0, 8.0], 2.0))),
    ]
    cuts = gathered(answers, {"a": 0, "b": 0, "c": 1}.__getitem__)
    assert [cut.owner for cut in cuts] == [0, 0, 0, 1]
    np.testing.assert_array_equal([cut.normal for cut in cuts], [[2, 2], [0, 3], [0.25, 0.25], [4, 4]])


def test_a_sum_of_cuts_of_independent_rows_holds_where_they_hold() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        w = rng.standard_normal(4)
        rows = rng.standard_normal((12, 4))
        rows += (rng.uniform(1, 2, 12) - rows @ w)[:, None] * w / (w @ w)  # every margin of w is 1 to 2
        duals = rng.uniform(0, 1, (3, 4))
        answers = [
            reply(str(k), LocalSolution((Part(dual @ Z, float(dual.sum())),), 4, 1))
            for k, (Z, dual) in enumerate(zip(rows.reshape(3, 4, 4), duals, strict=True))
        ]
        (cut,) = gathered(answers, lambda client: 0)
        assert cut.normal @ w >= 1 - 1e-12


def test_what_comes_from_rounding_is_no_cut() -> None:
    answers = [reply("a", solution(([1e-16, 0.0], 2e-16)), solution(([1e-3, 0.0], 2e-3)))]
    (cut,) = gathered(answers, lambda client: 0)
    np.testing.assert_array_equal(cut.normal, [0.5, 0])


def test_cuts_have_the_shape_of_the_model() -> None:
    part = Part(np.array([[2.0, 0.0, 4.0], [0.0, 6.0, 2.0]]), 2.0)
    answers = [reply(client, LocalSolution((part,), 1, 1)) for client in "ab"]
    for owners in ({"a": 0, "b": 1}, {"a": 0, "b": 0}):
        for cut in gathered(answers, owners.__getitem__):
            np.testing.assert_array_equal(cut.normal, [[1, 0, 2], [0, 3, 1]])


@pytest.mark.parametrize(("spread", "same"), [(0.0, True), (0.5, True), (3.0, False)])
def test_a_cut_that_is_there_already_makes_it_young(spread: float, same: bool) -> None:
    old = (Cut(0, np.array([3.0, 4.0]), 2.0, 5), Cut(1, np.array([1.0, 0.0]), 0.0, 7))
    again = Cut(0, np.array([3.0, 4.0 + 5 * spread * DUPLICATE]))
    cuts = joined(old, [again, again])
    assert len(cuts) == 2 + (not same)
    assert [cut.idle for cut in cuts[:2]] == [0 if same else 5, 7]
    assert [cut.weight for cut in cuts[:2]] == [2, 0]
    assert old[0].idle == 5
    assert len(joined(old, [Cut(2, np.array([3.0, 4.0]))])) == 3, "another owner's is another cut"


def test_idle_cuts_are_dropped_in_time() -> None:
    cuts = [Cut(0, np.ones(1), 1.0, 0), Cut(0, np.ones(1), 0.0, IDLE_ROUNDS - 1), Cut(1, np.ones(1), 0.0, 3)]
    assert [(c.weight, c.idle) for c in weighed(cuts, np.array([0.0, 0.0, 2.0]))] == [(0.0, 1), (2.0, 0)]
