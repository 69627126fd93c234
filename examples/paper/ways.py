"""One row of the tables again, over gRPC and in Flower's simulation: ``python -m examples.paper.ways``.

The same federation runs in this process, as `localgd serve` with a `localgd join` process for each client,
and as `localgd simulate`.  What is compared are all numbers of every round that all three know.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from common.config import Value
from examples.paper.runs import RESULTS
from localgd.processes import free_ports

KEYS: Mapping[str, Value] = {
    "dataset": "tissue",
    "clients": 6,
    "alpha": 0.3,
    "seed": 0,
    "test-fraction": 0.0,
    "strategy": "cutting-plane",
    "solver": "projection",
    "stop-at-certified-angle": 0.1,
    "num-server-rounds": 1000,
}
"""The first row of the study `beyond`."""

COMPARED = ("loss", "errors", "margin", "margin_bound", "certified_angle_deg", "weight_norm", "drift_deg")
PATIENCE = 300.0
"""Seconds that any one way may take."""


def main() -> int:
    """Run the three ways, compare them, and write ``results/ways.json``."""
    rows: dict[str, list[dict[str, Any]]] = {}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "config.toml"
        config.write_text(tomli_w.dumps(dict(KEYS)), encoding="utf-8")
        for way, run in WAYS.items():
            began = time.monotonic()
            run(config, folder / way)
            seconds[way] = round(time.monotonic() - began, 1)
            text = (folder / way / "rounds.jsonl").read_text("utf-8")
            rows[way] = [json.loads(line) for line in text.splitlines()]
            print(f"{way}: {len(rows[way])} rounds, {seconds[way]} s", flush=True)
    first, *others = rows.values()
    differences = [
        abs(ours[key] - theirs[key])
        for other in others
        for ours, theirs in zip(first, other, strict=True)
        for key in COMPARED
        if ours[key] is not None
    ]
    found = {
        "keys": dict(KEYS),
        "rounds": len(first),
        "certified": float(f"{first[-1]['certified_angle_deg']:.3g}"),
        "numbers": len(differences),
        "largest-difference": max(differences),
        "seconds": seconds,
    }
    (RESULTS / "ways.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{len(differences)} numbers compared, largest difference {max(differences):g}")
    return int(max(differences) != 0)


def in_process(config: Path, out: Path) -> None:
    """Run in one process."""
    _localgd("run", str(config), "--out", str(out))


def over_the_stream(config: Path, out: Path) -> None:
    """Serve on this machine, and join with a process for each client."""
    data = out.with_name("data")
    own = [f"--{key}={KEYS[key]}" for key in ("clients", "alpha", "seed", "test-fraction")]
    _localgd("shard", str(KEYS["dataset"]), *own, "--out", str(data))
    address, log = f"127.0.0.1:{free_ports(1)[0]}", out.with_name("server.log")
    started = []
    try:
        with log.open("wb") as stream:
            own = ["--address", address, "--insecure", "--out", str(out)]
            started.append(_start("serve", str(config), *own, stream=stream))
        for file in sorted(data.glob("client-*.npz")):
            started.append(_start("join", address, "--data", str(file), "--insecure"))
        for process in started:
            if process.wait(PATIENCE):
                raise RuntimeError(f"{process.args!r}: exit code {process.returncode}\n{log.read_text()}")
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def in_simulation(config: Path, out: Path) -> None:
    """Run in Flower's simulation, over Ray."""
    _localgd("simulate", str(config), "--out", str(out))


WAYS: Mapping[str, Callable[[Path, Path], None]] = {
    "in-process": in_process,
    "stream": over_the_stream,
    "simulation": in_simulation,
}


def _localgd(*arguments: str) -> None:
    command = [sys.executable, "-m", "localgd", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise RuntimeError(f"localgd {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")


def _start(*arguments: str, stream: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "localgd", *arguments]
    return subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)


if __name__ == "__main__":
    raise SystemExit(main())
