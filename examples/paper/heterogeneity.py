"""Clients ever less alike, and ever more of them: does the drift of their models say how fast a method is?"""

from collections.abc import Sequence
from statistics import median

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from examples.paper.figures import label, panels, plain, strategy_look
from examples.paper.runs import Run, Runs
from examples.paper.words import degrees, number, table

NAMES = {
    "local-gd": "Local-GD",
    "modified-local-gd": "Modified Local-GD, projection",
    "consensus": "consensus",
    "cutting-plane": "cutting planes",
}
EARLY = 50
"""The round at which consensus is compared: where it is fast, its runs have ended by 100."""
EFFORTS = {
    "local-gd": "angle after 100 rounds",
    "modified-local-gd": "angle after 100 rounds",
    "consensus": f"angle after {EARLY} rounds",
    "cutting-plane": "rounds to a certified 0.1°",
}
ANGLES = ("local-gd", "modified-local-gd", "consensus")


def find(runs: Runs) -> dict[str, str]:
    """Return the words of the document."""
    found = {}
    data = dealt(runs).values("dataset")
    alphas = dealt(runs).values("alpha")
    clients = counted(runs).values("clients")
    for d in data:
        own = dealt(runs).of(dataset=d)
        drifts = [
            degrees(median(drift(runs, run) for run in own.of(strategy="local-gd", alpha=alpha)))
            for alpha in alphas
        ]
        found[d] = table(
            [d, *(f"α = {alpha:g}" for alpha in alphas), "rank correlation with drift"],
            [
                ["drift in round 1", *drifts, ""],
                *(
                    [
                        f"{NAMES[strategy]}: {EFFORTS[strategy]}",
                        *(said(own.of(strategy=strategy, alpha=alpha)) for alpha in alphas),
                        number(rank(runs, d, strategy), 2),
                    ]
                    for strategy in NAMES
                ),
            ],
        )
    ranks = [rank(runs, d, strategy) for d in data for strategy in NAMES]
    found["rank.least"], found["rank.most"] = number(min(ranks), 2), number(max(ranks), 2)
    for alpha in (100, 0.05):
        found[f"parkinson.{alpha}"] = degrees(middle(runs, "parkinson", alpha))
        found[f"tissue.{alpha}"] = degrees(middle(runs, "tissue", alpha))
    found["shardings"] = str(len(dealt(runs).of(dataset=data[0], strategy="local-gd")))
    found["clients"] = table(
        ["digits", "shards", *(f"M = {m}" for m in clients)],
        [
            [
                f"{NAMES[s]}: {EFFORTS[s]}",
                partition,
                *(said(counted(runs).of(strategy=s, partition=partition, clients=m)) for m in clients),
            ]
            for s in NAMES
            for partition in ("iid", "label")
        ],
        left=2,
    )
    return found


def expected(runs: Runs) -> dict[str, bool]:
    """Return what the document says of these runs, and whether they show it."""
    few = counted(runs).of(strategy="cutting-plane")
    local = {alpha: middle(runs, "parkinson", alpha) for alpha in (100, 0.05)}
    first = dealt(runs).of(dataset="tissue", strategy="local-gd")
    drifts = {a: median(drift(runs, run) for run in first.of(alpha=a)) for a in (100, 0.05)}
    return {
        "drift says nothing of Local-GD on parkinson": rank(runs, "parkinson", "local-gd") < 0.2,
        "one-sided clients slow Local-GD on parkinson, though": local[0.05] > 1.5 * local[100],
        "drift goes with Local-GD's angle on tissue": rank(runs, "tissue", "local-gd") > 0.7,
        "drift doubles there": 1.8 < drifts[0.05] / drifts[100] < 2.2,
        "there it costs a few degrees": middle(runs, "tissue", 0.05) - middle(runs, "tissue", 100) < 5,
        "more clients do not make cutting planes slower": max(map(effort, few)) <= 8,
        "with more clients averages are slower": all(
            effort(own.one(clients=100)) > effort(own.one(clients=2))
            for strategy in ("local-gd", "modified-local-gd")
            for partition in ("iid", "label")
            for own in [counted(runs).of(strategy=strategy, partition=partition)]
        ),
        "clients with one label only make no difference to Local-GD": all(
            abs(effort(own.one(partition="iid")) - effort(own.one(partition="label"))) < 1
            for m in counted(runs).values("clients")
            for own in [counted(runs).of(strategy="local-gd", clients=m)]
        ),
    }


def middle(runs: Runs, data: str, alpha: float) -> float:
    """Return the median of Local-GD's angles at the end."""
    return median(map(effort, dealt(runs).of(dataset=data, alpha=alpha, strategy="local-gd")))


def dealt(runs: Runs) -> Runs:
    """Return the runs over α."""
    return runs.of(partition="dirichlet")


def counted(runs: Runs) -> Runs:
    """Return the runs over the number of clients."""
    return Runs(run for run in runs if run["partition"] != "dirichlet")


def said(runs: Runs) -> str:
    """Say what the runs took: the median of their efforts."""
    middle = median(map(effort, runs))
    return degrees(middle) if runs[0]["strategy"] in ANGLES else f"{middle:g}"


def effort(run: Run) -> float:
    """Return what is to be small: an angle, or the rounds to a certified 0.1°; see `EFFORTS`."""
    if run["strategy"] == "cutting-plane":
        return float(run.facts["to"][-1])
    return float(run.at(EARLY)["true"] if run["strategy"] == "consensus" else run.last["true"])


def drift(runs: Runs, run: Run) -> float:
    """Return how far the local models of these shards are from their mean in Local-GD's first round."""
    same = dealt(runs).of(strategy="local-gd")
    return float(same.one(dataset=run["dataset"], alpha=run["alpha"], seed=run["seed"]).curve["drift"][0])


def rank(runs: Runs, data: str, strategy: str) -> float:
    """Return Spearman's rank correlation of that drift with the effort."""
    own = dealt(runs).of(dataset=data, strategy=strategy)
    return spearman([drift(runs, run) for run in own], [effort(run) for run in own])


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the rank correlation; ties share the mean of their ranks."""
    ranks = [np.array([np.mean(np.flatnonzero(np.sort(v) == one)) for one in v]) for v in (x, y)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def draw(runs: Runs) -> dict[str, Figure]:
    """Draw drift against α, and the effort of each strategy against drift."""
    data = dealt(runs).values("dataset")
    figure, grid = panels(2, len(data), height=2.9)
    for column, d in enumerate(data):
        for axes, strategies in zip(grid[:, column], (ANGLES, ("cutting-plane",)), strict=True):
            for strategy in strategies:
                own = dealt(runs).of(dataset=d, strategy=strategy)
                look = strategy_look(strategy) | {"linestyle": "none", "label": legend_of(strategy)}
                axes.semilogy([drift(runs, run) for run in own], [effort(run) for run in own], **look)
            plain(axes)
        top, low = grid[:, column]
        label(top, d, "drift in round 1, degrees", "" if column else "angle, degrees")
        low.set_yscale("linear")
        low.set_ylim(0, 1.1 * low.get_ylim()[1])
        low.yaxis.set_major_locator(MaxNLocator(integer=True))
        label(low, d, "drift in round 1, degrees", "" if column else EFFORTS["cutting-plane"])
    grid[0, 0].legend(fontsize=7.5, loc="center right")
    more, grid = panels(1, 2, height=3.1)
    for axes, strategies in zip(grid[0], (ANGLES, ("cutting-plane",)), strict=True):
        for strategy in strategies:
            for partition, line in (("iid", "-"), ("label", (0, (5, 2)))):
                own = counted(runs).of(strategy=strategy, partition=partition)
                look = strategy_look(strategy) | {"linestyle": line}
                look |= {"label": f"{NAMES[strategy]}, {partition}"}
                axes.semilogx([run["clients"] for run in own], [effort(run) for run in own], **look)
        axes.set_ylim(0, max(axes.get_ylim()[1], 36) if "consensus" in strategies else None)
        axes.xaxis.set_major_locator(FixedLocator(counted(runs).values("clients")))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend(fontsize=7, loc="upper left" if "consensus" in strategies else "lower left")
    label(grid[0, 0], "digits", "clients M", "angle, degrees")
    label(grid[0, 1], "digits", "clients M", EFFORTS["cutting-plane"])
    return {"heterogeneity": figure, "clients": more}


def legend_of(strategy: str) -> str:
    """Name a strategy, with the round that its angle is of where that is not the others'."""
    return f"{NAMES[strategy]}, round {EARLY}" if strategy == "consensus" else NAMES[strategy]
