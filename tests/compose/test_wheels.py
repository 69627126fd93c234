"""Every pinned package of a client with numpy has a wheel for 64-bit ARM."""

import os
import re
import sys

import pytest

from tests.compose.engine import run
from tests.processes import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_client_installs_from_wheels_on_arm64(tell: list[str]) -> None:
    _, said = run([sys.executable, str(ROOT / "docker" / "wheels_aarch64.py")], os.environ, 600)
    wheels = [line for line in said.splitlines() if line.endswith(".whl")]
    names = {wheel.partition("-")[0].lower() for wheel in wheels}
    assert {"flwr", "numpy", "grpcio", "cryptography"} <= names
    assert not names & {"torch", "ray", "scipy", "pandas"}
    assert [wheel for wheel in wheels if not re.search(r"aarch64|-any\.whl$", wheel)] == []
    tell.append(said.splitlines()[-1])
