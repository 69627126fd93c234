"""Real processes for tests: each in a process group of its own, with a time limit, ended whatever happens."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]
LIMIT = 60.0  # seconds that one process may take on a slow, shared machine; what is expected takes far less


@dataclass(frozen=True)
class Finished:
    """How a command ended: its exit code and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line on stdout."""
        return self.stdout.rstrip("\n").rpartition("\n")[2]


class Process:
    """A running process and what it has written so far."""

    def __init__(self, popen: subprocess.Popen[bytes], stdout: Path, stderr: Path) -> None:
        self._popen, self._stdout, self._stderr = popen, stdout, stderr

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._popen.poll() is None

    def stdout(self) -> str:
        """What it has written to stdout so far."""
        return self._stdout.read_text(encoding="utf-8")

    def stderr(self) -> str:
        """What it has written to stderr so far."""
        return self._stderr.read_text(encoding="utf-8")

    def wait_for(self, pattern: str, limit: float = LIMIT) -> str:
        """Wait until stdout holds a regular expression and return what it matched."""
        deadline = time.monotonic() + limit
        while not (found := re.search(pattern, self.stdout())):
            ended = self._popen.poll() is not None
            if (ended and not re.search(pattern, self.stdout())) or time.monotonic() > deadline:
                raise AssertionError(
                    f"waited in vain for {pattern!r} in\n{self.stdout()}\nstderr:\n{self.stderr()}"
                )
            time.sleep(0.005)
        return found.group()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, not to its group."""
        self._popen.send_signal(number)

    def wait(self, limit: float = LIMIT) -> Finished:
        """Wait for the end; one that does not come is a failed test that shows what was written."""
        try:
            code = self._popen.wait(limit)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(
                f"{self._popen.args!r} still ran after {limit:g} s\n{self.stdout()}\nstderr:\n{self.stderr()}"
            ) from None
        return Finished(code, self.stdout(), self.stderr())

    def end(self) -> None:
        """Kill its whole group."""
        with contextlib.suppress(ProcessLookupError):  # all gone
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait(LIMIT)


class Processes:
    """Starts processes that write to files in a folder, and kills at the end what still runs.

    Use it in a ``with`` statement.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            process.end()

    def localgd(
        self,
        *arguments: object,
        before: str = "",
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Start the command.

        Parameters
        ----------
        before
            Python code that the process runs first: to make it another version, or to look into it.
        cwd, environment
            Where it runs, and what is added to its environment.
        """
        code = ["-c", f"{before}\nimport runpy; runpy.run_module('localgd')"] if before else ["-m", "localgd"]
        return self.start(sys.executable, *code, *arguments, cwd=cwd, environment=environment)

    def start(
        self, *command: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start any command."""
        stem = self.folder / f"process-{len(self.started)}"
        stdout, stderr = stem.with_suffix(".out"), stem.with_suffix(".err")
        defaults = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        with stdout.open("wb") as out, stderr.open("wb") as err, _interruptible():
            popen = subprocess.Popen(
                list(map(str, command)),
                cwd=cwd or self.folder,
                env={**os.environ, **defaults, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.started.append(Process(popen, stdout, stderr))
        return self.started[-1]


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let what is started react to SIGINT, which a background job of a shell ignores and passes on."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
