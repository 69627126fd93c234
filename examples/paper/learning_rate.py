"""A learning rate that does not shrink with K: where Local-GD ends, and Modified Local-GD, and its bias."""

from itertools import pairwise
from math import log

import numpy as np
from matplotlib.figure import Figure

from examples.paper.figures import label, panels, plain, steps_look, strategy_look
from examples.paper.runs import Run, Runs
from examples.paper.words import degrees, number, table

AT = 100
EXACT = "exact-proximal"


def find(runs: Runs) -> dict[str, str]:
    """Return the words of the document."""
    data = runs.values("dataset")
    steps = local(runs).values("local-steps")
    found = {
        "local": table(
            ["angle after 100 rounds", *(f"K = {k}" for k in steps), "mean of projections", "at r = 300"],
            [
                [
                    d,
                    *(degrees(local(runs).one(dataset=d, local_steps=k).at(AT)["true"]) for k in steps),
                    *(degrees(projected(runs, d, "local-gd").at(r)["true"]) for r in (AT, 300)),
                ]
                for d in data
            ],
        ),
        "drift": table(
            ["η = 1/β, K = 1000", *(f"r = {r}" for r in (1, 10, 100, 300))],
            [
                [
                    d,
                    *(
                        degrees(local(runs).one(dataset=d, local_steps=1000).at(r)["drift"])
                        for r in (1, 10, 100, 300)
                    ),
                ]
                for d in data
            ],
        ),
        "modified": table(
            [f"angle after {AT} rounds", *(f"λ/β = {decay:g}" for decay in decays(steps_of(runs, 100)))],
            [
                row
                for d in data
                for row in (
                    *(
                        [f"{d}, K = {k}"]
                        + [degrees(run.at(AT)["true"]) for run in steps_of(runs, k).of(dataset=d)]
                        for k in (100, 1000)
                    ),
                    [f"{d}, solved exactly"]
                    + [
                        degrees(exact(runs, d, decay).at(AT)["true"])
                        for decay in decays(steps_of(runs, 100))
                    ],
                )
            ],
        ),
        "limit": table(
            ["λ → 0", f"true angle, r = {AT}", "r = 300"],
            [
                [
                    d,
                    *(
                        degrees(projected(runs, d, "modified-local-gd").at(r)["true"])
                        for r in (AT, 300)
                    ),
                ]
                for d in data
            ],
        ),
        "bias": table(
            ["bias × ln(β/λ)", *(f"λ/β = {decay:g}" for decay in decays(bias(runs, data[0]))), "slope"],
            [
                [d, *(number(run.last["limit"] * -log(run["regularization"])) for run in bias(runs, d)),
                 number(slope(bias(runs, d)))]
                for d in data
            ],
        ),
    }  # fmt: skip
    for d in data:
        found[f"mean.{d}"] = degrees(projected(runs, d, "local-gd").last["true"])
        found[f"{d}.fit"] = number(correlation(bias(runs, d)), 4)
    return found


def expected(runs: Runs) -> dict[str, bool]:
    """Return what the document says of these runs, and whether they show it."""
    return {
        "Local-GD's angle still falls for every K with η = 1/β": all(
            after < before for run in local(runs) for before, after in pairwise(run.curve["true"])
        ),
        "the exact bias falls with λ": all(
            run.last["limit"] > after.last["limit"]
            for d in runs.values("dataset")
            for run, after in zip(bias(runs, d)[3:], bias(runs, d)[4:], strict=False)
        ),
    }


def local(runs: Runs) -> Runs:
    """Return the runs of Local-GD with gradient steps."""
    return runs.of(strategy="local-gd", solver="gradient")


def projected(runs: Runs, data: str, strategy: str) -> Run:
    """Return a run with projections."""
    return runs.one(dataset=data, strategy=strategy, solver="projection")


def steps_of(runs: Runs, steps: int) -> Runs:
    """Return the runs of Modified Local-GD with so many local steps."""
    return runs.of(solver="proximal", local_steps=steps)


def bias(runs: Runs, data: str) -> Runs:
    """Return the runs with exact local solves, by falling λ."""
    return runs.of(procedure=EXACT, dataset=data)


def exact(runs: Runs, data: str, decay: float) -> Run:
    """Return the run with exact local solves for one λ/β."""
    return bias(runs, data).one(regularization=decay)


def decays(runs: Runs) -> list[float]:
    """Return the values of λ/β."""
    return runs.values("regularization")


def slope(runs: Runs) -> float:
    """Return the slope through zero of the bias in degrees against 1/ln(β/λ), for λ/β up to 1e-4."""
    x, y = _points(runs)
    return float(x @ y / (x @ x))


def correlation(runs: Runs) -> float:
    """Return how straight that line is."""
    return float(np.corrcoef(_points(runs))[0, 1])


def _points(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    small = [run for run in runs if run["regularization"] <= 1e-4]
    return (
        np.array([-1 / log(run["regularization"]) for run in small]),
        np.array([run.last["limit"] for run in small]),
    )


def draw(runs: Runs) -> dict[str, Figure]:
    """Draw the angle of Local-GD for each K, of Modified Local-GD for each λ, and the bias."""
    data = runs.values("dataset")
    figure, grid = panels(3, 3, height=2.6)
    steps = local(runs).values("local-steps")
    wanted = (1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-12)
    for column, d in enumerate(data):
        top, middle, low = grid[:, column]
        for run in local(runs).of(dataset=d):
            look = steps_look(run["local-steps"], steps)
            top.loglog(run.curve["round"], run.curve["true"], label=f"K = {run['local-steps']}", **look)
        run = projected(runs, d, "local-gd")
        top.loglog(run.curve["round"], run.curve["true"], **strategy_look("local-gd", "projection"))
        for place, decay in enumerate(wanted):
            run = exact(runs, d, decay)
            look = steps_look(place, range(len(wanted)))
            middle.loglog(run.curve["round"], run.curve["true"], label=f"λ/β = {decay:g}", **look)
        run = projected(runs, d, "modified-local-gd")
        middle.loglog(
            run.curve["round"],
            run.curve["true"],
            **strategy_look("modified-local-gd", "projection") | {"label": "λ → 0 (projection)"},
        )
        for r, marker in ((10, "o"), (AT, "s")):
            x = [-1 / log(run["regularization"]) for run in bias(runs, d)]
            low.plot(x, [run.at(r)["limit"] for run in bias(runs, d)], marker, ms=4, label=f"r = {r}",
                     color="#1b1f24" if r == AT else "#9aa3ad")  # fmt: skip
        end = -1 / log(1e-4)
        low.plot([0, end], [0, slope(bias(runs, d)) * end], color="#d55e00", lw=1.3, label="fit, r = 100")
        label(top, f"{d}: Local-GD, η = 1/β", "round r", "angle, degrees" if not column else "")
        label(middle, f"{d}: Modified, exact", "round r", "angle, degrees" if not column else "")
        label(low, f"{d}: bias", "1 / ln(β/λ)", "angle to the λ → 0 model, degrees" if not column else "")
        low.set_xlim(left=0)
        low.set_ylim(bottom=0)
        plain(top, 0.55)
        plain(middle, 0.4)
    for row in range(2):
        grid[row, 0].legend(fontsize=6.5, loc="lower left", ncols=2, framealpha=0.9)
    grid[2, 0].legend(fontsize=7)
    return {"learning-rate": figure}
