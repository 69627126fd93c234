"""The study examples/paper/rounds_to_target.py: small, then taken up again from what it has kept."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

SCRIPT = ROOT / "examples" / "paper" / "rounds_to_target.py"


def study(cache: Path, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--data", "tissue", "--screen", "2", "--cache", cache, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "FLWR_TELEMETRY_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_small_study_and_its_resumption(tmp_path: Path) -> None:
    cache, few = tmp_path / "kept.json", ("--rounds", "12", "--only", "cutting-plane", "flower:FedMedian")
    first = study(cache, *few)
    cells = json.loads(cache.read_text(encoding="utf-8"))
    [exact] = [cell for name, cell in cells.items() if "cutting-plane" in name]
    assert exact["rounds"] == exact["to"][2] <= 8
    assert exact["true"] < exact["certified"] <= 0.1
    screened = [name for name in cells if "FedMedian" in name and "2 rounds" in name and "12" not in name]
    whole = [name for name in cells if "FedMedian" in name and "12 rounds" in name]
    assert (len(screened), len(whole)) == (4, 2)  # the grid, and the best of it with each solver
    for name in whole:
        same = [other for other in screened if other.split()[2] == name.split()[2]]
        nearest = min(same, key=lambda other: (cells[other]["certified"], cells[other]["true"]))
        assert name.removesuffix("12 rounds") == nearest.removesuffix("2 rounds")
    table = [line for line in first if line.startswith("|")]
    assert (
        f"| cutting-plane | projection | {exact['to'][0]} | {exact['to'][1]} | {exact['to'][2]} |" in table[2]
    )
    assert table[3].count("not within 12") == 3
    assert study(cache, *few) == [*table, ""], "nothing is run again"
