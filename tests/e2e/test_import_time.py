"""A client on a small device loads what it needs and nothing else."""

import re
import sys
from pathlib import Path

import pytest

from tests.e2e.data import blobs, write_federation
from tests.processes import Processes, free_port

pytestmark = pytest.mark.xdist_group("e2e-serve")

HEAVY = {"torch", "ray", "matplotlib", "scipy", "pandas", "sklearn", "pyarrow", "tensorflow"}
TELL = """
import atexit, pathlib, sys
atexit.register(lambda: pathlib.Path("modules.txt").write_text(" ".join(sys.modules)))
"""


def test_importing_the_client_loads_nothing_heavy(processes: Processes) -> None:
    finished = processes.start(
        sys.executable, "-X", "importtime", "-c", "import client.app, client.stream"
    ).wait()
    assert finished.code == 0
    loaded = set(re.findall(r"^import time: +\d+ \| +\d+ \| +(\w+)", finished.stderr, re.MULTILINE))
    assert {"client", "numpy", "flwr"} <= loaded
    assert not loaded & HEAVY


def test_a_joined_numpy_client_loads_nothing_heavy(processes: Processes, tmp_path: Path) -> None:
    """All the way: data, handshake, solves, goodbye."""
    data = write_federation(tmp_path / "data", blobs(0))
    config = tmp_path / "config.toml"
    config.write_text('clients = 1\nnum-server-rounds = 3\nsolver = "projection"\n')
    address = f"127.0.0.1:{free_port()}"
    server = processes.localgd("serve", config, "--insecure", "--address", address, "--out", tmp_path / "run")
    client = processes.localgd(
        "join", address, "--insecure", "--data", data / "client-0.npz", before=TELL, cwd=tmp_path
    )
    assert server.wait().code == 0
    assert client.wait(20).code == 0
    loaded = {name.partition(".")[0] for name in (tmp_path / "modules.txt").read_text().split()}
    assert {"client", "numpy", "flwr", "grpc"} <= loaded
    assert not loaded & HEAVY
