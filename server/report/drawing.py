"""Charts as SVG, in the colours of the page that shows them.

Colours are written as ``var(--blue)``, which a page defines for light and dark; `standing_alone` puts the
colours themselves in their place, for a file of its own.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from xml.etree import ElementTree

import numpy as np

from server.report.chart import Band, Chart, Dot, Line, Values
from server.report.palette import LIGHT
from server.report.scales import Scale, short, thin

WIDTH, HEIGHT = 470.0, 310.0
LEFT, RIGHT, BOTTOM = 64.0, 14.0, 44.0
ROW = 21.0
"""Height of a category and of a row of the legend."""

SAMPLE = 34.0
"""Width of a line in the legend."""

NO_XML = re.compile("[^\\t\\n\\r -\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
MOST_POINTS = 240
MOST_MARKERS = 7
MOST_TIPS = 60


def draw(chart: Chart) -> str:
    """Return a chart as an ``svg`` element; for characters that XML has none of, a replacement stands."""
    return NO_XML.sub(
        "\N{REPLACEMENT CHARACTER}", ElementTree.tostring(_Drawing(chart).root, encoding="unicode")
    )


def standing_alone(svg: str, colours: Mapping[str, str] = LIGHT) -> str:
    """Return an ``svg`` element as a file of its own, on paper."""
    coloured = re.sub(r"var\(--(\w+)\)", lambda found: colours[found[1]], svg)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + coloured + "\n"


class _Drawing:
    """One chart being drawn."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        legend = list(_legend(chart))
        self.left = LEFT
        if chart.y.categories:
            self.left = 18 + max(_width(c) for c in chart.y.categories)
        self.top = 40.0 + (ROW * (1 + max(entry[1] for entry in legend)) if legend else 0)
        rows = len(chart.y.categories)
        self.height = self.top + (ROW * rows + 8 if rows else HEIGHT - 40 - ROW - BOTTOM) + BOTTOM
        self.bottom = self.height - BOTTOM
        self.root = ElementTree.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {WIDTH:g} {self.height:g}",
                "role": "img",
                "aria-label": f"{chart.title}. {chart.note}".strip(),
                "style": "font:12.5px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif",
            },
        )
        self._add("rect", width=WIDTH, height=self.height, style="fill:var(--paper)")
        self._text(2, 22, chart.title, "font-weight:600;font-size:14px")
        self.horizontal, self.vertical = _scales(chart)
        self._axes()
        for x, row, label, colour, marker, dash, area in legend:
            self._key(x, 38 + ROW * row, label, colour, marker, dash, area)
        clip = ElementTree.SubElement(self._add("clipPath", id=f"clip-{chart.name}"), "rect")
        for key, value in zip(
            ("x", "y", "width", "height"),
            (self.left, self.top - 6, WIDTH - RIGHT - self.left + 6, self.bottom - self.top + 12),
            strict=True,
        ):
            clip.set(key, _places(value))
        plot = self._add("g", clip_path=f"url(#clip-{chart.name})")
        for band in chart.bands:
            self._band(plot, band)
        for number, line in enumerate(chart.lines):
            self._line(plot, line, number / len(chart.lines))
        for dot in chart.dots:
            self._dot(dot)

    def x(self, value: float) -> float:
        return self.left + self.horizontal(value) * (WIDTH - RIGHT - self.left)

    def y(self, value: float) -> float:
        if self.chart.y.categories:
            return self.top + 4 + ROW * (value + 0.5)
        return self.bottom - self.vertical(value) * (self.bottom - self.top)

    def _axes(self) -> None:
        chart, edge = self.chart, WIDTH - RIGHT
        for tick in self.horizontal.ticks():
            if chart.x.whole and tick != round(tick):
                continue
            at = self.x(tick)
            self._rule(at, self.top, at, self.bottom)
            self._text(at, self.bottom + 16, short(tick), "fill:var(--muted);text-anchor:middle")
        rows = [(float(number), words) for number, words in enumerate(chart.y.categories)]
        for value, words in rows or [(tick, short(tick)) for tick in self.vertical.ticks()]:
            at = self.y(value)
            self._rule(self.left, at, edge, at)
            self._text(self.left - 7, at + 4.5, words, "fill:var(--muted);text-anchor:end")
        self._rule(self.left, self.bottom, edge, self.bottom, "muted")
        self._text(
            (self.left + edge) / 2, self.height - 9, chart.x.label, "fill:var(--muted);text-anchor:middle"
        )
        if chart.y.label:
            place = f"translate(12 {(self.top + self.bottom) / 2:.1f}) rotate(-90)"
            self._text(0, 0, chart.y.label, "fill:var(--muted);text-anchor:middle").set("transform", place)

    def _line(self, plot: ElementTree.Element, line: Line, offset: float) -> None:
        """Draw a line; ``offset`` shifts its markers, so that lines one upon the other are seen to be two."""
        kept = _kept(line.x, self.chart.x.log)
        path, pen = [], "M"
        for k in kept:
            x, y = line.x[k], line.y[k]
            if x is None or y is None:
                pen = "M"
                continue
            path.append(f"{pen}{self.x(x):.1f} {self.y(y):.1f}")
            pen = "L"
        width = "1;stroke-opacity:.6" if line.faint else "2"
        style = f"fill:none;stroke:var(--{line.colour});stroke-width:{width};stroke-linejoin:round"
        if line.dash:
            style += f";stroke-dasharray:{line.dash}"
        _add(plot, "path", d="".join(path), style=style)
        known = [k for k in kept if line.y[k] is not None]
        places = [self.x(line.x[k] or 0) - self.left for k in known]
        if line.marker or (len(known) == 1 and not line.faint):
            for k in (known[j] for j in _spread(places, WIDTH - RIGHT - self.left, offset)):
                self._marker(plot, self.x(line.x[k] or 0), self.y(line.y[k] or 0), line.marker, line.colour)
        for k in (known[j] for j in thin(places, MOST_TIPS)):
            spot = _add(
                plot, "circle", cx=self.x(line.x[k] or 0), cy=self.y(line.y[k] or 0), r=7.0,
                style="fill:transparent",
            )  # fmt: skip
            where = f"{self.chart.x.label} {short(line.x[k] or 0)}"
            ElementTree.SubElement(spot, "title").text = f"{where}, {line.label}: {line.y[k]:.4g}"

    def _band(self, plot: ElementTree.Element, band: Band) -> None:
        kept = [k for k in _kept(band.x, self.chart.x.log) if band.high[k] is not None]
        if not kept:
            return
        floor = self.vertical.low
        above = [(band.x[k] or 0, band.high[k] or 0) for k in kept]
        below = [(band.x[k] or 0, floor if (low := band.low[k]) is None else low) for k in reversed(kept)]
        corners = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in above + below)
        _add(plot, "polygon", points=corners, style=f"fill:var(--{band.colour});fill-opacity:.16")

    def _dot(self, dot: Dot) -> None:
        y = self.y(dot.category)
        if dot.spread and dot.spread[0] < dot.spread[1]:
            ends = (self.x(end) for end in dot.spread)
            style = f"stroke:var(--{dot.colour});stroke-width:3;stroke-opacity:.45;stroke-linecap:round"
            self._add("path", d="M{:.1f} {:.1f}L{:.1f} {:.1f}".format(*_ends(ends, y)), style=style)
        marker = self._marker(self.root, self.x(dot.x), y, dot.marker, dot.colour, dot.hollow)
        if dot.label:
            ElementTree.SubElement(marker, "title").text = dot.label

    def _key(
        self, x: float, y: float, label: str, colour: str, marker: str, dash: str | None, area: bool
    ) -> None:
        if area:
            style = f"fill:var(--{colour});fill-opacity:.25"
            self._add("rect", x=x, y=y - 2, width=SAMPLE, height=10.0, style=style)
        elif dash is not None:
            style = f"stroke:var(--{colour});stroke-width:2" + (f";stroke-dasharray:{dash}" if dash else "")
            self._add("path", d=f"M{x:.1f} {y + 3:.1f}h{SAMPLE:g}", style=style)
        if marker:
            self._marker(self.root, x + SAMPLE / 2, y + 3, marker, colour)
        self._text(x + SAMPLE + 6, y + 7.5, label)

    def _marker(
        self, parent: ElementTree.Element, x: float, y: float, kind: str, colour: str, hollow: bool = False
    ) -> ElementTree.Element:
        shape = _MARKERS.get(kind, _MARKERS["o"])
        inside = "paper" if hollow else colour
        style = f"fill:var(--{inside});stroke:var(--{colour if hollow else 'paper'});stroke-width:1"
        return _add(parent, "path", d=shape, transform=f"translate({x:.1f} {y:.1f})", style=style)

    def _rule(self, x1: float, y1: float, x2: float, y2: float, colour: str = "grid") -> None:
        self._add(
            "path", d=f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}", style=f"stroke:var(--{colour});stroke-width:1"
        )

    def _text(self, x: float, y: float, words: str, style: str = "") -> ElementTree.Element:
        element = self._add("text", x=x, y=y, style=style if "fill" in style else f"fill:var(--ink);{style}")
        element.text = words
        return element

    def _add(self, tag: str, **attributes: str | float) -> ElementTree.Element:
        return _add(self.root, tag, **attributes)


def _add(parent: ElementTree.Element, tag: str, **attributes: str | float) -> ElementTree.Element:
    written = {
        key.replace("_", "-"): value if isinstance(value, str) else _places(value)
        for key, value in attributes.items()
    }
    return ElementTree.SubElement(parent, tag, written)


def _places(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _ends(xs: Iterable[float], y: float) -> tuple[float, float, float, float]:
    left, right = xs
    return left, y, right, y


def _scales(chart: Chart) -> tuple[Scale, Scale]:
    xs = [x for line in chart.lines for x in line.x if x is not None]
    xs += [x for band in chart.bands for x in band.x if x is not None]
    xs += [end for dot in chart.dots for end in (dot.x, *(dot.spread or ()))]
    ys = [y for line in chart.lines for y in line.y if y is not None]
    ys += [y for band in chart.bands for y in (*band.low, *band.high) if y is not None]
    horizontal = Scale.around((*xs, *chart.x.includes), chart.x.log)
    ys = [max(y, chart.y.floor) for y in (*ys, *chart.y.includes)]
    return horizontal, Scale.around(ys, chart.y.log)


def _legend(chart: Chart) -> Iterator[tuple[float, int, str, str, str, str | None, bool]]:
    """Yield the legend's entries, laid out in rows: x, row, and what is drawn."""
    x, row = 2.0, 0
    entries: list[tuple[str, str, str, str | None, bool]] = []
    named = [line for line in chart.lines if line.label and not line.faint]
    entries += [(line.label, line.colour, line.marker, line.dash, False) for line in named]
    entries += [(band.label, band.colour, "", None, True) for band in chart.bands if band.label]
    entries += [(label, colour, marker, None, False) for label, colour, marker in chart.keys]
    for entry in entries:
        width = SAMPLE + 6 + _width(entry[0]) + 16
        if x > 2 and x + width > WIDTH + 16:
            x, row = 2.0, row + 1
        yield (x, row, *entry)
        x += width


def _kept(numbers: Values, log: bool) -> list[int]:
    return thin([number or 0 for number in numbers], MOST_POINTS, log)


def _spread(places: Sequence[float], width: float, offset: float) -> list[int]:
    """Return which of some ascending places are nearest to a few that are evenly spread."""
    if not places:
        return []
    wanted = [(k + offset) * width / MOST_MARKERS for k in range(MOST_MARKERS + 1)]
    return sorted({int(np.argmin(np.abs(np.array(places) - goal))) for goal in wanted})


def _width(text: str) -> float:
    """Return about how wide a text is; the font is the reader's."""
    return 6.9 * len(text)


_MARKERS = {
    "o": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "s": "M-3.8 -3.8h7.6v7.6h-7.6z",
    "^": "M0 -5L5 4H-5z",
    "v": "M0 5L5 -4H-5z",
    "<": "M-5 0L4 -5V5z",
    "D": "M0 -5L5 0L0 5L-5 0z",
    "P": "M-1.6 -5h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4v-3.2h3.4z",
    "X": "M-5 -3L-3 -5L0 -2L3 -5L5 -3L2 0L5 3L3 5L0 2L-3 5L-5 3L-2 0z",
}
"""By matplotlib's names."""
