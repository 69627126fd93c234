"""Servers that are interrupted wherever locks are taken and given back, many in one process."""

import sys
from pathlib import Path

import pytest

from tests.faults.effort import INTERRUPTED_ANYWHERE
from tests.faults.federations import Federation
from tests.processes import Processes

SERVER = """
import faulthandler, random, shutil, signal, sys, threading
from pathlib import Path
from common import interrupts
from common.config import Config
from localgd.federations import server_context
from server.app import app
from server.grids import replies
from server.grids.stream import StreamGrid

address, folder, times = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
keys = {"dataset": "file", "clients": 2, "strategy": "cutting-plane", "cuts": 1, "reference": "none",
        "num-server-rounds": 100_000, "checkpoint-every": 3}
draw, ended = random.Random(0), 0
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it


def interrupt_at(step):
    # at this of the calls and returns in which locks are taken and given back

    def look(frame, event, what):
        nonlocal step
        if frame.f_code.co_filename in (threading.__file__, replies.__file__):
            step -= 1
            if step == 0:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

    sys.setprofile(look)


for time in range(times):
    faulthandler.dump_traceback_later(60, exit=True)
    try:
        with interrupts.deferred(), StreamGrid(address, credentials=None) as grid:
            grid.wait_for_clients(2, 2, 50)
            interrupt_at(draw.randint(1, 1000))
            app(grid, server_context(Config.of(keys | {"out": str(folder / str(time))})))
    except KeyboardInterrupt:
        ended += 1
    shutil.rmtree(folder / str(time), ignore_errors=True)
print("interrupted", ended)
"""

CLIENT = """
import sys
from pathlib import Path
from client import stream
from client.app import app
from client.dataset import node_config
from common.errors import RunError

address, data = sys.argv[1], Path(sys.argv[2])
while True:
    try:
        stream.join(address, app, node_config(data, "label", None), data.stem, credentials=None, retry_for=50,
             report=lambda line: None)
    except RunError as error:
        assert str(error) == "the server was interrupted", error
"""


@pytest.mark.timeout(120 + INTERRUPTED_ANYWHERE)
def test_an_interrupt_leaves_no_lock_wherever_it_falls(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        federation = Federation.make(processes, 2)
        clients = [
            processes.start(
                sys.executable, "-c", CLIENT, federation.address, federation.data / f"client-{k}.npz"
            )
            for k in range(2)
        ]
        server = processes.start(
            sys.executable, "-c", SERVER, federation.address, tmp_path, INTERRUPTED_ANYWHERE
        )
        done = server.wait(60 + INTERRUPTED_ANYWHERE)
        assert [client.stderr() for client in clients if not client.running()] == []
    assert done.code == 0, done
    assert done.stdout.endswith(f"interrupted {INTERRUPTED_ANYWHERE}\n")
