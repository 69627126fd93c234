"""Colours and marks of every picture: the same strategy looks the same everywhere."""

from dataclasses import dataclass

from common.flower_options import BUILT_IN, PREFIX

LIGHT = {
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "green": "#009e73",
    "purple": "#cc79a7",
    "orange": "#e69f00",
    "sky": "#56b4e9",
    "grey": "#5a5a5a",
    "ink": "#1b1f24",
    "muted": "#57606a",
    "grid": "#e3e6ea",
    "paper": "#ffffff",
}
"""On white.  The hues are Okabe and Ito's (2008), told apart by colour-blind readers too."""

DARK = {
    "blue": "#3d9be0",
    "vermillion": "#ee7733",
    "green": "#1fbf92",
    "purple": "#de9cc3",
    "orange": "#f0b429",
    "sky": "#8ccbf2",
    "grey": "#9aa3ad",
    "ink": "#e8ebee",
    "muted": "#a3adb8",
    "grid": "#2e353d",
    "paper": "#14171a",
}
"""The same on a dark page, lighter."""

DASHES = ("", "7 3", "2 2.5", "9 3 2 3")
"""Of lines that share a colour: what else varies, such as the local steps."""


@dataclass(frozen=True)
class Look:
    """How a strategy is drawn: the name of a colour, and a marker as matplotlib calls it."""

    colour: str
    marker: str


_OWN = {
    "local-gd": Look("blue", "o"),
    "modified-local-gd": Look("vermillion", "s"),
    "cutting-plane": Look("green", "^"),
    "consensus": Look("purple", "D"),
}
_FLOWERS = [Look(colour, marker) for marker in "vPX<" for colour in ("orange", "sky", "grey")]


def look(strategy: str) -> Look:
    """Return how to draw a strategy, by its name in the configuration."""
    if strategy in _OWN:
        return _OWN[strategy]
    names = list(BUILT_IN)
    name = strategy.removeprefix(PREFIX)
    return _FLOWERS[names.index(name) % len(_FLOWERS)] if name in names else Look("grey", "o")
