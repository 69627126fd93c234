"""Make the runs of a study that have not been made, several at a time."""

import json
import logging
import multiprocessing
import os
import platform
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path

from examples.paper.measure import measure
from examples.paper.runs import RESULTS, Keys, Run, name_of, planned, read, write


def conduct(study: str, workers: int, fresh: bool = False, results: Path = RESULTS) -> int:
    """Make what is missing of a study; return how many runs that was.

    Every run is in the results file as soon as it is made, so that a study can be stopped and taken up
    again; in the end the file holds the study's runs and no others, in its order.
    """
    path, keys = results / f"{study}.jsonl", planned(study)
    found: dict[str, Run] = {}
    for known in (
        () if fresh else (*sorted(results.glob("*.jsonl")), path)
    ):  # studies share some of their runs
        found |= read(known)
    wanted = set(map(name_of, keys))
    missing = [one for one in keys if name_of(one) not in found]
    for number, run in enumerate(_made(missing, workers), start=1):
        found[name_of(run.keys)] = run
        write(path, (run for name, run in found.items() if name in wanted))
        print(f"{study} {number}/{len(missing)}: {said(run)}", flush=True)
    write(path, (found[name_of(one)] for one in keys))
    if missing:
        (results / "machine.json").write_text(json.dumps(machine(), indent=1) + "\n", encoding="utf-8")
    return len(missing)


def machine() -> dict[str, str]:
    """Say what the runs were made on, and with."""
    model = platform.processor()
    if (known := Path("/proc/cpuinfo")).exists():
        named = re.search(r"model name\s*: (.*)", known.read_text())
        model = named[1] if named else model
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "flwr"))
    return {
        "machine": f"{os.cpu_count()} cores of {model} with {platform.system()}",
        "software": f"Python {platform.python_version()}, {packages}",
    }


def said(run: Run) -> str:
    """Say in one line what a run was and how long it took."""
    keys = " ".join(f"{name}={value}" for name, value in run.keys.items())
    failure = f", {run.facts['failure']}" if run.facts.get("failure") else ""
    return f"{keys}: {run.facts['seconds']} s{failure}"


def _made(missing: Sequence[Keys], workers: int) -> Iterator[Run]:
    if workers == 1 or len(missing) < 2:
        yield from map(measure, missing)
        return
    spawn = multiprocessing.get_context("spawn")  # Flower starts threads, which a fork would not bring along
    with ProcessPoolExecutor(workers, spawn, logging.disable, (logging.WARNING,)) as pool:
        for done in as_completed([pool.submit(measure, keys) for keys in missing]):
            yield done.result()
