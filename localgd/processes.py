"""Flower's own processes on this machine: a SuperLink or its simulation, SuperNodes, and their end."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

import tomli_w

from common.errors import RunError

CONNECTION = "localgd"
"""The name of the connection to the SuperLink that `FlowerProcesses` starts."""

START_SECONDS, STOP_SECONDS = 60.0, 10.0
QUIET_SECONDS = 0.7  # a process that is just being started shows no environment: look for it this long


def flower_environment() -> dict[str, str]:
    """Return this process's environment, in which Flower neither phones home nor installs packages."""
    scripts = sysconfig.get_path("scripts")
    return os.environ | {
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future default; saves its warning
        # Despite its name it decides on Linux too: without clusters Ray takes 127.0.0.1 for its address.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


class FlowerProcesses:
    """Flower processes on 127.0.0.1 and free ports, unencrypted.  Use it in a `with` statement.

    They share a temporary home, which goes with them; nothing touches the user's own Flower home.  At the
    end they and all they have started are stopped: a simulation's Ray workers too, whatever became of it.

    Attributes
    ----------
    home
        The temporary directory: connection, installed apps, logs.
    environment
        What a `flwr` command needs to reach the SuperLink as `CONNECTION`.
    ports
        What the SuperLink and the SuperNodes listen on.
    """

    def __init__(self) -> None:
        # Ray puts sockets below it, and a socket's path has to be short.
        self.home = Path(tempfile.mkdtemp(prefix="localgd-", dir="/tmp" if os.path.isdir("/tmp") else None))
        self.environment = flower_environment() | {
            "FLWR_HOME": str(self.home),
            "RAY_TMPDIR": str(self.home),
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._fleet = ""
        self.ports: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def superlink(self, simulation: bool = False) -> None:
        """Start a SuperLink, or one that simulates its SuperNodes, and wait until it answers.

        Raises
        ------
        RunError
            When it does not come up; quotes its log.
        """
        control, runtime, fleet = free_ports(3)
        self._fleet = f"127.0.0.1:{fleet}"
        addresses = ["--host", "127.0.0.1", "--port", str(runtime)]
        if control_api_is_separate():
            addresses += ["--control-api-address", f"127.0.0.1:{control}"]
        else:
            control = runtime
        self.ports += [*{control, runtime}, *([] if simulation else [fleet])]
        connection = {"address": f"127.0.0.1:{control}", "insecure": True}
        (self.home / "config.toml").write_text(
            tomli_w.dumps({"superlink": {"default": CONNECTION, CONNECTION: connection}}), encoding="utf-8"
        )
        kind = ["--simulation"] if simulation else ["--fleet-api-address", self._fleet]
        command = ["flower-superlink", "--insecure", *kind, *addresses]
        # Ray's workers look for packages in the directory they start in first, and may find strangers.
        self._start("superlink", command, self.environment, self.home if simulation else None)
        for port in self.ports:
            self._wait_for_port("superlink", port)

    def supernode(self, name: str, node_config: Mapping[str, str | int]) -> subprocess.Popen[bytes]:
        """Start a SuperNode of the SuperLink, with this node config; its log is under ``name``."""
        [port] = free_ports(1)
        self.ports.append(port)
        values = " ".join(
            f"{key}={value}" if isinstance(value, int) else f'{key}="{value}"'
            for key, value in node_config.items()
        )
        command = ["flower-supernode", "--insecure", "--superlink", self._fleet, "--node-config", values]
        home = self.home / name  # its own: two nodes that install the same app at once must not meet
        home.mkdir()
        environment = self.environment | {"FLWR_HOME": str(home)}
        self._start(name, [*command, "--host", "127.0.0.1", "--port", str(port)], environment)
        return self._processes[name]

    def log(self, name: str) -> str:
        """Return what a process has said so far."""
        return (self.home / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Stop the processes and everything that they have started, and remove their home."""
        asked: set[int] = set()
        seen = time.monotonic()  # when something of ours was last there
        deadline = seen + STOP_SECONDS
        while time.monotonic() < min(seen + QUIET_SECONDS, deadline + STOP_SECONDS):
            if left := self._alive():
                seen = time.monotonic()
                strongest = signal.SIGKILL if seen > deadline else signal.SIGTERM
                for pid in left if strongest == signal.SIGKILL else left - asked:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, strongest)
                asked |= left
            time.sleep(0.1)
        shutil.rmtree(self.home, ignore_errors=True)

    def _start(
        self, name: str, command: list[str], environment: dict[str, str], directory: Path | None = None
    ) -> None:
        with (self.home / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command,
                env=environment,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt from the keyboard is ours to answer
            )

    def _wait_for_port(self, name: str, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            ended = self._processes[name].poll() is not None
            if ended or time.monotonic() > deadline:
                how = "ended" if ended else f"did not answer within {START_SECONDS:g} s"
                last = " ".join(self.log(name).split()[-60:])
                raise RunError(f"Flower's {name} {how}; its log ends: {last}")
            time.sleep(0.1)

    def _alive(self) -> set[int]:
        """Return the processes that are still there: the ones started here, and theirs."""
        for process in self._processes.values():
            process.poll()
        started = {p.pid for p in self._processes.values() if p.returncode is None}
        return started | marked(f"RAY_TMPDIR={self.home}")


def control_api_is_separate() -> bool:
    """Tell whether Flower's Control API has a gRPC port of its own; from 1.37 it shares the HTTP one."""
    major, minor, *_ = version("flwr").split(".")
    return (int(major), int(minor)) < (1, 37)


def free_ports(count: int) -> list[int]:
    """Return that many different ports of 127.0.0.1 that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def marked(mark: str) -> set[int]:
    """Return the processes that have this entry in their environment, and all others of their sessions.

    A process that writes itself a title, as Ray's workers do, may lose its environment, not its session.
    Where there is no ``/proc`` nothing can be told and nothing is returned.
    """
    sessions: dict[int, int] = {}
    ours = {os.getsid(0)}
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            # pid (name) state parent group session …; a name may hold spaces and parentheses
            state, _, _, session = (directory / "stat").read_text().rpartition(")")[2].split()[:4]
            entries = (directory / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if state not in "ZX":
            sessions[int(directory.name)] = int(session)
            if mark.encode() in entries:
                found.add(int(directory.name))
    theirs = {sessions[pid] for pid in found} - ours
    return (found | {pid for pid, session in sessions.items() if session in theirs}) - {os.getpid()}
