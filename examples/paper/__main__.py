"""Run what has not been run, draw the figures and write the document: ``make reproduce``."""

import argparse
import logging
import os
import sys
import time
from pathlib import Path

# Before numpy is loaded, here and in the workers: a process for each core, and a thread for each process.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

from examples.paper import STUDIES, document
from examples.paper.conduct import conduct


def main() -> int:
    """Do the studies one after the other; what is known by then is in the results folder."""
    parser = argparse.ArgumentParser(prog="python -m examples.paper", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=STUDIES, help="these studies only")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="runs at the same time")
    parser.add_argument("--fresh", action="store_true", help="forget what these studies have run before")
    parser.add_argument("--page", type=Path, default=document.PAGE, help="the document to write")
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # a line for every round
    for study in given.only:
        began = time.monotonic()
        made = conduct(study, given.workers, given.fresh)
        document.publish(study)
        print(f"{study}: {made} runs made, {time.monotonic() - began:.0f} s", flush=True)
    try:
        document.total()
    except LookupError as missing:
        print(f"{given.page} is not written: {missing}", file=sys.stderr)
        return 1
    given.page.write_text(document.render(), encoding="utf-8")
    print(f"{given.page} is written")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
