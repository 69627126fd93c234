"""Run directories made up for tests: rows that are known, and names that must be escaped."""

import json
from pathlib import Path
from typing import Any

import tomli_w

from common.config import Config

EVIL = '<img src=x onerror=alert(1)>&"'


def row(number: int, **other: Any) -> dict[str, Any]:
    return {
        "round": number, "loss": 0.5 / number, "errors": 0, "margin": 0.1 - 0.05 / number,
        "margin_bound": 0.1 + 0.05 / number, "certified_angle_deg": 60.0 / number,
        "true_angle_deg": 20.0 / number, "reference_distance": None, "test_accuracy": 0.875,
        "weight_norm": 1.0, "active": {"least": 1, "most": 2},
        "turn_deg": None if number == 1 else 1.0 / number, "drift_deg": 5.0 / number,
        "client_drift_deg": {"a": 4.0 / number, EVIL: 6.0 / number}, "clients": 2, "missing": [],
        "seconds": {"total": 0.02, "clients": 0.015, "combine": 0.001},
        "bytes": {"sent": 4000, "received": 4000},
    } | other  # fmt: skip


def write(
    path: Path, rows: list[dict[str, Any]], stopped_by: str = "rounds", error: str = "", **keys: Any
) -> Path:
    """Write a run directory; without ``stopped_by`` one whose run has not ended."""
    path.mkdir()
    config = Config.of({key.replace("_", "-"): value for key, value in keys.items()})
    (path / "config.toml").write_text(tomli_w.dumps(config.values()), encoding="utf-8")
    clients = [
        {"name": name, "count": 7, "fingerprint": "f00d", "max_norm": 1.0, "beta": 0.25}
        for name in ("a", EVIL)
    ]
    handshake = {
        "clients": clients, "classes": [EVIL, "well"], "dimension": 3, "intercept": True, "loss": config.loss,
        "norm": 2.0, "beta": 0.25, "learning_rate": 0.04, "regularization": 0.0,
    }  # fmt: skip
    (path / "handshake.json").write_text(json.dumps(handshake), encoding="utf-8")
    (path / "rounds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if stopped_by:
        best = min(rows, key=lambda row: row["certified_angle_deg"] or 180.0, default=None)
        summary = {
            "stopped_by": stopped_by,
            "best_round": best["round"] if best else None,
            "refused": {EVIL: 5},
            "seconds": 1.5,
            "versions": {"localgd": "1.2.3"},
        }
        (path / "summary.json").write_text(json.dumps(summary | ({"error": error} if error else {})))
    return path
