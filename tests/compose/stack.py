"""`docker-compose.yml` in a folder of its own, with data and certificates of its own."""

import hashlib
import os
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from tests.compose.engine import Engine, run
from tests.processes import ROOT

CLIENTS = tuple(f"client-{k}" for k in range(4))


class Stack:
    """The services of the compose file under one project name.

    Parameters
    ----------
    folder
        An empty one; gets what ``make compose-data`` makes.
    tag
        Of the images.
    """

    def __init__(self, engine: Engine, folder: Path, tag: str) -> None:
        self.engine, self.folder = engine, folder
        self.project = f"localgd-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}-{os.getpid()}"
        self._environment = {**engine.environment, "LOCALGD_TAG": tag}
        self._files = ["docker-compose.yml"]
        shutil.copy(ROOT / "docker-compose.yml", folder)
        shutil.copytree(ROOT / "examples", folder / "examples")
        command = folder / "localgd"
        command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m localgd "$@"\n')
        command.chmod(0o755)
        run([str(ROOT / "docker" / "compose-data"), str(command)], os.environ, 120, cwd=folder)

    def override(self, text: str) -> None:
        """Put a second compose file over the first."""
        (self.folder / "override.yml").write_text(text, encoding="utf-8")
        self._files = ["docker-compose.yml", "override.yml"]

    def compose(
        self, *arguments: str, profile: str = "", limit: float = 120, check: bool = True
    ) -> tuple[int, str]:
        """Run a compose command; its exit code and what it wrote."""
        files = [word for file in self._files for word in ("-f", file)]
        profiles = ["--profile", profile] if profile else []
        command = [*self.engine.compose, "-p", self.project, *files, *profiles, *arguments]
        return run(command, self._environment, limit, check=check, cwd=self.folder)

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        profile = "" if service in ("server", *CLIENTS) else "superlink"
        found = self.compose("ps", "-a", "-q", service, profile=profile)[1].split()
        assert len(found) == 1, f"{service}: {found}"
        return found[0]

    def exit_code(self, service: str) -> int:
        """Wait for a service's end."""
        return int(self.engine.run("wait", self.container(service)))

    def log(self, service: str) -> str:
        """Return what a service has said so far."""
        return self.engine.run("logs", self.container(service))

    def wait_for(self, service: str, pattern: str, limit: float = 120) -> None:
        """Wait until a service has said it."""
        deadline = time.monotonic() + limit
        while not re.search(pattern, said := self.log(service)):
            if time.monotonic() > deadline:
                raise AssertionError(f"{service} did not say {pattern!r} within {limit:g} s but\n{said}")
            time.sleep(0.2)

    def wait_healthy(self, service: str, limit: float = 60) -> None:
        """Wait until the health check of a service's container says so."""
        deadline, container = time.monotonic() + limit, self.container(service)
        while (
            health := self.engine.run("inspect", "--format", "{{.State.Health.Status}}", container)
        ) != "healthy":
            assert time.monotonic() < deadline, f"{service} is {health} after {limit:g} s"
            time.sleep(0.5)

    def execute(self, service: str, script: str) -> str:
        """Run a shell script in the running container."""
        return self.engine.run("exec", self.container(service), "sh", "-c", script)

    def down(self) -> None:
        """Remove the project's containers, networks and volumes."""
        self.compose("down", "-v", "--remove-orphans", "--timeout", "5", profile="superlink")

    def results(self, solution: str) -> Path:
        """Return the one run directory of a strategy."""
        [found] = (self.folder / "compose" / "runs").glob(f"*-{solution}")
        return found

    def assert_weights_are_those_of_one_process(self, directory: Path, config: str, *keys: str) -> None:
        """Run the same federation with `localgd run` on the same shards and compare the models."""
        shards, out = self.folder / "shards", self.folder / f"near-{directory.name}"
        shards.mkdir(exist_ok=True)
        for name in CLIENTS:
            shutil.copy(self.folder / "compose" / name / "data.npz", shards / f"{name}.npz")
        values = ("dataset=file", f"data-dir={shards}", "clients=4", "reference=none", *keys)
        options = [word for value in values for word in ("-c", value)]
        command = [str(self.folder / "localgd"), "run", str(ROOT / "examples" / config)]
        run([*command, *options, "--out", str(out)], os.environ, 150, cwd=self.folder)
        far, near = weights(directory), weights(out)
        assert np.linalg.norm(far - near) <= 1e-9 * np.linalg.norm(near)
        assert rounds(directory) == rounds(out)


def weights(directory: Path) -> np.ndarray:
    """Return the last model of a run, its intercept at the end."""
    with np.load(directory / "model.npz") as model:
        return np.append(model["weights"], model["intercept"])


def rounds(directory: Path) -> int:
    """Return how many rounds a run has written."""
    return len((directory / "rounds.jsonl").read_text(encoding="utf-8").splitlines())
