"""One server and four clients in containers, over a gRPC stream with mutual TLS."""

import hashlib
import json
import re
import time
from pathlib import Path

import pytest

from tests.compose.engine import Engine
from tests.compose.stack import CLIENTS, Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ROUNDS = 8
# client-0 stops itself when it is asked for its third local solve, however fast the machine is
STOPPING = f"""
services:
  server:
    command: >-
      serve /examples/tissue.toml --address 0.0.0.0:8080 --tls /private
      -c clients=4 -c min-clients=4 -c dataset=file -c strategy=local-gd -c solver=gradient
      -c num-server-rounds={ROUNDS}
  client-0:
    entrypoint:
      - /opt/localgd/bin/python
      - -c
      - |
        import os, signal
        from client import app
        from localgd.cli import main

        answer, asked = app.answer, []

        def stopping(*arguments, **keywords):
            asked.append(arguments)
            if len(asked) == 3:
                os.kill(os.getpid(), signal.SIGSTOP)
            return answer(*arguments, **keywords)

        app.answer = stopping
        main()
"""
MEMBER_MB = 180


@pytest.fixture
def paused(stack: Stack) -> Stack:
    """A federation in the middle of a run that waits for client-0."""
    stack.override(STOPPING)
    stack.compose("up", "--no-build", "-d")
    stack.wait_for("server", r"\n +1 ")
    deadline = time.monotonic() + 60
    while "T (stopped)" not in stack.execute("client-0", "cat /proc/[0-9]*/status"):
        assert time.monotonic() < deadline, stack.log("client-0")
        time.sleep(0.2)
    return stack


def test_up_runs_a_federation_to_its_end(stack: Stack) -> None:
    code, said = stack.compose("up", "--no-build", limit=300)
    assert code == 0, said
    assert {name: stack.exit_code(name) for name in ("server", *CLIENTS)} == dict.fromkeys(
        ("server", *CLIENTS), 0
    )
    results = stack.results("modified-local-gd")
    stack.assert_weights_are_those_of_one_process(results, "tissue.toml")
    summary = json.loads((results / "summary.json").read_text())
    assert summary["stopped_by"] == "rounds"
    assert summary["final"]["test_accuracy"] > 0.9


def test_a_client_has_its_own_data_and_nobody_elses(paused: Stack, engine: Engine) -> None:
    ours = paused.folder / "compose" / "client-1"
    other = paused.folder / "compose" / "client-2" / "data.npz"
    found = paused.execute(
        "client-1", "find / -path /proc -prune -o -name '*.npz' -print 2>/dev/null || true"
    )
    assert [path for path in found.splitlines() if "site-packages" not in path] == ["/private/data.npz"]
    digest = paused.execute("client-1", "sha256sum /private/data.npz").split()[0]
    assert digest == hashlib.sha256((ours / "data.npz").read_bytes()).hexdigest()
    assert digest != hashlib.sha256(other.read_bytes()).hexdigest()
    tried = "cat /private/client-2.key /private/../client-2/data.npz /compose/client-2/data.npz "
    assert (
        paused.execute("client-1", f"for f in {tried} {other}; do cat $f 2>/dev/null; done; echo end")
        == "end"
    )
    script = "for d in /private /opt /etc /srv/localgd; do touch $d/x 2>/dev/null && echo $d; done; true"
    assert paused.execute("client-1", script) == "", "it can write there"
    mounts = json.loads(engine.run("inspect", "--format", "{{json .Mounts}}", paused.container("client-1")))
    assert [(Path(mount["Source"]), mount["RW"]) for mount in mounts] == [(ours, False)]


def test_clients_within_their_limits_are_healthy_and_small(
    paused: Stack, engine: Engine, tell: list[str]
) -> None:
    limits = "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.ReadonlyRootfs}}"
    assert (
        engine.run("inspect", "--format", limits, paused.container("client-1"))
        == f"{250_000_000} {2**28} true"
    )
    resident = paused.execute("client-1", "cat /proc/[0-9]*/status")
    peak = max(int(found) for found in re.findall(r"VmHWM:\s+(\d+) kB", resident)) / 1000
    tell.append(f"localgd join in its container: {peak:.0f} MB resident at most")
    assert 30 < peak <= MEMBER_MB
    for name in ("server", "client-1"):
        paused.wait_healthy(name)


def test_a_killed_client_and_a_cut_network_do_not_change_the_model(paused: Stack, engine: Engine) -> None:
    [network] = engine.run(
        "network", "ls", "-q", "--filter", f"label=com.docker.compose.project={paused.project}"
    ).split()
    engine.run("kill", paused.container("client-1"))
    paused.wait_for("server", "client client-1 is gone")
    cut = paused.container("client-2")
    engine.run("network", "disconnect", network, cut)
    paused.wait_for("server", "client client-2 is gone")  # after the keepalive's 30 s
    engine.run("start", paused.container("client-1"))
    paused.wait_for("server", "client client-1 is back")
    engine.run("network", "connect", network, cut)
    paused.wait_for("server", "client client-2 is back")
    paused.wait_for("client-2", r"not reachable, trying again")
    paused.execute("client-0", "kill -CONT -1")
    assert {name: paused.exit_code(name) for name in ("server", *CLIENTS)} == dict.fromkeys(
        ("server", *CLIENTS), 0
    )
    paused.assert_weights_are_those_of_one_process(
        paused.results("local-gd"),
        "tissue.toml",
        *("strategy=local-gd", "solver=gradient", f"num-server-rounds={ROUNDS}"),
    )
