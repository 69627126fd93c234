"""Numbers and tables as the document has them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits; a dash where there is none."""
    if value is None:
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e")
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:.{max(digits - 1 - int(np.floor(np.log10(abs(rounded)))), 0)}f}" if rounded else "0"


def degrees(value: float | None) -> str:
    """Return an angle; a dash where there is none."""
    return "–" if value is None else f"{number(value)}°"


def percent(value: float) -> str:
    """Return a share with one decimal."""
    return f"{100 * value:.1f} %"


def among(values: Iterable[float], show: Any = number) -> str:
    """Return the smallest and the largest of some values, or the one that all are."""
    shown = [show(value) for value in sorted(values)]
    return shown[0] if shown[0] == shown[-1] else f"{shown[0]} … {shown[-1]}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table whose first columns stand on the left."""
    marks = ["---"] * left + ["---:"] * (len(head) - left)
    lines = [head, marks, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the power of ``x`` that fits ``y`` best on logarithmic scales."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
