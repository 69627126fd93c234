"""Measure every row of the table and write the results: ``python -m benchmarks``, or ``make bench``."""

import argparse
import importlib
import logging
import os
from dataclasses import replace
from pathlib import Path

MODULES = ("local_steps", "projection", "in_process", "simulation", "stream", "superlink", "memory", "growth")
RESULTS = Path(__file__).parent / "results.md"


def main() -> int:
    """Run the modules in order, print each row as it is known, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that it runs; no targets")
    parser.add_argument("--only", nargs="+", choices=MODULES, default=MODULES, help="these modules only")
    parser.add_argument("--out", type=Path, help=f"the page to write; {RESULTS.name} unless it is partial")
    given = parser.parse_args()
    # As the `localgd` command has it, and before numpy is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    logging.disable(logging.WARNING)  # a log line for every round of Flower's would be timed with it
    from benchmarks.table import Row, page

    rows: list[Row] = []
    left_out: list[str] = []
    load = [_load()]
    for module in MODULES:
        if module not in given.only:
            left_out.append(f"`{module}`")
            continue
        try:
            for row in importlib.import_module(f"benchmarks.{module}").rows(given.quick):
                rows.append(replace(row, target=None) if given.quick else row)
                print(" | ".join(rows[-1].cells()), flush=True)
        except ModuleNotFoundError as missing:
            left_out.append(f"`{module}` ({missing})")
        load.append(_load())
    partial = [] if given.only == MODULES else ["--only", *given.only]
    command = ["python -m benchmarks", *["--quick"] * given.quick, *partial]
    text = page(rows, left_out, " ".join(command), ", ".join(load))
    out = given.out or (None if given.quick or given.only != MODULES else RESULTS)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    return 0 if all(row.reached is not False for row in rows) else 1


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
