"""The last layer of a pretrained network, trained by clients whose digits differ: held-out accuracy."""

from statistics import mean, median

from matplotlib.figure import Figure

from examples.paper.figures import label, legend, panels, strategy_look
from examples.paper.runs import Runs
from examples.paper.words import degrees, percent, table

TASKS = {"mnist-4v9": "4 or 9, 6 clients", "mnist": "ten digits, 10 clients"}
METHODS = {
    ("local-gd", "gradient"): "Local-GD, K = 100, η = 1/β",
    ("modified-local-gd", "proximal"): "Modified Local-GD, proximal, K = 100, λ/β = 1e-6",
    ("modified-local-gd", "projection"): "Modified Local-GD, projection",
    ("cutting-plane", "projection"): "cutting planes",
}
LOCAL, PROXIMAL, _, EXACT = METHODS
AT = (1, 10, 30)


def find(runs: Runs) -> dict[str, str]:
    """Return the words of the document: medians over the seeds."""
    found = {}
    for data, task in TASKS.items():
        alone = runs.of(dataset=data, procedure="alone")
        rows = [
            ["each client alone: the worst", percent(median(min(r.facts["own"]) for r in alone)), "", ""],
            ["each client alone: the mean", percent(median(mean(r.facts["own"]) for r in alone)), "", ""],
            ["each client alone: the best", percent(median(max(r.facts["own"]) for r in alone)), "", ""],
            [
                "their average, once",
                percent(median(r.facts["average"] for r in alone)),
                degrees(median(r.facts["average-angle"] for r in alone)),
                "1",
            ],
        ]
        for (strategy, solver), name in METHODS.items():
            own = runs.of(dataset=data, strategy=strategy, solver=solver)
            for r in AT:
                if strategy == "cutting-plane" and r == AT[-1]:
                    continue
                rows.append([
                    name,
                    percent(median(run.at(r)["accuracy"] for run in own)),
                    degrees(median(run.at(r)["true"] for run in own)),
                    str(r),
                ])  # fmt: skip
        rows.append(["centralized", percent(median(r.facts["centralized"] for r in alone)), "", ""])
        found[f"{data}.alone"] = percent(median(mean(r.facts["own"]) for r in alone))
        found[f"{data}.once"] = percent(median(r.facts["average"] for r in alone))
        found[f"{data}.centralized"] = percent(median(r.facts["centralized"] for r in alone))
        found[f"{data}.local"] = percent(accuracy(runs, data, *LOCAL))
        found[data] = table([task, "held-out accuracy", "angle to the centralized", "rounds"], rows)
    return found


def expected(runs: Runs) -> dict[str, bool]:
    """Return what the document says of these runs, and whether they show it."""

    def alone(data: str, what: str) -> float:
        return float(median(run.facts[what] for run in runs.of(dataset=data, procedure="alone")))

    return {
        "training together beats the average of models, and that a client alone": all(
            accuracy(runs, data, *method)
            > alone(data, "average")
            > median(mean(run.facts["own"]) for run in runs.of(dataset=data, procedure="alone"))
            for data in TASKS
            for method in METHODS
        ),
        "cutting planes end at the centralized accuracy": all(
            abs(accuracy(runs, data, *EXACT) - alone(data, "centralized")) < 0.005 for data in TASKS
        ),
        "on ten digits Local-GD is better than the centralized model on every sharding": all(
            runs.one(dataset="mnist", strategy=LOCAL[0], seed=run["seed"]).last["accuracy"]
            > run.facts["centralized"]
            for run in runs.of(dataset="mnist", procedure="alone")
        ),
        "Modified Local-GD with proximal steps lags behind Local-GD with as many": all(
            angle_at_end(runs, data, *PROXIMAL) > angle_at_end(runs, data, *LOCAL) for data in TASKS
        ),
        "on 4 or 9 it is not": accuracy(runs, "mnist-4v9", *LOCAL) < alone("mnist-4v9", "centralized"),
    }


def accuracy(runs: Runs, data: str, strategy: str, solver: str) -> float:
    """Return the median accuracy at the end."""
    own = runs.of(dataset=data, strategy=strategy, solver=solver)
    return float(median(run.last["accuracy"] for run in own))


def angle_at_end(runs: Runs, data: str, strategy: str, solver: str) -> float:
    """Return the median angle to the centralized model at the end."""
    return float(median(run.last["true"] for run in runs.of(dataset=data, strategy=strategy, solver=solver)))


def draw(runs: Runs) -> dict[str, Figure]:
    """Draw the held-out accuracy against the round: the median over the seeds."""
    figure, grid = panels(1, 2, height=3.6)
    for axes, (data, task) in zip(grid[0], TASKS.items(), strict=True):
        alone = runs.of(dataset=data, procedure="alone")
        for (strategy, solver), name in METHODS.items():
            own = runs.of(dataset=data, strategy=strategy, solver=solver)
            rounds = min((run.curve["round"] for run in own), key=len)
            middle = [100 * median(run.at(r)["accuracy"] for run in own) for r in rounds]
            axes.semilogx(rounds, middle, **strategy_look(strategy, solver) | {"label": name})
        for what, value, line in (
            ("centralized", median(r.facts["centralized"] for r in alone), "-"),
            ("average of models, once", median(r.facts["average"] for r in alone), (0, (5, 2))),
            ("a client alone, mean", median(mean(r.facts["own"]) for r in alone), (0, (1, 1.5))),
        ):
            axes.axhline(100 * value, color="#1b1f24", linewidth=1.1, linestyle=line, label=what)
        label(axes, task, "round r", "held-out accuracy, %" if axes is grid[0, 0] else "")
    legend(figure, grid[0, 0], 3)
    return {"fine-tuning": figure}
