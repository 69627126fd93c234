"""One run of a study: in this process, through the project's own app."""

import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.paper.configure import configuration
from examples.paper.procedures import PROCEDURES
from examples.paper.runs import Keys, Run, sampled
from localgd.compare import run_one

TARGETS = (10.0, 1.0, 0.1)
"""Degrees that a model is certified to be within: the rounds and bytes to each are among a run's facts."""

COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "loss": lambda row: row["loss"],
    "true": lambda row: row["true_angle_deg"],
    "certified": lambda row: row["certified_angle_deg"],
    "drift": lambda row: row["drift_deg"],
    "errors": lambda row: row["errors"],
    "accuracy": lambda row: row.get("test_accuracy"),
    "r2": lambda row: row.get("test_r2"),
    "distance": lambda row: row["reference_distance"],
}


def measure(keys: Keys) -> Run:
    """Make a run; one that fails keeps the reason among its facts."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        how = PROCEDURES[str(keys["procedure"])] if "procedure" in keys else _federated
        curve, facts = how(keys, Path(folder))
        return Run(keys, _short(curve), {**_short(facts), "seconds": round(time.process_time() - began, 2)})


def _federated(keys: Keys, folder: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    outcome = run_one(configuration(keys, folder), folder / "run", TARGETS[-1], lambda line: None)
    log = folder / "run" / "rounds.jsonl"
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
    chosen = sampled(len(rows)) if rows else []
    curve: dict[str, list[Any]] = {"round": chosen}
    for column, read in COLUMNS.items():
        values = [read(rows[number - 1]) for number in chosen]
        if any(value is not None for value in values):
            curve[column] = values
    return curve, {**_to_targets(rows), "failure": outcome.failure}


def _to_targets(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the rounds, and the kilobytes that one client sent, until certified within each target."""
    sent, rounds, kilobytes = 0.0, [None] * len(TARGETS), [None] * len(TARGETS)
    for row in rows:
        sent += row["bytes"]["received"] / row["clients"]
        for k, target in enumerate(TARGETS):
            angle = row["certified_angle_deg"]
            if rounds[k] is None and angle is not None and angle <= target:
                rounds[k], kilobytes[k] = row["round"], sent / 1e3
    return {"to": rounds, "kilobytes": kilobytes, "sent": sent / 1e3, "rounds": len(rows)}


def _short(value: Any) -> Any:
    """Return numbers to five digits: what is committed need not be longer."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    return [_short(one) for one in value] if isinstance(value, list) else value
