"""A SuperLink lets in the SuperNodes whose keys are registered, and no other."""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import tomli_w

from localgd import pki
from localgd.processes import control_api_is_separate, flower_environment, free_ports
from tests.e2e.flower import alone
from tests.processes import LIMIT, Process, Processes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("flower"),
    pytest.mark.skipif(
        not control_api_is_separate(), reason="how Flower <= 1.36 is told where its Control API is"
    ),
]


@pytest.fixture(scope="module", autouse=True)
def flower_alone() -> Iterator[None]:
    with alone():
        yield


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What Flower's commands need."""
    return flower_environment() | {"FLWR_HOME": str(tmp_path / "flwr")}


def flwr(environment: Mapping[str, str], *arguments: object) -> dict:
    """Run a ``flwr`` command that answers in JSON."""
    done = subprocess.run(
        ["flwr", *map(str, arguments), "--format", "json"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    answer = json.loads(done.stdout[done.stdout.find("{") :])
    assert answer["success"], done.stdout + done.stderr
    return answer


def test_only_a_registered_key_gets_in(
    processes: Processes, environment: dict[str, str], tmp_path: Path
) -> None:
    keys = tmp_path / "pki"
    pki.write(keys, ["localhost"], ["known", "stranger"])
    fleet, control, runtime, *own = (f"127.0.0.1:{port}" for port in free_ports(5))
    connection = {"address": control, "root-certificates": str(keys / "ca.crt")}
    (tmp_path / "flwr").mkdir()
    (tmp_path / "flwr" / "config.toml").write_text(tomli_w.dumps({"superlink": {"link": connection}}))

    host, _, port = runtime.partition(":")
    link = processes.start(
        *(
            "flower-superlink",
            "--enable-supernode-auth",
            "--isolation",
            "process",
            "--host",
            host,
            "--port",
            port,
        ),
        *(
            "--fleet-api-address",
            fleet,
            "--control-api-address",
            control,
            "--ssl-ca-certfile",
            keys / "ca.crt",
        ),
        *("--ssl-certfile", keys / "server.crt", "--ssl-keyfile", keys / "server.key"),
        environment=environment,
    )
    wait_for(link, "Uvicorn running")
    registered = flwr(environment, "supernode", "register", keys / "known.supernode.pub", "link")["node-id"]

    def join(name: str, address: str) -> Process:
        return processes.start(
            *("flower-supernode", "--superlink", fleet, "--root-certificates", keys / "ca.crt"),
            *("--auth-supernode-private-key", keys / f"{name}.supernode", "--isolation", "process"),
            *("--host", "127.0.0.1", "--port", address.partition(":")[2]),
            environment=environment,
        )

    stranger, known = join("stranger", own[0]), join("known", own[1])
    wait_for(known, f"SuperNode ID: {registered}")
    wait_for(stranger, "Failed to activate SuperNode")
    wait_for(link, "No SuperNode found with the given public key")
    [node] = flwr(environment, "supernode", "list", "link")["nodes"]
    assert (str(node["node-id"]), node["status"]) == (str(registered), "online")
    assert "SuperNode ID" not in stranger.stdout() + stranger.stderr()


def wait_for(process: Process, text: str) -> None:
    """Wait until a process has said it, on whichever stream."""
    deadline = time.monotonic() + LIMIT
    while text not in (said := process.stdout() + process.stderr()):
        assert time.monotonic() < deadline, f"waited in vain for {text!r} in\n{said}"
        time.sleep(0.05)
