"""What the tests of Flower's two engines share: runs, their results, and that nothing is left of them."""

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from common.config import Config, Value
from localgd import submission
from localgd.federations import run_in_process
from localgd.processes import FlowerProcesses, marked


def plain_environment(environment: Mapping[str, str] = os.environ, **more: str) -> dict[str, str]:
    """Return an environment in which processes are not measured.

    Coverage drops from `sys.modules` what other threads import while it looks for the measured packages,
    and Flower's processes import the app in threads.
    """
    return {key: value for key, value in environment.items() if not key.startswith("COVERAGE_")} | more


def localgd(
    *arguments: object, env: dict[str, str], timeout: float = 160
) -> subprocess.CompletedProcess[str]:
    """Run the command; it has to end in time."""
    return subprocess.run(
        [sys.executable, "-m", "localgd", *map(str, arguments)],
        env=plain_environment(env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def set_keys(**values: Value) -> list[str]:
    """Return the ``-c`` options of these keys."""
    pairs = {key.replace("_", "-"): value for key, value in values.items()}
    texts = [
        f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in pairs.items()
    ]
    return [word for text in texts for word in ("-c", text)]


def rows(directory: Path) -> list[dict]:
    """Return the rounds of a run."""
    return [json.loads(line) for line in (directory / "rounds.jsonl").read_text().splitlines()]


def weights(directory: Path) -> np.ndarray:
    """Return the last model of a run, its intercept at the end."""
    with np.load(directory / "model.npz") as model:
        return np.append(model["weights"], model["intercept"])


def assert_same_weights(directory: Path, config: Config) -> None:
    """Run the same federation in this process and compare the models."""
    run_in_process(config)
    ours = weights(Path(config.out))
    assert np.linalg.norm(weights(directory) - ours) <= 1e-9 * np.linalg.norm(ours)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other test worker runs Flower's processes: together they are too much for two cores."""
    with open(Path(tempfile.gettempdir()) / f"localgd-tests-{os.getuid()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def flower_processes() -> Iterator[FlowerProcesses]:
    """Start Flower processes, and check at the end that neither they nor their ports are left."""
    with FlowerProcesses() as processes:
        processes.environment = plain_environment(processes.environment)
        yield processes
    if os.path.isdir("/proc/self"):
        assert not marked(f"RAY_TMPDIR={processes.home}")
    assert not processes.home.exists()
    for port in processes.ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def break_client(monkeypatch, name: str) -> None:
    """Let the app that is submitted from now on have a bug that shows on one client, in a round."""
    write = submission.write_app

    def write_broken(directory: Path) -> None:
        write(directory)
        app = directory / "client" / "app.py"
        text = app.read_text(encoding="utf-8")
        good = "    return answer(message, context, solving=True)\n"
        assert good in text
        bug = f"    if source(context).name == {name!r}:\n        raise ValueError('no luck')\n"
        app.write_text(text.replace(good, bug + good), encoding="utf-8")

    monkeypatch.setattr(submission, "write_app", write_broken)
