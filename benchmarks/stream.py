"""A round over the gRPC stream, mutual TLS and a process per client, against a bare echo of its bytes."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.echo import EchoServer
from benchmarks.federations import Rounds, client_files
from benchmarks.table import Row
from benchmarks.timing import in_turns, text
from common.solution import SolverSettings
from localgd.pki import write
from localgd.tls import server_credentials
from server.grids.stream import StreamGrid

CLIENTS, COUNT = 4, 4
NAMES = [f"client-{k:04}" for k in range(CLIENTS)]
ROOT = Path(__file__).parents[1]


def rows(quick: bool) -> Iterator[Row]:
    """Compare at both sizes of a model."""
    for dimension, rounds, repeats in [(50, 3, 3)] if quick else [(1000, 100, 9), (1_000_000, 10, 5)]:
        yield against_echo(dimension, rounds, repeats)


def against_echo(dimension: int, rounds: int, repeats: int) -> Row:
    """Have the processes of both there at the same time, and time rounds of the one and the other in turns.

    Our time is that of a whole run, whose closing evaluation is one more message to each client.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        ours = stack.enter_context(served(directory, dimension))
        echo = stack.enter_context(EchoServer(directory / "tls", CLIENTS))
        for who in NAMES:
            echoing = "benchmarks.echo", f"127.0.0.1:{echo.port}", directory / "tls", who
            stack.enter_context(process("-m", *echoing))
        echo.wait()
        ours(2)
        costs = ours.costs[-1]
        frame = bytes(max(costs.sent, costs.received) // CLIENTS)
        taken, bare = in_turns(
            lambda: ours(rounds),
            lambda: echo.rounds(frame, rounds),
            repeats=repeats,
        )
        echo.close()
    return Row(
        f"gRPC stream round, mutual TLS, {CLIENTS} processes, d = {dimension}",
        f"a bare grpcio echo of the same {len(frame)} bytes by as many processes",
        f"{text(taken.median / rounds)} against {text(bare.median / rounds)}",
        taken.median / bare.median,
        2.0,
        at_most=True,
        limit=f"{taken.least / bare.least:.2f} × by the smallest times",
    )


@contextlib.contextmanager
def served(directory: Path, dimension: int) -> Iterator[Rounds]:
    """Serve rounds over mutual TLS to a process for each client; the certificates are in ``tls``."""
    nodes, tls = client_files(directory / "data", CLIENTS, COUNT, dimension), directory / "tls"
    write(tls, ["127.0.0.1"], NAMES)
    with contextlib.ExitStack() as stack:
        grid = stack.enter_context(StreamGrid("127.0.0.1:0", credentials=server_credentials(tls)))
        for node, who in zip(nodes, NAMES, strict=True):
            join = ["localgd", "join", grid.address, "--data", node["data"], "--tls", tls, "--name", who]
            stack.enter_context(process("-m", *join))
        grid.wait_for_clients(CLIENTS, CLIENTS, 60.0)
        try:
            yield Rounds(grid, SolverSettings(local_steps=1))
        finally:
            grid.close()  # so the clients end, and are then waited for


@contextlib.contextmanager
def process(*arguments: object, output: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """Run this Python with arguments; it ends by itself in a few seconds, or is killed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, *map(str, arguments)], env=environment, stdout=output, cwd=ROOT
    ) as started:
        try:
            yield started
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(5.0)
        finally:
            started.kill()
