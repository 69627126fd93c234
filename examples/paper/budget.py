"""A fixed number of local steps in all: many in few rounds, or few in many?"""

from matplotlib.figure import Figure

from examples.paper.figures import label, legend, panels, plain, strategy_look
from examples.paper.runs import Run, Runs
from examples.paper.words import degrees, table

WRITTEN = {"auto": "1/(βK)", "1/beta": "1/β"}


def find(runs: Runs) -> dict[str, str]:
    """Return the words of the document."""
    found: dict[str, str] = {}
    for data in runs.values("dataset"):
        steps = stepped(runs).values("local-steps")
        found[data] = table(
            [f"{data}: angle", *(f"K = {k}" for k in steps), "best K"],
            [
                [
                    name(curve[0]),
                    *(degrees(run.last["true"]) for run in curve),
                    str(best(curve)["local-steps"]),
                ]
                for curve in curves(runs, data)
            ],
        )
        found[f"{data}.projections"] = table(
            [f"{data}: projections", *(f"{r} rounds" for r in (1, 5, 20, 100, 300))],
            [
                [NAMES[run["strategy"]], *(degrees(run.at(r)["true"]) for r in (1, 5, 20, 100, 300))]
                for run in runs.of(dataset=data, solver="projection")
            ],
        )
    for k in (1, 16):
        for data in runs.values("dataset"):
            run = stepped(runs).one(dataset=data, strategy="local-gd", learning_rate="1/beta", local_steps=k)
            found[f"{data}.{k}"] = degrees(run.last["true"])
    return found


NAMES = {
    "modified-local-gd": "Modified Local-GD",
    "cutting-plane": "cutting planes",
    "consensus": "consensus",
}


def expected(runs: Runs) -> dict[str, bool]:
    """Return what the document says of these runs, and whether they show it."""
    return {
        "one local step is best for every strategy": all(
            best(curve)["local-steps"] == 1 for data in runs.values("dataset") for curve in curves(runs, data)
        ),
        "16 steps of 1/β are nearly as good": all(
            curve.one(local_steps=16).last["true"] < 1.05 * curve.one(local_steps=1).last["true"]
            for data in runs.values("dataset")
            for curve in curves(runs, data)
            if curve[0]["learning-rate"] == "1/beta"
        ),
    }


def stepped(runs: Runs) -> Runs:
    """Return the runs that take local steps."""
    return Runs(run for run in runs if "local-steps" in run.keys)


def curves(runs: Runs, data: str) -> list[Runs]:
    """Return the runs of each strategy and rate, by K."""
    chosen = stepped(runs).of(dataset=data)
    kinds = dict.fromkeys((run["strategy"], run["learning-rate"]) for run in chosen)
    return [chosen.of(strategy=strategy, learning_rate=rate) for strategy, rate in kinds]


def best(curve: Runs) -> Run:
    """Return the run that ends nearest to the centralized model."""
    return min(curve, key=lambda run: run.last["true"])


def name(run: Run) -> str:
    """Name a strategy with its rate."""
    kind = "Local-GD" if run["strategy"] == "local-gd" else "Modified, proximal"
    return f"{kind}, η = {WRITTEN[run['learning-rate']]}"


def draw(runs: Runs) -> dict[str, Figure]:
    """Draw the angle at the end against K."""
    data = runs.values("dataset")
    figure, grid = panels(1, len(data), height=3.6)
    dashes = {"auto": (0, (1.5, 1.5)), "1/beta": "-"}
    for axes, d in zip(grid[0], data, strict=True):
        for curve in curves(runs, d):
            look = strategy_look(curve[0]["strategy"]) | {"linestyle": dashes[curve[0]["learning-rate"]]}
            axes.loglog(
                [run["local-steps"] for run in curve],
                [run.last["true"] for run in curve],
                **look | {"label": name(curve[0])},
            )
        budget = max(run["num-server-rounds"] for run in stepped(runs))
        for run in runs.of(dataset=d, solver="projection"):
            rounds = [r for r in run.curve["round"] if run.at(r)["true"] > 1e-2]
            look = strategy_look(run["strategy"], "projection") | {"markersize": 0, "linewidth": 1.0}
            axes.loglog(
                [budget / r for r in rounds],
                [run.at(r)["true"] for r in rounds],
                **look
                | {"label": f"{NAMES[run['strategy']]} in as many rounds", "linestyle": (0, (3, 1, 1, 1))},
            )
        plain(axes)
        label(axes, d, f"local steps K per round ({budget}/K rounds)", "angle at the end, degrees")
    legend(figure, grid[0, 0], 3)
    return {"budget": figure}
