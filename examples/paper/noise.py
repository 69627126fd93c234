"""Mini-batches, and data that no model separates."""

from statistics import median

from matplotlib.figure import Figure

from examples.paper.figures import label, panels, plain, steps_look
from examples.paper.runs import Runs
from examples.paper.words import among, degrees, number, table

RATES = {"auto": "1/(βK)", "1/beta": "1/β"}


def find(runs: Runs) -> dict[str, str]:
    """Return the words of the document."""
    batches = stochastic(runs)
    other = Runs(run for run in runs if "data" in run.keys)
    steps = other.values("local-steps")
    sizes = batches.values("batch-size")

    def end(data: str, rate: str, steps: int, column: str) -> float:
        return float(other.one(data=data, learning_rate=rate, local_steps=steps).last[column])

    off = [[end("noisy", rate, k, "true") for k in steps[1:]] for rate in RATES]
    return {
        "batches.most": degrees(
            max(
                abs(run.last["true"] - full.last["true"])
                for full in batches.of(batch_size=0)
                for run in batches.of(dataset=full["dataset"], seed=full["seed"])
            )
        ),
        "off.theorem": among(off[0], degrees),
        "off.long": among(off[1], degrees),
        "ten.one": degrees(end("ten columns", "1/beta", 1, "true")),
        "ten.hundred": degrees(end("ten columns", "1/beta", 100, "true")),
        "ten.thousand": degrees(end("ten columns", "1/beta", 1000, "true")),
        "batches": table(
            ["angle after 300 rounds", *map(batch, sizes)],
            [
                [d, *(among((run.last["true"] for run in batches.of(dataset=d, batch_size=b)), degrees)
                      for b in sizes)]
                for d in batches.values("dataset")
            ],
        ),
        "inseparable": table(
            ["data", "η", *(f"K = {k}" for k in steps), "drift, K = 1000"],
            [
                [
                    d,
                    RATES[rate],
                    *(degrees(end(d, rate, k, "true")) for k in steps),
                    degrees(end(d, rate, steps[-1], "drift")),
                ]
                for d in other.values("data")
                for rate in RATES
            ],
            left=2,
        ),
        "distance": table(
            ["‖w − w°‖/‖w°‖", "η", *(f"K = {k}" for k in steps)],
            [
                [
                    d,
                    RATES[rate],
                    *(number(end(d, rate, k, "distance"), 2) for k in steps),
                ]
                for d in other.values("data")
                for rate in RATES
            ],
            left=2,
        ),
    }  # fmt: skip


def batch(size: int) -> str:
    """Name a size of batch."""
    return f"batch of {size}" if size else "full batch"


def stochastic(runs: Runs) -> Runs:
    """Return the runs of Local-SGD, and those of the full batch beside them."""
    return Runs(run for run in runs if "batch-size" in run.keys)


def expected(runs: Runs) -> dict[str, bool]:
    """Return what the document says of these runs, and whether they show it."""
    other = Runs(run for run in runs if "data" in run.keys)
    noisy = other.of(data="noisy")
    ten = other.of(data="ten columns", learning_rate="1/beta")
    return {
        "one step finds the minimiser of the noisy rows": all(
            run.last["true"] < 1e-3 for run in noisy.of(local_steps=1)
        ),
        "more steps end off it": all(run.last["true"] > 1 for run in noisy if run["local-steps"] > 1),
        "more steps with 1/β end farther off": all(
            noisy.one(learning_rate="1/beta", local_steps=k).last["true"]
            > 3 * noisy.one(learning_rate="auto", local_steps=k).last["true"]
            for k in (10, 100, 1000)
        ),
        "on ten columns 100 steps are nearest after 1000 rounds": min(ten, key=lambda run: run.last["true"])[
            "local-steps"
        ]
        == 100,
        "batches of any size end within a degree of the full one": all(
            abs(run.last["true"] - full.last["true"]) < 1
            for full in stochastic(runs).of(batch_size=0)
            for run in stochastic(runs).of(dataset=full["dataset"], seed=full["seed"])
        ),
    }


def draw(runs: Runs) -> dict[str, Figure]:
    """Draw the angle of Local-SGD for each batch size, and the angle to the minimiser for each K."""
    batches = stochastic(runs)
    data = batches.values("dataset")
    figure, grid = panels(1, 3, height=3.0)
    sizes = batches.values("batch-size")
    for axes, d in zip(grid[0], data, strict=True):
        for place, size in enumerate(sizes):
            own = batches.of(dataset=d, batch_size=size)
            middle = [median(values) for values in zip(*(run.curve["true"] for run in own), strict=True)]
            axes.loglog(
                own[0].curve["round"], middle, label=batch(size), **steps_look(place, range(len(sizes)))
            )
        plain(axes)
        label(axes, d, "round r", "angle, degrees" if axes is grid[0, 0] else "")
    grid[0, 0].legend(fontsize=7.5)
    more, grid = panels(1, 4, height=2.9)
    other = Runs(run for run in runs if "data" in run.keys)
    steps = other.values("local-steps")
    places = [(d, rate) for d in other.values("data") for rate in RATES]
    for axes, (d, rate) in zip(grid[0], places, strict=True):
        for run in other.of(data=d, learning_rate=rate):
            k = run["local-steps"]
            axes.loglog(run.curve["round"], run.curve["true"], label=f"K = {k}", **steps_look(k, steps))
        if min(run.last["true"] for run in other.of(data=d)) > 1:
            axes.set_yscale("linear")
            axes.set_ylim(0, 90)
        first = axes is grid[0, 0]
        label(axes, f"{d}, η = {RATES[rate]}", "round r", "angle to the minimiser, degrees" if first else "")
    grid[0, -1].legend(fontsize=7.5, loc="lower left")
    return {"batches": figure, "inseparable": more}
