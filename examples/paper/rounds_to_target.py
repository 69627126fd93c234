"""How many rounds does each strategy need to be certified within 10°, 1° and 0.1° of the centralized model?

    python examples/paper/rounds_to_target.py [--rounds 5000] [--data tissue] [--only consensus] …

Every strategy gets the same shards and the same budget of rounds.  Those with a learning rate get the best
of a grid: each of its settings runs for `--screen` rounds; the two that are certified nearest then (or are
truly nearest, where nothing is certified), one with each solver, run for all, and the better one counts.
What has been run is kept in the .json beside this file, so that the study can be stopped and taken up
again; delete it to start anew.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.config import Config, Value
from localgd.compare import run_one
from localgd.outcomes import outcome_of

CACHE = Path(__file__).with_suffix(".json")
TARGETS = (10.0, 1.0, 0.1)
DATA: Mapping[str, dict[str, Value]] = {
    "tissue": {"dataset": "tissue", "clients": 6},
    "parkinson": {"dataset": "parkinson", "clients": 8},
}
COMMON: dict[str, Value] = {"test-fraction": 0.0, "alpha": 0.3, "local-steps": 100}
RATES = (1, 10, 100)
"""Client learning rates, in units of 1/β."""
DECAYS = (1e-4, 1e-6)
"""λ/β of the proximal solver."""
SERVER_RATES = (0.1, 1.0)
"""``eta`` of the adaptive strategies."""
PROJECTION: dict[str, Value] = {"solver": "projection"}


def settings(strategy: str) -> Iterator[dict[str, Value]]:
    """Yield the grid of a strategy: keys of the configuration, a learning rate in units of 1/β."""
    if strategy in ("cutting-plane", "consensus", "modified-local-gd/projection"):
        yield PROJECTION
    elif strategy in ("modified-local-gd/proximal", "flower:FedProx"):
        for rate in RATES:
            for decay in DECAYS:
                yield {"solver": "proximal", "learning-rate": rate, "regularization": decay}
    elif strategy in ("flower:FedAdam", "flower:FedYogi", "flower:FedAdagrad"):
        for eta in SERVER_RATES:
            options: dict[str, Value] = {"strategy-options": f"eta={eta}"}
            yield options | PROJECTION
            for rate in RATES:
                yield options | {"solver": "gradient", "learning-rate": rate}
    else:
        yield PROJECTION
        for rate in RATES:
            yield {"solver": "gradient", "learning-rate": rate}


STRATEGIES = (
    "cutting-plane",
    "consensus",
    "modified-local-gd/projection",
    "modified-local-gd/proximal",
    "local-gd",
    "flower:FedAvg",
    "flower:FedAvgM",
    "flower:FedAdam",
    "flower:FedAdagrad",
    "flower:FedYogi",
    "flower:FedProx",
    "flower:FedMedian",
    "flower:FedTrimmedAvg",
    "flower:Krum",
    "flower:MultiKrum",
    "flower:Bulyan",
    "flower:QFedAvg",
)
FIXED: Mapping[str, str] = {"flower:MultiKrum": "num_nodes_to_select=3"}
"""Options where Flower's default makes a strategy another one: MultiKrum of one node is Krum."""


class Study:
    """The runs there are, in a file."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.cells: dict[str, Any] = json.loads(cache.read_text("utf-8")) if cache.exists() else {}

    def run(self, data: str, strategy: str, keys: Mapping[str, Value], rounds: int) -> dict[str, Any]:
        """Return what came of a run: from the file, or by running it and writing it there."""
        name = cell_name(data, strategy, keys, rounds)
        if name not in self.cells:
            self.cells[name] = self._measure(data, strategy, keys, rounds)
            self.cache.write_text(json.dumps(self.cells, indent=1, ensure_ascii=False) + "\n", "utf-8")
            print(name, self.cells[name], flush=True)
        found: dict[str, Any] = self.cells[name]
        return found

    def _measure(self, data: str, strategy: str, keys: Mapping[str, Value], rounds: int) -> dict[str, Any]:
        values: dict[str, Value] = {**COMMON, **DATA[data], "strategy": strategy.partition("/")[0], **keys}
        values.setdefault("strategy-options", FIXED.get(strategy, ""))
        values |= {"num-server-rounds": rounds, "stop-at-certified-angle": TARGETS[-1]}
        if "learning-rate" in keys:
            values["learning-rate"] = float(keys["learning-rate"]) / self._beta(data)
        with tempfile.TemporaryDirectory() as folder:
            config, path = Config.of(values), Path(folder) / "run"
            outcome = run_one(config, path, TARGETS[-1], lambda line: None)
            to = [outcome_of(config, path, target).to_target for target in TARGETS]
        return {
            "to": to,
            "rounds": outcome.rounds,
            "certified": outcome.certified_angle_deg,
            "true": outcome.true_angle_deg,
            "megabytes": outcome.megabytes,
            "failure": outcome.failure,
        }

    def _beta(self, data: str) -> float:
        name = f"{data}, beta"
        if name not in self.cells:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "run"
                config = Config.of({**COMMON, **DATA[data], "num-server-rounds": 1})
                run_one(config, path, TARGETS[-1], lambda line: None)
                self.cells[name] = json.loads((path / "handshake.json").read_text("utf-8"))["beta"]
        beta: float = self.cells[name]
        return beta


def cell_name(data: str, strategy: str, keys: Mapping[str, Value], rounds: int) -> str:
    """Name a run in the file."""
    return f"{data}, {strategy.partition('/')[0]}, {describe(keys)}, {rounds} rounds"


def describe(keys: Mapping[str, Value]) -> str:
    """Say a setting of the grid in words."""
    solver = str(keys["solver"])
    rate = f" η={keys['learning-rate']}/β" if "learning-rate" in keys else ""
    decay = f" λ={keys['regularization']:g}β" if "regularization" in keys else ""
    options = f" {keys['strategy-options']}" if "strategy-options" in keys else ""
    return solver + rate + decay + options


def rank(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    """Order runs: fewer rounds to the hardest target that is reached, then the angles at the end."""
    reached = [cell["to"][k] if cell["to"][k] is not None else float("inf") for k in (2, 1, 0)]
    angles = [cell[key] if cell[key] is not None else float("inf") for key in ("certified", "true")]
    return (bool(cell["failure"]), *reached, *angles)


def finalists(study: Study, data: str, strategy: str, screen: int) -> list[dict[str, Value]]:
    """Return the two settings of a grid that run for all rounds, the nearest after a screening first.

    One for each solver where there are two, because projections are near at once and may stall where
    gradient steps go on.
    """
    grid = list(settings(strategy))
    if len(grid) == 1:
        return grid
    first, *others = sorted(grid, key=lambda keys: rank(study.run(data, strategy, keys, screen)))
    return [first, next((keys for keys in others if keys["solver"] != first["solver"]), others[0])]


def table(study: Study, data: str, strategies: tuple[str, ...], rounds: int) -> Iterator[str]:
    """Yield the lines of a data set's table, in Markdown, from the runs there are."""
    yield f"| {data}: strategy | with | 10° | 1° | 0.1° | certified at the end | true at the end | MB sent |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for strategy in strategies:
        runs = [
            (keys, study.cells[name])
            for keys in settings(strategy)
            if (name := cell_name(data, strategy, keys, rounds)) in study.cells
        ]
        if not runs:
            yield f"| {strategy} | not run yet | | | | | | |"
            continue
        keys, cell = min(runs, key=lambda run: rank(run[1]))
        if cell["failure"]:
            yield f"| {strategy} | {describe(keys)} | {cell['failure']} | | | | | |"
            continue
        to = " | ".join(f"not within {cell['rounds']}" if n is None else str(n) for n in cell["to"])
        angles = f"{cell['certified']:.3g}° | {cell['true']:.3g}°"
        yield f"| {strategy} | {describe(keys)} | {to} | {angles} | {cell['megabytes']:.2f} |"


def main() -> None:
    """Run the study, or what is left of it, and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5000)
    parser.add_argument("--screen", type=int, default=1000, help="rounds of every setting of a grid")
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--only", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--cache", type=Path, default=CACHE, help="what has been run")
    parser.add_argument("--so-far", action="store_true", help="only print what has been run")
    given = parser.parse_args()
    study, strategies = Study(given.cache), tuple(given.only)
    # what is likely to be the best comes first, should the study be stopped
    for place in () if given.so_far else (slice(0, 1), slice(1, None)):
        for data, strategy in itertools.product(given.data, strategies):
            for keys in finalists(study, data, strategy, given.screen)[place]:
                study.run(data, strategy, keys, given.rounds)
    lines = [line for data in given.data for line in (*table(study, data, strategies, given.rounds), "")]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
