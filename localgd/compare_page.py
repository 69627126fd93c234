"""One page about several runs side by side, in the look of a run's report."""

import csv
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import UserError
from common.files import whole
from localgd.variants import CERTIFIED, MEGABYTES, ROUNDS, TRUE, Variant, cost, spent, variants
from server.report import PAGE as REPORT
from server.report import PLOTS, write_pictures
from server.report.chart import Axis, Band, Chart, Dot, Line
from server.report.page import render
from server.report.palette import look
from server.report.reading import read
from server.report.words import counted

PAGE, TABLE = "compare.html", "table.csv"
TARGETS = {10.0: "o", 1.0: "s", 0.1: "D"}
"""Degrees to the centralized model, and how they are marked."""

FLOOR = 0.01
"""Degrees; less is drawn at the edge, so that one exact strategy does not make all others look alike."""

NAMES = {CERTIFIED: "certified", TRUE: "true"}


def write_page(folder: Path) -> list[Path]:
    """Write ``compare.html`` about the runs that a comparison's ``table.csv`` names, and return its pictures.

    Raises
    ------
    UserError
        When the table is not that of a comparison, or a run cannot be read.
    OSError
        When they cannot be written.
    """
    table = (folder / TABLE).read_text("utf-8")
    reader = csv.DictReader(table.splitlines())
    if "directory" not in (reader.fieldnames or ()):
        raise UserError(f"'{folder / TABLE}' has no column 'directory': it is no table of localgd compare")
    names = [row["directory"] for row in reader]
    runs = [read(folder / name) for name in names if (folder / name / "config.toml").exists()]
    compared = variants(runs)
    kinds = [key for key in NAMES if any(run.known(key) for run in runs)]
    charts = list(figures(compared, kinds))
    drawn = write_pictures(folder / PLOTS, charts)
    page = render(
        BODY,
        title=f"{counted(len(runs), 'run')} side by side"
        + (f" on {runs[0].config['dataset']}" if runs else ""),
        directory=folder.resolve().name,
        figures={drawn[chart.name]: chart.note for chart in charts},
        kinds=[NAMES[key] for key in kinds],
        targets=[f"{target:g}°" for target in TARGETS],
        rows=[(variant.label, reached(variant, kinds)) for variant in compared],
        links=[(name, (folder / name / REPORT).exists()) for name in names],
        table=table.strip(),
        seeds=max((len(variant.runs) for variant in compared), default=0),
    )
    with whole(folder / PAGE) as html:
        html.write(page.encode(errors="replace"))
    return [folder / PLOTS / f"{name}.svg" for name in drawn]


def figures(compared: Sequence[Variant], kinds: Sequence[str]) -> Iterator[Chart]:
    """Yield the pictures of what the variants reach: by rounds, by bytes, and by local steps."""
    for key in reversed(kinds):
        yield by_cost(compared, key, ROUNDS)
        yield to_targets(compared, key, ROUNDS)
    for key in kinds[:1]:
        yield by_cost(compared, key, MEGABYTES)
        yield to_targets(compared, key, MEGABYTES)
    stepping = [variant for variant in compared if variant.local_steps]
    if kinds and len({variant.local_steps for variant in stepping}) > 1:
        yield by_steps(stepping, kinds[-1])
        yield at_a_budget(stepping, kinds[-1])


def by_cost(compared: Sequence[Variant], key: str, what: str) -> Chart:
    """Show an angle by rounds or bytes, with a band over the seeds."""
    lines, bands = [], []
    for variant in compared:
        x, (low, middle, high) = variant.spent(what), variant.angles(key)
        lines.append(_line(variant, x, middle))
        if len(variant.runs) > 1:
            bands.append(Band("", x, low, high, lines[-1].colour))
    name, words = ("rounds", "by rounds") if what == ROUNDS else ("bytes", "by what a client sends")
    return Chart(
        f"{NAMES[key]}-by-{name}",
        f"{NAMES[key].capitalize()} angle {words}",
        Axis(what, log=True, whole=what == ROUNDS),
        Axis("degrees", log=True, floor=FLOOR),
        lines,
        bands,
        note=f"Less than {FLOOR:g}° is drawn at the edge."
        + (" The median over the seeds; the band goes from the best to the worst." if bands else ""),
    )


def to_targets(compared: Sequence[Variant], key: str, what: str) -> Chart:
    """Show what each variant has cost when it was first within each target; hollow where it ended before."""
    dots = []
    for row, variant in enumerate(compared):
        for place, (target, marker) in enumerate(TARGETS.items()):
            known, ends = _costs(variant, key, target, what)
            dots.append(
                Dot(
                    statistics.median(known or ends),
                    row + 0.26 * (place - 1),
                    look(variant.strategy).colour,
                    marker,
                    (min(known), max(known)) if known else None,
                    f"{variant.label}, {target:g}°: {_range(known, ends)}",
                    hollow=len(known) < len(variant.runs),
                )
            )
    name = "rounds" if what == ROUNDS else "bytes"
    return Chart(
        f"{name}-to-{NAMES[key]}",
        f"{what[0].upper()}{what[1:]} to 10°, 1° and 0.1°, {NAMES[key]}",
        Axis(what, log=True, whole=what == ROUNDS),
        Axis("", categories=tuple(variant.label for variant in compared)),
        dots=dots,
        keys=[(f"{target:g}°", "ink", marker) for target, marker in TARGETS.items()],
        note="Hollow: the run ended there, with one seed or more, and was not within it.",
    )


def by_steps(compared: Sequence[Variant], key: str) -> Chart:
    """Show an angle by the local steps that each client has made, K × rounds."""
    lines = [
        _line(variant, [variant.local_steps * r for r in variant.spent(ROUNDS)], variant.angles(key)[1])
        for variant in compared
    ]
    return Chart(
        "by-steps",
        f"{NAMES[key].capitalize()} angle by local steps, K × rounds",
        Axis("local steps of each client", log=True, whole=True),
        Axis("degrees", log=True, floor=FLOOR),
        lines,
        note="Read upwards: after the same number of steps, a larger K has had fewer rounds.",
    )


def at_a_budget(compared: Sequence[Variant], key: str) -> Chart:
    """Show what the same number of local steps reaches when it is dealt into rounds of K."""
    budget = min(variant.local_steps * variant.rounds for variant in compared)
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for variant in compared:
        rounds = budget // variant.local_steps
        angle = variant.angles(key)[1][rounds - 1] if rounds else None
        label = variant.label.replace(f" K={variant.local_steps}", "")
        if angle is not None:
            points.setdefault((variant.strategy, label), []).append((variant.local_steps, angle))
    lines = []
    for (strategy, label), own in points.items():
        steps, angles = zip(*sorted(own), strict=True)
        lines.append(Line(label, steps, angles, look(strategy).colour, marker=look(strategy).marker))
    return Chart(
        "budget",
        f"{NAMES[key].capitalize()} angle after {budget} local steps",
        Axis("K, local steps in a round", log=True, whole=True),
        Axis("degrees", log=True, floor=FLOOR),
        lines,
        note=f"A fixed budget: K × rounds is {budget} everywhere.",
    )


def reached(variant: Variant, kinds: Sequence[str]) -> list[str]:
    """Return a variant's cells of the table: rounds to each target, then megabytes."""
    wanted = [(key, ROUNDS) for key in kinds] + [(key, MEGABYTES) for key in kinds[:1]]
    return [_range(*_costs(variant, key, target, what)) for key, what in wanted for target in TARGETS]


def _costs(variant: Variant, key: str, target: float, what: str) -> tuple[list[float], list[float]]:
    """Return what the runs within a target had cost by then, and what all have cost in the end."""
    costs = [cost(run, key, target, what) for run in variant.runs]
    return [value for value in costs if value is not None], [spent(run, what)[-1] for run in variant.runs]


def _range(known: Sequence[float], ends: Sequence[float]) -> str:
    if not known:
        return f"> {max(ends):.3g}"
    least, most = f"{min(known):.3g}", f"{max(known):.3g}"
    said = least if least == most else f"{least} – {most}"
    return said if len(known) == len(ends) else f"{said} ({len(known)} of {len(ends)})"


def _line(variant: Variant, x: Sequence[float], y: Sequence[float | None]) -> Line:
    style = look(variant.strategy)
    return Line(variant.label, x, y, style.colour, variant.dash, style.marker)


BODY = """\
{% extends "base" %}
{% block content %}
<p class="quiet">localgd compare · <code>{{ directory }}</code></p>
<h1>{{ title }}</h1>
<p>{{ "Medians over %d seeds; ranges from the best to the worst." % seeds if seeds > 1 else "" }}
A colour is a strategy, wherever it is drawn; a dash tells its settings apart.</p>
<div class="figures">
{% for picture, note in figures.items() %}
{{ figure(picture, note) }}
{% endfor %}
</div>
{% if kinds %}
<h2>Until within 10°, 1° and 0.1° of the centralized model</h2>
<div class="wide"><table>
<tr><th></th>{% for kind in kinds %}<th class="n" colspan="3">rounds, {{ kind }}</th>{% endfor %}
<th class="n" colspan="3">MB sent by a client, {{ kinds[0] }}</th></tr>
<tr><th></th>
{% for _ in range(kinds | length + 1) %}
{% for target in targets %}
<th class="n">{{ target }}</th>
{% endfor %}
{% endfor %}
</tr>
{% for label, cells in rows %}
<tr><td>{{ label }}</td>{% for cell in cells %}<td class="n">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% endif %}
<h2>Runs</h2>
<ul>
{% for name, reported in links %}
{% if reported %}
<li><a href="{{ name | urlencode }}/report.html">{{ name }}</a></li>
{% else %}
<li>{{ name }}: no report</li>
{% endif %}
{% endfor %}
</ul>
<details><summary>The table as text; a click marks all of it for copying</summary>
<pre tabindex="0">{{ table }}</pre></details>
{% endblock %}
"""
