"""A small device needs what it has installed and nothing else."""

import re
import sys
from pathlib import Path

import pytest

from tests.e2e.data import blobs, write_federation
from tests.processes import Processes, free_port

pytestmark = pytest.mark.xdist_group("e2e-serve")

HEAVY = {"torch", "ray", "matplotlib", "scipy", "pandas", "sklearn", "pyarrow", "tensorflow"}
EXTRAS = {"daqp", "numba", "resvg_py", "tensorboard"}
NOTHING_MORE = f"import sys; sys.modules.update(dict.fromkeys({sorted(HEAVY | EXTRAS)}))"
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


def test_a_small_install_makes_a_report_too(processes: Processes, tmp_path: Path) -> None:
    """With pictures, but as SVG only; what it has no solver for it says."""
    data, run = write_federation(tmp_path / "data", blobs(0), blobs(1)), tmp_path / "run"
    config = tmp_path / "config.toml"
    config.write_text(f'dataset = "file"\ndata-dir = "{data}"\nnum-server-rounds = 3\n')
    ran = processes.localgd("run", config, "--out", run, before=NOTHING_MORE).wait()
    assert (ran.code, ran.stderr) == (0, "")
    assert "no true angles: the exact reference needs daqp: pip install 'localgd[reference]'" in ran.stdout
    assert "no report" not in ran.stdout
    drawn = {path.name for path in (run / "plots").iterdir()}
    assert {"angle.svg", "margin.svg", "loss.svg"} <= drawn
    again = processes.localgd("report", run, before=NOTHING_MORE).wait()
    assert (again.code, again.stderr) == (0, "")
    assert "no PNG files: pip install 'localgd[plots]'" in again.stdout
    assert {path.name for path in (run / "plots").iterdir()} == drawn
