"""Colours: one for a strategy, seen on either page, and never two alike."""

from itertools import combinations

import pytest

from common.config import SOLVERS
from server.report.palette import DARK, LIGHT, look


def test_no_two_strategies_look_alike() -> None:
    looks = {strategy: look(strategy) for strategy in SOLVERS}
    assert all(one != other for one, other in combinations(looks.values(), 2))
    ours = [looks[name].colour for name in SOLVERS if not name.startswith("flower:")]
    assert len(set(ours)) == len(ours)
    assert all(look.colour in LIGHT for look in looks.values())


def test_a_strategy_of_anybody_else_can_be_drawn() -> None:
    assert look("my-own").colour in LIGHT


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_words_and_lines_stand_out_from_the_page(theme: dict[str, str]) -> None:
    assert theme.keys() == LIGHT.keys()
    for name, least in [
        ("ink", 7),
        ("muted", 4.5),
        ("blue", 3),
        ("vermillion", 3),
        ("green", 3),
        ("purple", 3),
    ]:
        assert contrast(theme[name], theme["paper"]) >= least, name


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
