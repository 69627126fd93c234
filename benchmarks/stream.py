"""A round over the gRPC stream, mutual TLS and a process per client, against a bare echo of its bytes."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

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

    The echo's server is a process of its own: two of gRPC's servers in one process wake each other up. Our
    time is that of a whole run, whose closing evaluation is one more message to each client.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        ours = stack.enter_context(served(directory, dimension))
        echo = stack.enter_context(echoed(directory / "tls"))
        ours(2)
        costs = ours.costs[-1]
        size = max(costs.sent, costs.received) // CLIENTS
        echo(size, 2)
        taken, bare = in_turns(
            lambda: ours(rounds),
            lambda: echo(size, rounds),
            repeats=repeats,
        )
    return Row(
        f"gRPC stream round, mutual TLS, {CLIENTS} processes, d = {dimension}",
        f"a bare grpcio echo of the same {size} bytes by as many processes",
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
def echoed(tls: Path) -> Iterator[Callable[[int, int], None]]:
    """Have a process for each client echo what the server's process sends: so many bytes, so many times."""
    serve, pipe = ("-m", "benchmarks.echo", "serve", tls, CLIENTS), subprocess.PIPE
    with process(*serve, output=pipe, input=pipe) as server, contextlib.ExitStack() as stack:
        assert server.stdin is not None
        assert server.stdout is not None
        address = f"127.0.0.1:{int(server.stdout.readline())}"
        for who in NAMES:
            stack.enter_context(process("-m", "benchmarks.echo", "join", tls, address, who))

        def rounds(size: int, count: int) -> None:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(b"%d %d\n" % (size, count))
            server.stdin.flush()
            if not server.stdout.readline():
                raise RuntimeError("the echo has failed")

        try:
            yield rounds
        finally:
            server.stdin.close()  # so it ends, and its clients with it


@contextlib.contextmanager
def process(
    *arguments: object, output: int = subprocess.DEVNULL, input: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """Run this Python with arguments; it ends by itself in a few seconds, or is killed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, *map(str, arguments)], env=environment, stdin=input, stdout=output, cwd=ROOT
    ) as started:
        try:
            yield started
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(5.0)
        finally:
            started.kill()
