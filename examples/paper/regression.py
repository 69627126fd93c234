"""Regression: the least-norm model, and how many rounds it takes for each number of local steps."""

from typing import Any

from matplotlib.figure import Figure

from examples.paper.figures import label, legend, panels, steps_look
from examples.paper.runs import Run, Runs
from examples.paper.words import number, table

NAMES = {
    "gaussian regression": "Gaussian, 100 × 200",
    "diabetes features": "diabetes, 442 × 1000 Fourier features",
    "meats": "meats, 86 × 100 wavelengths",
}
RATES = {"auto": "1/(βK)", "1/beta": "1/β"}


def find(runs: Runs) -> dict[str, str]:
    """Return the words of the document."""
    steps = [1, 10, 100, 1000]
    rounds = (10, 100, 200, 1000)
    limits = {data: of(runs, data).one(procedure="exact-regression") for data in NAMES}
    return {
        **{f"limit.{data.split()[0]}": number(run.last["distance"], 2) for data, run in limits.items()},
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
    limits = [
        of(runs, data).one(procedure="exact-regression")
        for data in ("gaussian regression", "diabetes features")
    ]
    return {
        "K → ∞ converges to the least-norm model": all(run.last["distance"] < 2e-2 for run in limits),
        "100 steps of 1/β do as well": all(
            of(runs, data).one(local_steps=100, learning_rate="1/beta").last["distance"]
            < 2 * of(runs, data).one(procedure="exact-regression").last["distance"]
            for data in ("gaussian regression", "diabetes features")
        ),
    }


def of(runs: Runs, data: str) -> Runs:
    """Return the runs on some data, named or made."""
    return Runs(run for run in runs if data in (run.keys.get("data"), run.keys.get("dataset")))


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
        if min(run.last["distance"] for run in of(runs, data)) > 0.5:
            axes.set_yscale("linear")
            axes.set_ylim(0, 1.05)
        label(axes, name, "round r", "‖w − ŵ‖ / ‖ŵ‖" if axes is grid[0, 0] else "")
    legend(figure, grid[0, 0])
    return {"regression": figure}
