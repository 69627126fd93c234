"""A round over the gRPC stream against a round of stock FedAvg over Flower's SuperLink and SuperNodes."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

import tomli_w

from benchmarks import fedavg_app
from benchmarks.stream import CLIENTS, served
from benchmarks.table import Row
from benchmarks.timing import text
from common.errors import RunError
from localgd.processes import CONNECTION, FlowerProcesses
from localgd.submission import Flwr

DIMENSION, ROUNDS = 1000, 4
OURS, REPEATS = 100, 5
"""Rounds of ours in a sample, and samples before and after those of the SuperLink."""

RUN_SECONDS = 600.0
"""How long the SuperLink's run may take."""


def rows(quick: bool) -> Iterator[Row]:
    """Time rounds of ours before and after, as the SuperLink takes all cores."""
    dimension, rounds, count, repeats = (50, 1, 3, 1) if quick else (DIMENSION, ROUNDS, OURS, REPEATS)
    ours: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with served(directory, dimension) as run:
            run(2)
            ours += [run.seconds(count) for _ in range(repeats)]
            theirs = superlink_rounds(directory / "app", dimension, rounds)
            ours += [run.seconds(count) for _ in range(repeats)]
    yield Row(
        f"gRPC stream round, mutual TLS, {CLIENTS} processes, d = {dimension}",
        f"a round of stock FedAvg over a SuperLink and {CLIENTS} SuperNodes, training and evaluation, its "
        "sleeps included, clients that do nothing",
        f"{text(median(ours))} against {text(median(theirs))}",
        median(theirs) / median(ours),
        1000.0,
        limit=f"their {rounds} rounds took {text(min(theirs))} to {text(max(theirs))}",
    )


def superlink_rounds(directory: Path, dimension: int, rounds: int) -> list[float]:
    """Return the seconds of each of so many rounds, training and evaluation, of stock FedAvg.

    Raises
    ------
    RunError
        Unless the run completes.
    """
    out = directory / "times.json"
    _write_app(directory, {"clients": CLIENTS, "dimension": dimension, "rounds": rounds, "out": str(out)})
    lines: list[str] = []
    with FlowerProcesses() as processes:
        processes.superlink()
        for k in range(CLIENTS):
            processes.supernode(f"client-{k}", {"partition-id": k})
        flwr = Flwr(processes.environment, CONNECTION)
        run_id = str(flwr.json("run", [str(directory)])["run-id"])
        status, details = flwr.watch(run_id, lines.append, time.monotonic() + RUN_SECONDS)
    if status != "finished:completed":
        raise RunError(f"stock FedAvg over a SuperLink: {status}: {details or lines[-5:]}")
    times = json.loads(out.read_text(encoding="utf-8"))
    return [after - before for before, after in pairwise(times)]


def _write_app(directory: Path, config: dict[str, str | int]) -> None:
    directory.mkdir()
    module = Path(fedavg_app.__file__)
    shutil.copyfile(module, directory / module.name)
    components = {f"{kind}app": f"{module.stem}:{kind}" for kind in ("server", "client")}
    project = {"name": "stock", "version": "1.0.0", "license": "Apache-2.0", "dependencies": []}
    app = {"publisher": "localgd", "components": components, "config": config}
    (directory / "pyproject.toml").write_text(
        tomli_w.dumps({"project": project, "tool": {"flwr": {"app": app}}}), encoding="utf-8"
    )
