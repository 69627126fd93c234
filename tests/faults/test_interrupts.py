"""Servers that are interrupted at any of their steps, each a moment after another, in one process."""

import sys
from pathlib import Path

from tests.faults.effort import INTERRUPTED_ANYWHERE
from tests.faults.federations import Federation
from tests.processes import Processes

SERVER = """
import faulthandler, random, shutil, signal, sys
from pathlib import Path
from common import interrupts
from common.config import Config
from localgd.federations import server_context
from server.app import app
from server.grids.stream import StreamGrid

address, folder, times = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
interrupts.SIGNALS = (signal.SIGALRM,)  # which a timer of this process sends
keys = {"dataset": "file", "clients": 2, "strategy": "cutting-plane", "cuts": 1, "reference": "none",
        "num-server-rounds": 100_000, "checkpoint-every": 3}
draw = random.Random(0)
for time in range(times):
    faulthandler.dump_traceback_later(60, exit=True)
    try:
        with interrupts.deferred(), StreamGrid(address, credentials=None) as grid:
            grid.wait_for_clients(2, 2, 50)
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.01, 0.1))
            app(grid, server_context(Config.of(keys | {"out": str(folder / str(time))})))
    except SystemExit as ended:
        assert ended.code == 128 + signal.SIGALRM
    shutil.rmtree(folder / str(time), ignore_errors=True)
print("interrupted", times)
"""

CLIENT = """
import sys
from pathlib import Path
from client.app import app
from client.dataset import node_config
from client.stream import join
from common.errors import RunError

address, data = sys.argv[1], Path(sys.argv[2])
while True:
    try:
        join(address, app, node_config(data, "label", None), data.stem, credentials=None, retry_for=50,
             report=lambda line: None)
    except RunError as error:
        assert str(error) == "the server was interrupted", error
"""


def test_an_interrupt_leaves_no_lock_wherever_it_falls(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        federation = Federation.make(processes, 2)
        for k in range(2):
            data = federation.data / f"client-{k}.npz"
            processes.start(sys.executable, "-c", CLIENT, federation.address, data)
        server = processes.start(
            sys.executable, "-c", SERVER, federation.address, tmp_path, INTERRUPTED_ANYWHERE
        )
        done = server.wait(60 + INTERRUPTED_ANYWHERE)
    assert done.code == 0, done
    assert done.stdout.endswith(f"interrupted {INTERRUPTED_ANYWHERE}\n")
