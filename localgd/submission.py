"""Runs on Flower's engines: the project's app handed to a SuperLink, watched until it has finished."""

import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from common import config as configuration
from common import virtual
from common.config import Config
from common.errors import RunError, UserError
from localgd.processes import CONNECTION, FlowerProcesses, flower_environment
from server.results import fresh

PACKAGES = ("server", "client", "strategies", "common")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
COMMAND_SECONDS = 60.0
"""How long one `flwr` command may take."""
PATIENCE = 120.0
"""How long, in seconds, a SuperLink may be lost while a run is watched."""


def submit(
    config: Config,
    connection: str,
    timeout: float,
    say: Callable[[str], None],
    federation: str = "",
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run the app on a SuperLink and wait until the run has finished.

    Parameters
    ----------
    connection
        Its name in the configuration of the `flwr` command.
    timeout
        Seconds; a run that takes longer is stopped.
    say
        Called with each line of the run's log, as it comes.
    federation
        What `flwr run --federation-config` takes: a simulation's size.
    environment
        Of the `flwr` commands; else this process's.

    Raises
    ------
    RunError
        Unless the run has completed in time; says why.
    """
    flwr = Flwr(environment or flower_environment(), connection)
    deadline = time.monotonic() + timeout
    with tempfile.TemporaryDirectory(prefix="localgd-") as directory:
        app, run_config = Path(directory, "localgd"), Path(directory, "run-config.toml")
        write_app(app)
        run_config.write_text(tomli_w.dumps(config.values()), encoding="utf-8")
        extra = ["--federation-config", federation] if federation else []
        started = flwr.json("run", [str(app)], ["--run-config", str(run_config), *extra])
    run_id = str(started["run-id"])
    say(f"run {run_id} on '{connection}'")
    last = ""

    def follow(line: str) -> None:
        nonlocal last
        last = line if "ERROR" in line and "Exit Code" not in line else last
        say(line)

    try:
        status, details = flwr.watch(run_id, follow, deadline)
    except BaseException:  # an interrupt, a timeout: nobody would wait for the run any more
        flwr.stop(run_id)
        raise
    if not status.startswith("finished"):
        flwr.stop(run_id)
        raise RunError(
            f"run {run_id} was stopped: not finished within --timeout = {timeout:g} s, but {status}"
        )
    if status != "finished:completed":
        reason = (
            details.partition("failed with exception: ")[2] or details or last or "its log does not say why"
        )
        raise RunError(f"run {run_id} {status.partition(':')[2]}: {reason}")


def simulate(config: Config, timeout: float, say: Callable[[str], None]) -> None:
    """Run the app in Flower's simulation, one virtual node per client, and leave nothing running.

    Raises
    ------
    UserError
        When the simulation's packages are not installed.
    RunError
        Unless the run has completed in time; says why.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError("simulation needs ray, which is not installed: pip install 'localgd[simulation]'")
    federation = f"num-supernodes={virtual.count(config)} client-resources-num-cpus=1"
    config = _absolute(config)
    with FlowerProcesses() as processes:
        processes.superlink(simulation=True)
        submit(config, CONNECTION, timeout, say, federation, processes.environment)


def write_app(directory: Path) -> None:
    """Write the app that Flower ships to every node: the four packages as they are installed here."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        for source in package.rglob("*.py"):
            copy = directory / name / source.relative_to(package)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    app: dict[str, Any] = {"publisher": "localgd"}
    app["components"] = {"serverapp": "server.app:app", "clientapp": "client.app:app"}
    app["config"] = configuration.defaults()
    project = {
        "name": "localgd",
        "version": importlib.metadata.version("localgd"),
        "description": "Federated training of linear classifiers with local gradient descent",
        "license": "Apache-2.0",
        "dependencies": [],  # installed where it runs, like Flower itself
    }
    (directory / "pyproject.toml").write_text(
        tomli_w.dumps({"project": project, "tool": {"flwr": {"app": app}}}), encoding="utf-8"
    )


def _absolute(config: Config) -> Config:
    """Let the files of a configuration be the same from every directory; without `out` choose one here."""
    names = ("data_dir", "test", "init", "reference", "out", "resume")
    paths = {key: str(getattr(config, key)) for key in names}
    if not config.resume:
        paths["out"] = paths["out"] or str(fresh(Path("runs"), config.strategy))
    files = {key: path for key, path in paths.items() if path not in ("", "auto", "none")}
    absolute: dict[str, Any] = {key: str(Path(path).absolute()) for key, path in files.items()}
    return dataclasses.replace(config, **absolute)


class Flwr:
    """The command `flwr` with one connection."""

    def __init__(self, environment: Mapping[str, str], connection: str) -> None:
        self._environment = dict(environment)
        self._connection = connection

    def json(self, command: str, before: Sequence[str] = (), after: Sequence[str] = ()) -> dict[str, Any]:
        """Run a command that answers in JSON.

        Raises
        ------
        RunError
            When it fails or does not answer in time; quotes what it said.
        """
        arguments = ["flwr", command, *before, self._connection, *after, "--format", "json"]
        try:
            done = subprocess.run(
                arguments,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise UserError("the command flwr is not installed beside localgd") from None
        except subprocess.TimeoutExpired:
            raise RunError(f"'flwr {command}' did not answer within {COMMAND_SECONDS:g} s") from None
        said = done.stdout[max(done.stdout.find("{"), 0) :]
        try:
            answer = json.loads(said)
        except ValueError:
            answer = {}
        if not isinstance(answer, dict) or not answer.get("success"):
            told = answer.get("error-message") or f"{said} {done.stderr}"
            raise RunError(f"'flwr {command}' on '{self._connection}' failed: {' '.join(str(told).split())}")
        return answer

    def follow_log(self, run_id: str, say: Callable[[str], None], deadline: float) -> None:
        """Hand on each line of a run's log until the run has finished, or the deadline."""
        command = ["flwr", "log", run_id, self._connection, "--stream"]
        with subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            watch = threading.Timer(max(deadline - time.monotonic(), 0), process.kill)
            watch.start()
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    say(_COLOURS.sub("", line.rstrip()))
            finally:
                watch.cancel()
                process.kill()

    def watch(self, run_id: str, say: Callable[[str], None], deadline: float) -> tuple[str, str]:
        """Hand on the log; return status and details once the run has finished, or at the deadline.

        A SuperLink that is lost, as when it is started again, is looked for; its log is then told from the
        beginning, of which only what is new is handed on.

        Raises
        ------
        RunError
            When it has been lost for longer than `PATIENCE`.
        """
        said, lost = Counter[str](), math.inf  # lines, and since when it is lost
        while True:
            told = Counter[str]()

            def fresh(line: str, told: Counter[str] = told) -> None:
                told[line] += 1
                if told[line] > said[line]:
                    said[line] += 1
                    say(line)

            self.follow_log(run_id, fresh, deadline)
            try:
                [run] = self.json("ls", (), ["--run-id", run_id])["runs"]
            except RunError:
                lost = min(lost, time.monotonic())
                if time.monotonic() > min(lost + PATIENCE, deadline):
                    raise
            else:
                lost = math.inf
                if str(run["status"]).startswith("finished") or time.monotonic() > deadline:
                    return str(run["status"]), str(run.get("status-details") or "")
            time.sleep(1)

    def stop(self, run_id: str) -> None:
        """Stop a run; one that has finished or cannot be reached is left as it is."""
        try:
            self.json("stop", [run_id])
        except RunError:
            return
