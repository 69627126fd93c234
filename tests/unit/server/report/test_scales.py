"""Axes: ticks are round, in order and on the axis; thinning keeps both ends."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.report.scales import Scale, short, thin

POSITIVE = st.floats(1e-12, 1e9)


@given(st.lists(POSITIVE, min_size=1, max_size=5), st.booleans())
def test_ticks_are_on_the_axis_and_few(values: list[float], log: bool) -> None:
    scale = Scale.around(values, log)
    places = [scale(tick) for tick in scale.ticks()]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)
    assert 1 <= len(places) <= 11
    assert all(0 < scale(value) < 1 for value in values)


def test_round_ticks() -> None:
    assert Scale(0.9, 320, log=True).ticks() == [1, 10, 100]
    assert Scale(1, 12, log=True).ticks() == [1, 2, 5, 10]
    assert Scale(0.07, 0.163).ticks() == [0.08, 0.1, 0.12, 0.14, 0.16]
    assert Scale(1e-12, 100, log=True).ticks(5) == [1e-12, 1e-9, 1e-6, 1e-3, 1]
    assert Scale(-1, 1).ticks(4) == [-1, -0.5, 0, 0.5, 1]


def test_places() -> None:
    assert Scale(1, 100, log=True)(10) == pytest.approx(0.5)
    assert [Scale(1, 100, log=True)(v) for v in (0, -5, 1000)] == [0, 0, 1]
    assert Scale(-1, 1)(0.5) == pytest.approx(0.75)


@pytest.mark.parametrize("values", [[], [0.0], [math.inf], [-3.0]])
def test_a_logarithmic_axis_of_nothing(values: list[float]) -> None:
    assert Scale.around(values, log=True) == Scale(0.1 / 10**0.03, 10**0.03, log=True) or values == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.05, "0.05"), (3000, "3000"), (1e-5, "10⁻⁵"), (2.5e7, "2.5·10⁷"), (-0.1, "-0.1")],
)
def test_short(value: float, text: str) -> None:
    assert short(value) == text


@given(st.integers(1, 3000), st.integers(2, 300), st.booleans())
def test_thin_keeps_both_ends_and_no_more_than_asked(count: int, most: int, log: bool) -> None:
    kept = thin(range(1, count + 1), most, log)
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert kept == sorted(set(kept))
    assert len(kept) <= most
    if log and count > 1000 and most > math.log(count) / math.log(6 / 5):
        assert kept[:5] == [0, 1, 2, 3, 4]
