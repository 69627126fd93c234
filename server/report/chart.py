"""What a picture shows: axes, lines, bands and dots, in named colours of the palette."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Values = Sequence[float | None]


@dataclass(frozen=True)
class Axis:
    """What an axis shows: numbers, the ones it ``includes`` too, or ``categories`` from top to bottom.

    On one for ``whole`` numbers no other has a tick; what is below ``floor`` is drawn at its end.
    """

    label: str
    log: bool = False
    includes: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    whole: bool = False
    floor: float = -math.inf


@dataclass(frozen=True)
class Line:
    """A line through points; where a value is None it is interrupted.

    Without a label it is not in the legend, nor where it is ``faint``, one of many thin lines.
    """

    label: str
    x: Values
    y: Values
    colour: str
    dash: str = ""
    marker: str = ""
    faint: bool = False


@dataclass(frozen=True)
class Band:
    """The area between two lines; where ``low`` is None, down to the axis."""

    label: str
    x: Values
    low: Values
    high: Values
    colour: str


@dataclass(frozen=True)
class Dot:
    """A value of a category (its number), with the range that it varies over."""

    x: float
    category: float
    colour: str
    marker: str = "o"
    spread: tuple[float, float] | None = None
    label: str = ""
    hollow: bool = False


@dataclass(frozen=True)
class Chart:
    """A picture: ``name`` is its file's, ``note`` says what to see in it."""

    name: str
    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    bands: Sequence[Band] = ()
    dots: Sequence[Dot] = ()
    note: str = ""
    keys: Sequence[tuple[str, str, str]] = ()  # more of the legend: label, colour, marker
