"""The same app in containers on Flower's deployment engine: TLS, registered keys, process isolation."""

import re

import pytest

from tests.compose.stack import CLIENTS, Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

PROFILE = "superlink"


def test_submit_ends_as_its_run_ends(stack: Stack, tell: list[str]) -> None:
    code, said = stack.compose("run", "--rm", "submit", profile=PROFILE, limit=600)
    assert code == 0, said
    assert "after round" in said
    results = stack.results("cutting-plane")
    stack.assert_weights_are_those_of_one_process(results, "tissue-exact.toml")
    assert set(
        re.findall(r"(client-\d).supernode.pub: registered$", stack.log("register"), re.MULTILINE)
    ) == set(CLIENTS)
    held = stack.execute("supernode-0", PEAK)
    tell.append(f"a SuperNode's container: {int(held) / 1e6:.0f} MB held at most, of 512 MiB")

    failing = (
        "submit",
        "/examples/tissue-exact.toml",
        "federation",
        "-c",
        "clients=4",
        "-c",
        "test=/nowhere.npz",
    )
    code, said = stack.compose("run", "--rm", "submit", *failing, profile=PROFILE, limit=300, check=False)
    assert code == 1, said
    assert re.search(r"localgd: run \d+ failed: /nowhere.npz: no such file", said)
    assert stack.log("register").count("registered before") == len(CLIENTS)


PEAK = "cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.peak"
