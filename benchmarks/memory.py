"""The server's memory with many clients and a large model: one process is the server, another all clients.

As a program it is one of the two: ``python -m benchmarks.memory server CLIENTS DIMENSION`` says its port,
and at the end its memory; ``python -m benchmarks.memory fleet ADDRESS CLIENTS DIMENSION`` is the clients.
"""

import functools
import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from benchmarks.stream import process
from benchmarks.table import Row
from client.stream import join
from common.messages import Description, pack_answer, pack_description, pack_prepared, unpack_question
from common.solution import Answer, LocalSolution, Measures, Part, SolverSettings
from server.grids.stream import StreamGrid
from server.handshake import handshake
from server.monitor import Monitor
from strategies import ModifiedLocalGD

ROUNDS = 3
STATUS = Path("/proc/self/status")

Vector = NDArray[np.float64]


def rows(quick: bool) -> Iterator[Row]:
    """Run a federation over streams and ask the server for its peak, in models over its idle size."""
    clients, dimension = (4, 10_000) if quick else (200, 1_000_000)
    sizes = (str(clients), str(dimension))
    with process("-m", "benchmarks.memory", "server", *sizes, output=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        with process("-m", "benchmarks.memory", "fleet", f"127.0.0.1:{port}", *sizes):
            told = json.loads(server.stdout.readline())
    model = 8 * dimension
    models = (told["peak"] - told["idle"]) / model
    yield Row(
        f"server memory, {clients} clients, d = {dimension}, Modified Local-GD over streams",
        f"a model of {model / 1e6:g} MB",
        f"peak {told['peak'] / 1e6:.0f} MB, idle {told['idle'] / 1e6:.0f} MB",
        models,
        12.0,
        at_most=True,
        limit=f"{models / clients:.2g} models for each client; the sum alone needs 2 in all",
    )


def serve(clients: int, dimension: int) -> None:
    """Be the server: take the clients in, note the idle size, run, and say the peak."""
    settings = SolverSettings(solver="proximal", local_steps=1)
    with StreamGrid("127.0.0.1:0", credentials=None) as grid:
        print(json.dumps({"port": grid.port}), flush=True)
        grid.wait_for_clients(clients, clients, 120.0)
        federation = handshake(grid, grid.get_node_ids(), settings, intercept=False, scale="none")
        strategy = ModifiedLocalGD(settings=settings, federation=federation)
        monitor = Monitor(federation, lambda row: None)
        start = ArrayRecord({"weights": Array(np.zeros(dimension))})
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins here
        idle = resident("VmRSS")
        strategy.start(grid, start, ROUNDS, callbacks=[monitor])
        print(json.dumps({"idle": idle, "peak": resident("VmHWM")}), flush=True)


def resident(key: str) -> int:
    """Return a line of this process's status in bytes: what it holds now, or held at most."""
    line = next(line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def fleet(address: str, clients: int, dimension: int) -> None:
    """Be all clients: each answers every round with the same displacement, of no data at all."""
    displacement = np.full(dimension, 0.5 / math.sqrt(dimension))
    threads = []
    for k in range(clients):
        name = f"client-{k:04}"
        join_one = functools.partial(
            join,
            address,
            member(name, displacement),
            {"name": name},
            name,
            credentials=None,
            retry_for=60.0,
            report=lambda line: None,
        )
        threads.append(threading.Thread(target=join_one))
        threads[-1].start()
    for thread in threads:
        thread.join()


def member(name: str, displacement: Vector) -> ClientApp:
    """Return a client that has an answer ready."""
    app = ClientApp()
    told = Description(name, 1, len(displacement), ("-1", "1"), "none", "none", None)
    solution = LocalSolution((Part(displacement, 0.5),), 1, 1)

    def answer(message: Message, *solutions: LocalSolution) -> Message:
        asked = unpack_question(message.content)
        margin = 0.1 * float(np.linalg.norm(asked.weights))
        told = Answer(name, solutions, Measures(0.5, margin, 0, 1), asked.number)
        return Message(pack_answer(told), reply_to=message)

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        return Message(pack_description(told), reply_to=message)

    @app.query("prepare")
    def prepare(message: Message, context: Context) -> Message:
        return Message(pack_prepared(name, 1.0, 1.0), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return answer(message, solution)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return answer(message)

    return app


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(int(sys.argv[2]), int(sys.argv[3]))
    else:
        fleet(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
