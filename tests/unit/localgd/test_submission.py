"""The app that is handed to Flower, and what becomes of a run, with a `flwr` command that plays its part."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flwr.cli.config_utils import load_and_validate

from common import config as configuration
from common.config import Config
from common.errors import RunError
from localgd.processes import free_ports, marked
from localgd.submission import submit, write_app

FLWR = """#!{python}
import json, sys, time
command = sys.argv[1]
if command == "run":
    print("chatter"); print(json.dumps({run}))
elif command == "log":
    print("\\x1b[92mINFO \\x1b[0m: round 1\\nERROR : it broke", flush=True); time.sleep({log})
elif command == "ls":
    print(json.dumps({{"success": True, "runs": [{{"status": {status!r}, "status-details": {details!r}}}]}}))
else:
    open(__file__ + ".stopped", "w").close(); print(json.dumps({{"success": True}}))
"""


@pytest.fixture
def flwr(tmp_path: Path, monkeypatch):
    """Return how to make a `flwr` that answers as told, and the environment in which it is found."""

    def make(status: str, details: str = "", run=None, log: float = 0.0) -> dict[str, str]:
        command = tmp_path / "flwr"
        run = {"success": True, "run-id": "5"} if run is None else run
        command.write_text(
            FLWR.format(python=sys.executable, run=run, log=log, status=status, details=details)
        )
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return dict(os.environ)

    return make


def test_the_app_is_the_packages_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "secret.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "cwd")
    app = tmp_path / "localgd"
    write_app(app)
    files = [path.relative_to(app) for path in app.rglob("*") if path.is_file()]
    assert {path.parts[0] for path in files} == {"server", "client", "strategies", "common", "pyproject.toml"}
    assert {path.suffix for path in files} == {".py", ".toml"}
    config, warnings = load_and_validate(app / "pyproject.toml", check_module=False)
    assert not warnings
    assert config["tool"]["flwr"]["app"]["config"] == configuration.defaults()


def test_a_completed_run_says_its_log_in_plain_lines(flwr) -> None:
    lines: list[str] = []
    submit(Config(), "link", 60, lines.append, environment=flwr("finished:completed"))
    assert lines == ["run 5 on 'link'", "INFO : round 1", "ERROR : it broke"]


@pytest.mark.parametrize(
    ("details", "reason"),
    [("ServerApp failed with exception: no data", "no data"), ("lost", "lost"), ("", "ERROR : it broke")],
)
def test_a_failed_run_says_why(flwr, details: str, reason: str) -> None:
    with pytest.raises(RunError, match=f"^run 5 failed: {reason}$"):
        submit(Config(), "link", 60, print, environment=flwr("finished:failed", details))


def test_a_run_that_takes_too_long_is_stopped(flwr, tmp_path: Path) -> None:
    environment = flwr("running", log=60)
    began = time.monotonic()
    with pytest.raises(RunError, match=r"not finished within --timeout = 1 s, but running"):
        submit(Config(), "link", 1, print, environment=environment)
    assert time.monotonic() - began < 10
    assert (tmp_path / "flwr.stopped").exists()


def test_a_refused_run_says_why(flwr) -> None:
    environment = flwr("", run={"success": False, "error-message": "no such\nlink"})
    with pytest.raises(RunError, match=r"^'flwr run' on 'link' failed: no such link$"):
        submit(Config(), "link", 60, print, environment=environment)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="processes are found in /proc")
def test_processes_are_found_by_their_environment_and_session(tmp_path: Path) -> None:
    mark = f"MARK={tmp_path}"
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'], env={})"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"MARK": str(tmp_path)},
        stdin=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 20
        while len(found := marked(mark)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.pid in found
        assert len(found) == 2
        assert process.stdin is not None
        process.stdin.write(b"\n")
    assert not marked(mark)


def test_free_ports_differ() -> None:
    assert len(set(free_ports(5))) == 5
