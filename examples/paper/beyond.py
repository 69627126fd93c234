"""Rounds and bytes to a certified angle, for every strategy at its best setting."""

from math import inf
from statistics import median
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from examples.paper.figures import label, panels, plain, strategy_look
from examples.paper.measure import TARGETS
from examples.paper.runs import Run, Runs
from examples.paper.words import degrees, number, table

EXACT = ("cutting-plane", "consensus")
PROJECTING = (*((name, "") for name in EXACT), ("modified-local-gd", "projection"))


def find(runs: Runs) -> dict[str, str]:
    """Return the words of the document."""
    found = {}
    for data in ("tissue", "parkinson"):
        head = [f"{data}: strategy", "with", "10°", "1°", "0.1°", "kB sent to 0.1°", "certified at the end",
                "true at the end", "rounds"]  # fmt: skip
        found[data] = table(head, map(row, best(runs, data)), left=2)
        for name in EXACT:
            run = next(run for run in best(runs, data) if run["strategy"] == name)
            found[f"{name}.{data}"] = str(run.facts["to"][-1])
        nearest = [run.last["true"] for run in best(runs, data) if kind(run) not in PROJECTING]
        found[f"others.{data}"] = degrees(min(nearest))
    cuts = runs.of(strategy="cutting-plane")
    by_cuts = Runs(run for run in cuts if "cuts" in run.keys)
    by_active = Runs(run for run in cuts if "min-active" in run.keys)
    found["cuts"] = table(
        ["rounds, kB to 0.1°", *(f"cuts = {q}" for q in by_cuts.values("cuts"))],
        [
            [d, *(cost(by_cuts.of(dataset=d, cuts=q)) for q in by_cuts.values("cuts"))]
            for d in by_cuts.values("dataset")
        ],
    )  # fmt: skip
    found["active"] = table(
        ["rounds to 0.1°, seeds 0, 1, 2", *(f"min-active = {m}" for m in by_active.values("min-active"))],
        [
            [
                d,
                *(
                    ", ".join(
                        str(run.facts["to"][-1] or f"> {run.facts['rounds']}")
                        for run in by_active.of(dataset=d, min_active=m)
                    )
                    for m in by_active.values("min-active")
                ),
            ]
            for d in by_active.values("dataset")
        ],
    )
    return found


def expected(runs: Runs) -> dict[str, bool]:
    """Return what the document says of these runs, and whether they show it."""
    return {
        f"only cutting planes and consensus get to 0.1° on {data}": {
            run["strategy"] for run in best(runs, data) if run.facts["to"][-1]
        }
        == set(EXACT)
        for data in ("tissue", "parkinson")
    } | {
        "more cuts need fewer rounds and no more than a quarter more bytes": all(
            needed(runs, d, 16, "to") < needed(runs, d, 1, "to")
            and needed(runs, d, q, "kilobytes") < 1.25 * needed(runs, d, 1, "kilobytes")
            for d in ("tissue", "parkinson", "digits")
            for q in (2, 4, 8, 16)
        ),
        "with min-active = 4 no run gets to 0.1°": all(
            run.facts["to"][-1] is None for run in runs.of(min_active=4)
        ),
    }


def needed(runs: Runs, data: str, cuts: int, fact: str) -> float:
    """Return the median of what runs with so many cuts needed to the hardest target."""
    return float(median(run.facts[fact][-1] for run in runs.of(dataset=data, cuts=cuts)))


def best(runs: Runs, data: str) -> list[Run]:
    """Return the best run of each strategy, and of each form of Modified Local-GD; the nearest first."""
    chosen = Runs(r for r in runs.of(dataset=data) if "cuts" not in r.keys and "min-active" not in r.keys)
    kinds = dict.fromkeys(map(kind, chosen))
    return sorted((min((r for r in chosen if kind(r) == one), key=order) for one in kinds), key=order)


def kind(run: Run) -> tuple[Any, ...]:
    """Tell the two forms of Modified Local-GD apart, and nothing else."""
    return run["strategy"], run["solver"] if run["strategy"] == "modified-local-gd" else ""


def order(run: Run) -> tuple[Any, ...]:
    """Order runs: fewer rounds to the hardest target that is reached, then the angles at the end."""
    if not run.curve["round"]:
        return (True,)
    reached = [run.facts["to"][k] or inf for k in (2, 1, 0)]
    return (bool(run.facts["failure"]), *reached, run.last["certified"] or 180.0, run.last["true"])


def row(run: Run) -> list[str]:
    """Return a line of the table."""
    to = [str(n) if n else "–" for n in run.facts["to"]]
    sent = number(run.facts["kilobytes"][-1])
    with_ = [str(run["solver"])]
    if "learning-rate" in run.keys:
        with_.append(f"η = {str(run['learning-rate']).removesuffix('beta')}β")
    if "regularization" in run.keys:
        with_.append(f"λ/β = {run['regularization']:g}")
    if "strategy-options" in run.keys:
        with_.append(str(run["strategy-options"]))
    last = [degrees(run.last["certified"]), degrees(run.last["true"]), str(run.facts["rounds"])]
    return [f"`{run['strategy']}`", ", ".join(with_), *to, sent, *last]


def middle(runs: Runs, fact: str) -> str:
    """Return the median of what the runs needed to the hardest target."""
    values = [run.facts[fact][-1] for run in runs]
    if None in values:
        return "–"
    return f"{median(values):g}" if fact == "to" else number(median(values))


def cost(runs: Runs) -> str:
    """Say what the runs needed to the hardest target: rounds and kilobytes."""
    return f"{middle(runs, 'to')}, {middle(runs, 'kilobytes')}"


def draw(runs: Runs) -> dict[str, Figure]:
    """Draw the certified angle against the round for the best of each, and rounds against bytes."""
    figure, grid = panels(2, 2, height=3.1)
    for column, data in enumerate(("tissue", "parkinson")):
        for run in best(runs, data):
            theirs = str(run["strategy"]).startswith("flower:")
            pairs = zip(run.curve["round"], run.curve["certified"], strict=True)
            shown = [(r, a) for r, a in pairs if a is not None and a < 90]
            look = strategy_look(run["strategy"], "" if theirs else run["solver"])
            grid[int(theirs), column].loglog([r for r, _ in shown], [a for _, a in shown], **look)
        ours, theirs = grid[:, column]
        for axes, low in ((ours, 0.05), (theirs, 8)):
            axes.set_xlim(0.8, 1250)
            axes.set_ylim(low, 100)
            plain(axes)
            for target in TARGETS:
                axes.axhline(target, color="#57606a", linewidth=0.8, linestyle=(0, (1, 2)))
        label(ours, f"{data}: this project's strategies", y="" if column else "certified angle, degrees")
        label(theirs, f"{data}: Flower's", "round r", "" if column else "certified angle, degrees")
    entries = {  # the best form of a strategy may be another one on the other data
        name: handle
        for axes in grid.flat
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=6, fontsize=7.5, frameon=False)
    more, grid = panels(1, 1, width=5.2, height=3.3)
    cuts = Runs(run for run in runs if "cuts" in run.keys)
    axes = grid[0, 0]
    lines = ("-", (0, (5, 2)), (0, (1, 1.5)))
    for d, line, mark in zip(cuts.values("dataset"), lines, "osD", strict=True):
        points = []
        for q in cuts.values("cuts"):
            own = cuts.of(dataset=d, cuts=q)
            if all(run.facts["to"][-1] for run in own):
                rounds, sent = (median(run.facts[f][-1] for run in own) for f in ("to", "kilobytes"))
                points.append((rounds, sent, q))
        look = strategy_look("cutting-plane") | {"linestyle": line, "marker": mark, "label": d}
        axes.loglog([p[0] for p in points], [p[1] for p in points], **look)
        for rounds, sent, q in points:
            axes.annotate(f" {q}", (rounds, sent), fontsize=7.5, textcoords="offset points", xytext=(3, 4))
    plain(axes)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    label(axes, "cutting planes to a certified 0.1°; numbers: cuts", "rounds", "kilobytes that a client sent")
    axes.legend(fontsize=8, loc="center right")
    return {"beyond": figure, "cuts": more}
