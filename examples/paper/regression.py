"""Regression: the least-norm model, and how many rounds it takes for each number of local steps."""

from typing import Any

from matplotlib.figure import Figure

from examples.paper.figures import label, legend, panels, steps_look
from examples.paper.runs import Keys, Run, Runs
from examples.paper.words import number, table

NAMES = {
    "gaussian regression": "Gaussian, 100 × 200",
    "diabetes features": "diabetes, 442 × 1000 Fourier features",
    "nci60": "NCI60, 53 × 6829 genes",
}
RATES = {"auto": "1/(βK)", "1/beta": "1/β"}
HUNDRED: Keys = {"local_steps": 100, "learning_rate": "1/beta"}
"""The runs that the document speaks of."""


def find(runs: Runs) -> dict[str, str]:
    """Return the words of the document."""
    steps = [1, 10, 100, 1000]
    rounds = (10, 100, 200, 1000)
    hundred = {data: of(runs, data).one(**HUNDRED) for data in NAMES}
    return {
        **{f"hundred.{data.split()[0]}": number(run.last["distance"], 2) for data, run in hundred.items()},
        "explained": number(hundred["nci60"].last["r2"], 2),
        "standardized": number(runs.one(scale="standard").last["distance"], 2),
        "table": table(
            ["‖w − ŵ‖/‖ŵ‖", "η", "K", *(f"r = {r}" for r in rounds)],
            [
                [NAMES[data], RATES[rate], str(k), *(reached(run, r) for r in rounds)]
                for data in list(NAMES)
                for rate in RATES
                for k in steps
                for run in of(runs, data).of(learning_rate=rate, local_steps=k)
            ]
            + [
                [NAMES[data], "", "∞", *(reached(run, r) for r in rounds)]
                for data in list(NAMES)
                for run in of(runs, data).of(procedure="exact-regression")
            ],
            left=3,
        ),
    }


def reached(run: Run, number_of_rounds: int) -> str:
    """Say how near a run was; nothing where it had ended."""
    if number_of_rounds > int(run["num-server-rounds"]):
        return ""
    return number(run.at(number_of_rounds)["distance"], 2)


def expected(runs: Runs) -> dict[str, bool]:
    """Return what the document says of these runs, and whether they show it."""
    distances = {
        data: [
            of(runs, data).one(**keys).last["distance"]
            for keys in (HUNDRED, {"procedure": "exact-regression"})
        ]
        for data in NAMES
    }
    return {
        "100 steps of 1/β and K → ∞ converge to the least-norm model": all(
            max(pair) < 2e-2 for pair in distances.values()
        ),
        "they do so on genes to eight digits": max(distances["nci60"]) < 1e-8,
        "100 steps of 1/β do as well as K → ∞": all(
            hundred < 2 * limit or hundred < 1e-8 for hundred, limit in distances.values()
        ),
        "the model of genes tells something of cells held out": of(runs, "nci60").one(**HUNDRED).last["r2"]
        > 0.3,
        "with standardized columns it takes far longer": runs.one(scale="standard").last["distance"]
        > 1e6 * distances["nci60"][0],
    }


def of(runs: Runs, data: str) -> Runs:
    """Return the runs on some data, named or made, except those on standardized genes."""
    return Runs(
        run
        for run in runs
        if data in (run.keys.get("data"), run.keys.get("dataset")) and run.keys.get("scale") != "standard"
    )


def draw(runs: Runs) -> dict[str, Figure]:
    """Draw the distance to the least-norm model against the round."""
    figure, grid = panels(1, 3, height=3.2)
    order = [1, 10, 100, 1000, 10**9]
    for axes, (data, name) in zip(grid[0], NAMES.items(), strict=True):
        for run in of(runs, data):
            exact = "procedure" in run.keys
            if not exact and run["learning-rate"] != "1/beta":
                continue
            steps: Any = 10**9 if exact else run["local-steps"]
            axes.semilogy(
                run.curve["round"],
                run.curve["distance"],
                label="K → ∞" if exact else f"K = {steps}",
                **steps_look(steps, order),
            )
        label(axes, name, "round r", "‖w − ŵ‖ / ‖ŵ‖" if axes is grid[0, 0] else "")
    legend(figure, grid[0, 0])
    return {"regression": figure}
