"""`localgd serve` and `localgd join`: the same model as in one process, whatever happens to the clients."""

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from localgd import pki
from tests.e2e.data import RunFiles, blobs, write_federation
from tests.processes import Finished, Processes, free_port

pytestmark = pytest.mark.xdist_group("e2e-serve")

Command = Callable[..., Finished]


def write_config(path: Path, **keys: object) -> Path:
    lines = [f"{name.replace('_', '-')} = {value!r}".replace("True", "true") for name, value in keys.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def assert_same_model(ours: Path, theirs: Path) -> None:
    """The two runs ended with the same weights to nine digits, and with the same number of rows."""
    mine, other = RunFiles(ours), RunFiles(theirs)
    assert np.linalg.norm(mine.weights - other.weights) <= 1e-9 * np.linalg.norm(other.weights)
    for name in ("mean", "scale", "classes"):
        assert (mine.model()[name] == other.model()[name]).all()
    assert len(mine.rows) == len(other.rows)


def test_six_client_processes_give_the_model_of_one_process(
    shards: Path, processes: Processes, localgd: Command, tmp_path: Path
) -> None:
    """With gradient steps; the README does so with proximal ones, `test_mutual_tls` with projections."""
    config = write_config(
        tmp_path / "config.toml", strategy="local-gd", local_steps=100, num_server_rounds=20
    )
    address = f"127.0.0.1:{free_port()}"
    server = processes.localgd("serve", config, "--insecure", "--address", address, "--out", tmp_path / "far")
    clients = [
        processes.localgd("join", address, "--insecure", "--data", shards / f"client-{k}.npz")
        for k in range(6)
    ]
    near = ("-c", "dataset=file", "-c", f"data-dir={shards}", "-c", "reference=none")
    assert localgd("run", config, *near, "--out", "near").code == 0

    finished = server.wait()
    assert (finished.code, finished.stderr) == (0, "")
    assert "certified angle" in finished.last_line
    assert str(tmp_path / "far") in finished.last_line
    for k, client in enumerate(clients):
        ended = client.wait()
        assert (ended.code, ended.stderr) == (0, "")
        assert f"client-{k}: " in ended.stdout
        assert f"joined {address} as client-{k}" in ended.stdout
        assert ended.last_line == "done: the federation has ended"
    assert_same_model(tmp_path / "far", tmp_path / "near")
    last = RunFiles(tmp_path / "far").rows[-1]
    assert (last["clients"], last["missing"], last["true_angle_deg"]) == (6, [], None)


def test_mutual_tls(shards: Path, processes: Processes, localgd: Command, tmp_path: Path) -> None:
    names = ("client-0", "client-3", "client-5")
    pki.write(tmp_path / "pki", ["localhost"], names)
    config = write_config(tmp_path / "config.toml", solver="projection", num_server_rounds=20, clients=3)
    address, tls = f"127.0.0.1:{free_port()}", tmp_path / "pki"
    server = processes.localgd("serve", config, "--tls", tls, "--address", address, "--out", tmp_path / "far")
    clients = [
        processes.localgd("join", address, "--tls", tls, "--data", shards / f"{name}.npz", "--name", name)
        for name in names
    ]
    for name in names:
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.npz").symlink_to(shards / f"{name}.npz")
    near = ("-c", "dataset=file", "-c", "data-dir=data", "-c", "reference=none")
    assert localgd("run", config, *near, "--out", "near").code == 0
    assert server.wait().code == 0
    assert [client.wait().code for client in clients] == [0, 0, 0]
    assert_same_model(tmp_path / "far", tmp_path / "near")
    told = RunFiles(tmp_path / "far").json("handshake.json")["clients"]
    assert [client["name"] for client in told] == list(names)


def test_the_only_client_certificate_names_the_client(processes: Processes, tmp_path: Path) -> None:
    """The name is the certificate's, whatever the data file is called; another CA's client stays outside."""
    pki.write(tmp_path / "pki", ["localhost"])
    pki.write(tmp_path / "mine", clients=["clinic"])
    (tmp_path / "mine" / "ca.key").unlink()
    (tmp_path / "mine" / "ca.crt").write_bytes((tmp_path / "pki" / "ca.crt").read_bytes())
    data = write_federation(tmp_path / "data", blobs(0))
    config = write_config(tmp_path / "config.toml", clients=1)
    address = f"127.0.0.1:{free_port()}"
    server = processes.localgd("serve", config, "--tls", tmp_path / "pki", "--address", address)
    server.wait_for("waiting for clients")
    client = processes.localgd(
        "join", address, "--tls", tmp_path / "mine", "--data", data / "client-0.npz", "--retry-for", 1
    )
    ended = client.wait()
    assert ended.code == 2
    [line] = ended.stderr.splitlines()
    assert "clinic.crt was not issued by the CA in ca.crt" in line
    assert "1 of 1 are here" not in server.stdout(), "it was let in"
    assert "\n" not in server.stdout().rstrip("\n")


def test_a_silent_client_ends_the_run_by_name(processes: Processes, tmp_path: Path) -> None:
    data = write_federation(tmp_path / "data", *(blobs(seed, 40, 60) for seed in range(2)))
    config = write_config(
        tmp_path / "config.toml",
        strategy="local-gd",
        num_server_rounds=100_000,
        local_steps=100,
        clients=2,
        round_timeout=5.0,
    )
    address = f"127.0.0.1:{free_port()}"
    server = processes.localgd("serve", config, "--insecure", "--address", address, "--out", tmp_path / "run")
    clients = [
        processes.localgd("join", address, "--insecure", "--data", data / f"client-{k}.npz") for k in range(2)
    ]
    server.wait_for(r"\n +1 ")
    clients[1].signal(signal.SIGSTOP)
    finished = server.wait()
    assert finished.code == 1
    [line] = finished.stderr.splitlines()
    assert "did not answer within 5 s" in line
    assert "client-1" in line
    assert "client-0" not in line
    ended = clients[0].wait()
    assert ended.code == 1
    [line] = ended.stderr.splitlines()
    assert "did not answer within 5 s" in line
    assert "client-1" in line
    directory = RunFiles(tmp_path / "run")
    summary = directory.json("summary.json")
    assert summary["stopped_by"] == "failed"
    assert summary["final"] == directory.rows[-1]
    assert "client-1" in summary["error"]


def test_too_few_clients_end_the_wait(processes: Processes, tmp_path: Path) -> None:
    data = write_federation(tmp_path / "data", blobs(0))
    config = write_config(tmp_path / "config.toml", clients=3, join_timeout=4.0)
    address = f"127.0.0.1:{free_port()}"
    server = processes.localgd("serve", config, "--insecure", "--address", address, "--out", tmp_path / "run")
    client = processes.localgd("join", address, "--insecure", "--data", data / "client-0.npz")
    finished = server.wait()
    assert finished.code == 1
    [line] = finished.stderr.splitlines()
    assert "join-timeout" in line
    assert "min-clients = 2" in line
    ended = client.wait()
    assert ended.code == 1
    assert "min-clients = 2" in ended.stderr
    assert not (tmp_path / "run").exists()
