"""What all figures share: size, type, and one look for one strategy."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from server.report.palette import LIGHT, look

RESOLUTION = 110
"""Dots per inch; a figure is some 9 inches wide."""

COLOURS = 96
"""With the shades of smooth edges."""

NAMES = {
    "local-gd/gradient": "Local-GD",
    "local-gd/projection": "mean of projections",
    "modified-local-gd/proximal": "Modified, proximal",
    "modified-local-gd/projection": "Modified, projection",
    "cutting-plane/projection": "cutting planes",
    "consensus/projection": "consensus",
}


def panels(rows: int, columns: int, width: float = 9.0, height: float = 2.9) -> tuple[Figure, Any]:
    """Return a figure with a grid of axes, rows by columns, with light lines behind the curves."""
    figure = Figure(figsize=(width, height * rows), layout="constrained", facecolor=LIGHT["paper"])
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.grid(True, color=LIGHT["grid"], linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8, colors=LIGHT["ink"])
        for side in axes.spines.values():
            side.set_color(LIGHT["muted"])
    return figure, grid


def label(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Name a panel and its axes, with units."""
    axes.set_title(title, fontsize=9.5, color=LIGHT["ink"])
    axes.set_xlabel(x, fontsize=8.5, color=LIGHT["ink"])
    axes.set_ylabel(y, fontsize=8.5, color=LIGHT["ink"])


def plain(axes: Axes, below: float = 1.0) -> None:
    """Give a logarithmic scale of angles plain numbers, 1, 2, 5, 10 …, and room below for a legend."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(bottom=axes.get_ylim()[0] * below)


def legend(figure: Figure, axes: Axes, columns: int = 5) -> None:
    """Put the legend of one panel under all of them."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=columns, fontsize=8.5, frameon=False)


def steps_look(steps: int, of: Sequence[int]) -> dict[str, Any]:
    """Return how to draw a number of local steps: darker and thinner for more, each with its marker."""
    place = list(of).index(steps)
    colour = _RAMP(0.15 + 0.8 * place / max(len(of) - 1, 1))
    return {"color": colour, "marker": "os^Dv<>P"[place % 8], "markersize": 3.5, "linewidth": 1.4}


def strategy_look(strategy: str, solver: str = "") -> dict[str, Any]:
    """Return how to draw a strategy; the proximal form of Modified Local-GD is dashed."""
    own = look(strategy)
    dashed = solver == "proximal" or (strategy == "local-gd" and solver == "projection")
    return {
        "color": LIGHT[own.colour],
        "marker": own.marker,
        "markersize": 4.0,
        "linewidth": 1.5,
        "linestyle": (0, (5, 2)) if dashed else "-",
        "label": NAMES.get(f"{strategy}/{solver}", strategy.removeprefix("flower:")),
    }


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, in as many colours as it needs."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    whole = BytesIO()
    figure.savefig(whole, dpi=RESOLUTION, format="png")
    Image.open(whole).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def _RAMP(place: float) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](1 - np.clip(place, 0, 1))
