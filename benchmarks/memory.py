"""The server's memory with many clients and a large model: in one process, and over streams.

As a program it is one side: ``python -m benchmarks.memory server CLIENTS DIMENSION`` says its port, and at
the end its memory; ``python -m benchmarks.memory fleet ADDRESS CLIENTS DIMENSION`` is all clients;
``python -m benchmarks.memory alone CLIENTS DIMENSION`` is both.
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
from flwr.app import Array, ArrayRecord, Context, Message, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from numpy.typing import NDArray

from benchmarks.stream import process
from benchmarks.table import Row
from client.stream import join
from common.handshake import Description, pack_description, pack_prepared
from common.messages import pack_answer, unpack_question
from common.solution import Answer, LocalSolution, Measures, Part, SolverSettings
from server.grids.in_process import InProcessGrid
from server.grids.stream import StreamGrid
from server.handshake import handshake
from server.monitor import Monitor
from strategies import ModifiedLocalGD

ROUNDS = 3
STATUS = Path("/proc/self/status")

Vector = NDArray[np.float64]


def rows(quick: bool) -> Iterator[Row]:
    """Run a federation in one process and over streams; its peak, in models over its idle size."""
    clients, dimension = (4, 10_000) if quick else (200, 1_000_000)
    sizes = (str(clients), str(dimension))
    with process("-m", "benchmarks.memory", "alone", *sizes, output=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield row("in one process", clients, dimension, json.loads(server.stdout.readline()))
    with process("-m", "benchmarks.memory", "server", *sizes, output=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        with process("-m", "benchmarks.memory", "fleet", f"127.0.0.1:{port}", *sizes):
            yield row("over streams", clients, dimension, json.loads(server.stdout.readline()))


def row(how: str, clients: int, dimension: int, told: dict[str, int]) -> Row:
    """Return the row of one way of running, with what its server said of its memory."""
    model = 8 * dimension
    models = (told["peak"] - told["idle"]) / model
    return Row(
        f"server memory, {clients} clients, d = {dimension}, Modified Local-GD {how}",
        f"a model of {model / 1e6:g} MB",
        f"peak {told['peak'] / 1e6:.0f} MB, idle (clients known, no model yet) {told['idle'] / 1e6:.0f} MB",
        models,
        12.0,
        at_most=True,
        limit=f"{models / clients:.2g} models for each client; the sum alone needs 2 in all",
    )


def serve(clients: int, dimension: int) -> None:
    """Be the server: take the clients in, run, and say the memory."""
    with StreamGrid("127.0.0.1:0", credentials=None) as grid:
        print(json.dumps({"port": grid.port}), flush=True)
        grid.wait_for_clients(clients, clients, 120.0)
        measure(grid, dimension)


def alone(clients: int, dimension: int) -> None:
    """Be the server and all clients, which keep nothing but the one answer that they all give."""
    names: list[UserConfig] = [{"name": f"client-{k:04}"} for k in range(clients)]
    measure(InProcessGrid(member(dimension), names, {}), dimension)


def measure(grid: Grid, dimension: int) -> None:
    """Run, and say the peak, and the idle size: all clients are known, and no model has been made yet."""
    settings = SolverSettings(solver="proximal", local_steps=1)
    federation = handshake(grid, grid.get_node_ids(), settings, intercept=False, scale="none")
    strategy = ModifiedLocalGD(settings=settings, federation=federation)
    monitor = Monitor(federation, lambda row: None)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins here
    idle = resident("VmRSS")
    start = ArrayRecord({"weights": Array(np.zeros(dimension))})
    strategy.start(grid, start, ROUNDS, callbacks=[monitor])
    print(json.dumps({"idle": idle, "peak": resident("VmHWM")}), flush=True)


def resident(key: str) -> int:
    """Return a line of this process's status in bytes: what it holds now, or held at most."""
    line = next(line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def fleet(address: str, clients: int, dimension: int) -> None:
    """Be all clients: each answers every round with the same displacement, of no data at all."""
    app = member(dimension)
    threads = []
    for k in range(clients):
        name = f"client-{k:04}"
        join_one = functools.partial(
            join,
            address,
            app,
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


def member(dimension: int) -> ClientApp:
    """Return an app that has an answer ready, whoever it is asked as."""
    app = ClientApp()
    solution = LocalSolution((Part(np.full(dimension, 0.5 / math.sqrt(dimension)), 0.5),), 1, 1)

    def answer(message: Message, context: Context, *solutions: LocalSolution) -> Message:
        asked = unpack_question(message.content)
        margin = 0.1 * float(np.linalg.norm(asked.weights))
        told = Answer(name(context), solutions, Measures(0.5, margin, 0, 1), asked.number)
        return Message(pack_answer(told), reply_to=message)

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        told = Description(name(context), 1, dimension, ("-1", "1"), "none", "none", None)
        return Message(pack_description(told), reply_to=message)

    @app.query("prepare")
    def prepare(message: Message, context: Context) -> Message:
        return Message(pack_prepared(name(context), 1.0, 1.0), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return answer(message, context, solution)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return answer(message, context)

    return app


def name(context: Context) -> str:
    """Return as whom a client is asked."""
    return str(context.node_config["name"])


if __name__ == "__main__":
    role, *where = sys.argv[1:]
    size = int(where[-2]), int(where[-1])
    if role == "fleet":
        fleet(where[0], *size)
    else:
        {"server": serve, "alone": alone}[role](*size)
