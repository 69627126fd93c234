"""What docs/edge.md promises of a small device: memory, and the systemd units."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.data import TISSUE
from tests.processes import ROOT, Processes, free_port

pytestmark = pytest.mark.xdist_group("e2e-serve")

RESIDENT_MB = 180
UNITS = ROOT / "deploy" / "systemd"
TELL = """
import atexit, pathlib
atexit.register(lambda: pathlib.Path("status.txt").write_text(pathlib.Path("/proc/self/status").read_text()))
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the kernel's own account of a process's memory"
)
@pytest.mark.parametrize("solver", ["projection", "proximal"])
def test_a_client_with_the_tissue_data_stays_small(
    solver: str, processes: Processes, shards: Path, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    keys = ("clients=2", "dataset=file", "num-server-rounds=20", f"solver={solver}")
    options = [word for key in keys for word in ("-c", key)]
    server = processes.localgd("serve", TISSUE, "--insecure", "--address", address, *options, cwd=tmp_path)
    clients = []
    for k in range(2):
        (tmp_path / f"device-{k}").mkdir()
        data = shards / f"client-{k}.npz"
        clients.append(
            processes.localgd(
                "join", address, "--insecure", "--data", data, before=TELL, cwd=tmp_path / f"device-{k}"
            )
        )
    assert server.wait().code == 0
    for k, client in enumerate(clients):
        assert client.wait(20).code == 0
        status = (tmp_path / f"device-{k}" / "status.txt").read_text(encoding="utf-8")
        [peak] = re.findall(r"VmHWM:\s+(\d+) kB", status)
        assert 30 < int(peak) / 1000 <= RESIDENT_MB


@pytest.mark.parametrize("unit", ["localgd-join.service", "flower-supernode.service"])
def test_a_unit_starts_a_command_that_there_is(unit: str, processes: Processes) -> None:
    """Every option in it is one of the command's own, and every variable is explained."""
    text = (UNITS / unit).read_text(encoding="utf-8")
    [line] = re.findall(r"^ExecStart=(.*)$", text.replace("\\\n", " "), re.MULTILINE)
    path, *words = shlex.split(line)
    subcommand = [] if words[0].startswith("-") else words[:1]
    command = [sys.executable, "-m", "localgd"] if path.endswith("/localgd") else [Path(path).name]
    helped = processes.start(*command, *subcommand, "--help", environment=scripts()).wait()
    assert helped.code == 0
    options = [word for word in words if word.startswith("--")]
    assert options
    assert [option for option in options if not re.search(rf"{option}\b", helped.stdout)] == []
    variables = set(re.findall(r"\$\{(\w+)\}", line))
    assert variables == set(
        re.findall(r"\b([A-Z]+)=", text.partition("EnvironmentFile=")[0].rpartition("#")[2])
    )
    guide = (ROOT / "docs" / "edge.md").read_text(encoding="utf-8")
    assert all(re.search(rf"\b{variable}=", guide) for variable in variables)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """It also looks whether the commands are there, so they are put somewhere."""
    for unit in UNITS.glob("*.service"):
        text = unit.read_text(encoding="utf-8").replace(
            "ExecStart=/opt/localgd/bin/", f"ExecStart={tmp_path}/"
        )
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    for command in ("localgd", "flower-supernode"):
        (tmp_path / command).write_text("#!/bin/sh\n")
        (tmp_path / command).chmod(0o755)
    done = subprocess.run(
        ["systemd-analyze", "verify", *sorted(map(str, tmp_path.glob("*.service")))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def scripts() -> dict[str, str]:
    """Let the commands beside this Python be found."""
    from localgd.processes import flower_environment

    return {"PATH": flower_environment()["PATH"], "COLUMNS": "200", "NO_COLOR": "1"}
