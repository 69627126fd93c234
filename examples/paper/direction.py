"""Local-GD's direction and loss for every number of local steps, and what their constants hide."""

from math import log
from typing import Any

from matplotlib.figure import Figure

from examples.paper.figures import label, legend, panels, steps_look
from examples.paper.runs import Run, Runs
from examples.paper.words import among, degrees, exponent, number, table

AT = 100
"""The round that all runs have."""
RATES = {"auto": "1/(βK)", "1/beta": "1/β"}
LATE = (1000, 5000)


ABOUT = {
    "synthetic": "Gaussian rows pushed apart along a random direction",
    "tissue": "gene expression: brain or not; groups: seven tissues",
    "parkinson": "speech: Parkinson's disease or not",
    "digits": "pixels: 3 or 8",
}


def expected(runs: Runs) -> dict[str, bool]:
    """Return what the document says of these runs, and whether they show it."""
    first = trained(runs).of(seed=0)
    short = [exponents(first, rate) for rate in RATES]
    spreads = [spread(first.of(dataset=d, learning_rate="auto"), "true") for d in first.values("dataset")]
    return {
        "the angle falls all the way for every K": all(
            run.at(AT)["true"] < run.at(10)["true"] < run.at(1)["true"] for run in first
        ),
        "loss × K r grows like K with η = 1/(βK)": all(0.95 < e < 1.05 for e in short[0].values()),
        "loss × K r hardly depends on K with η = 1/β": all(abs(e) < 0.4 for e in short[1].values()),
        "the angles of all K are within two degrees with η = 1/(βK)": max(spreads) < 2,
    }


def find(runs: Runs) -> dict[str, str]:
    """Return the words of the document."""
    data = table(
        ["data", "rows", "features", "largest client", "smallest", "γ*", "what"],
        [
            [str(run["dataset"]), *(str(run.facts[f]) for f in ("rows", "features", "largest", "smallest")),
             number(run.facts["margin"]), ABOUT[run["dataset"]]]
            for run in runs.of(procedure="described")
        ],
    )  # fmt: skip
    runs = trained(runs)
    first = runs.of(seed=0)
    found: dict[str, str] = {"spread": number(max(
        spread(first.of(dataset=d, learning_rate="auto"), "true") for d in first.values("dataset")
    ), 2)}  # fmt: skip
    for rate, written in RATES.items():
        steps = first.of(learning_rate=rate).values("local-steps")
        powers = exponents(first, rate)
        name = rate.replace("/", "-")
        found[f"{name}.loss"] = table(
            ["loss × K r", *(f"K = {k}" for k in steps), "power of K"],
            [
                [
                    data,
                    *(number(at(first, data, rate, k)["loss"] * k * AT) for k in steps),
                    number(powers[data]),
                ]
                for data in first.values("dataset")
            ],
        )
        found[f"{name}.angle"] = table(
            [f"angle, η = {written}", *(f"K = {k}" for k in steps)],
            [
                [data, *(degrees(at(first, data, rate, k)["true"]) for k in steps)]
                for data in first.values("dataset")
            ],
        )
        found[f"{name}.power"] = among(powers.values())
        others = [
            exponents(runs.of(seed=seed), rate)[data] for seed in (1, 2) for data in first.values("dataset")
        ]
        found[f"{name}.power.seeds"] = among(others)
    late = [run for run in first if run["num-server-rounds"] == LATE[-1]]
    found["late"] = table(
        ["K = 10, η = 1/β", *(f"angle × ln(K r), r = {r}" for r in (AT, *LATE)), f"angle, r = {LATE[-1]}"],
        [
            [
                str(run["dataset"]),
                *(number(run.at(r)["true"] * log(10 * run.at(r)["round"])) for r in (AT, *LATE)),
                degrees(run.last["true"]),
            ]
            for run in late
        ],
    )
    for run in late:
        found[str(run["dataset"])] = degrees(run.last["true"])
    return found | {"data": data}


def trained(runs: Runs) -> Runs:
    """Return the runs of Local-GD."""
    return Runs(run for run in runs if "procedure" not in run.keys)


def at(runs: Runs, data: str, rate: str, steps: int) -> dict[str, Any]:
    """Return the row of the common round."""
    return shortest(runs.of(dataset=data, learning_rate=rate, local_steps=steps)).at(AT)


def shortest(runs: Runs) -> Run:
    """Return the run with the fewest rounds."""
    return min(runs, key=lambda run: run["num-server-rounds"])


def exponents(runs: Runs, rate: str) -> dict[str, float]:
    """Return for each data set the power of K in ``loss × K r`` at the common round."""
    chosen = runs.of(learning_rate=rate)
    found = {}
    for data in chosen.values("dataset"):
        steps = chosen.of(dataset=data).values("local-steps")
        found[data] = exponent(steps, [at(runs, data, rate, k)["loss"] * k for k in steps])
    return found


def spread(runs: Runs, column: str) -> float:
    """Return the largest difference between runs at the common round."""
    values = [run.at(AT)[column] for run in runs]
    return float(max(values) - min(values))


def draw(runs: Runs) -> dict[str, Figure]:
    """Draw loss × K r and angle × ln(K r) against the round, for both rates."""
    first = trained(runs).of(seed=0)
    drawn = {}
    for rate, written in RATES.items():
        chosen = Runs(run for run in first.of(learning_rate=rate) if run["num-server-rounds"] < LATE[0])
        steps = chosen.values("local-steps")
        figure, grid = panels(2, 4, height=2.5)
        for column, data in enumerate(chosen.values("dataset")):
            loss, angle = grid[0, column], grid[1, column]
            for run in chosen.of(dataset=data):
                look = steps_look(run["local-steps"], steps)
                rounds, k = run.curve["round"], run["local-steps"]
                name = f"K = {k}"
                loss.loglog(
                    rounds,
                    [f * k * r for f, r in zip(run.curve["loss"], rounds, strict=True)],
                    label=name,
                    **look,
                )
                pairs = [(r, a) for r, a in zip(rounds, run.curve["true"], strict=True) if k * r > 1]
                angle.semilogx([r for r, _ in pairs], [a * log(k * r) for r, a in pairs], label=name, **look)
            angle.set_ylim(bottom=0)
            label(loss, data, y="loss × K r" if column == 0 else "")
            label(angle, x="round r", y="angle × ln(K r), degrees" if column == 0 else "")
        figure.suptitle(f"Local-GD, η = {written}", fontsize=10.5)
        legend(figure, grid[0, 0])
        drawn[f"direction-{'theorem' if rate == 'auto' else 'long'}"] = figure
    return drawn
