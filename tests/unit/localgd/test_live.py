"""How a run shows: live on a terminal, as lines elsewhere, its last line alone, or as JSON."""

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.common.logger import FLOWER_LOGGER, log
from rich.console import Console

from common.errors import UserError
from localgd.live import Display, handled_by, shown
from server.events import Began, Ended, Measured, tell
from server.lines import HEADER, line


def row(number: int, **other: Any) -> dict[str, Any]:
    return {
        "round": number, "loss": 0.25, "errors": 0, "margin": 0.1, "margin_bound": 0.2,
        "certified_angle_deg": 60.0, "true_angle_deg": None, "test_accuracy": None, "clients": 6,
        "missing": [], "seconds": {"total": 0.5},
    } | other  # fmt: skip


def run(rounds: int, may_stop: bool = False, done: int = 0, **last: Any) -> None:
    """Tell what a run tells."""
    tell("about to run", Began(rounds, done, 6, may_stop))
    log(logging.INFO, HEADER)
    for number in range(done + 1, rounds + 1):
        measured = row(number, **(last if number == rounds else {}))
        tell(line(measured), Measured(measured))
    log(logging.WARNING, "a [red]client[/red] was slow")
    tell("after it all", Ended(Path("runs/x")))


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)


def test_not_on_a_terminal_every_line_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with shown():
        run(12)
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == ["about to run", HEADER, line(row(1))]
    assert len(out) == 2 + 12 + 2


def test_quiet_prints_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(quiet=True):
        run(12)
    assert tuple(capsys.readouterr()) == ("after it all\n", "a [red]client[/red] was slow\n")


def test_json_prints_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(as_json=True):
        run(12)
    out, err = capsys.readouterr()
    assert [json.loads(text) for text in out.splitlines()] == [row(k) for k in range(1, 13)]
    assert err == "a [red]client[/red] was slow\n"


def test_both_are_refused() -> None:
    with pytest.raises(UserError, match="--quiet and --json"), shown(quiet=True, as_json=True):
        pass


def test_a_dumb_terminal_gets_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with shown(console=terminal()):
        run(3)
    assert capsys.readouterr().out.splitlines()[2:5] == [line(row(k)) for k in (1, 2, 3)]


def test_on_a_terminal_a_few_rounds_stay() -> None:
    console = terminal()
    with shown(console=console):
        run(123)
    assert isinstance(console.file, io.StringIO)
    stay = [text.strip() for text in re.split(r"\x1b\[[0-9;?]*[A-Za-z]|\n", console.file.getvalue())]
    for number in (1, 2, 5, 10, 20, 50, 100, 123):
        assert line(row(number)).strip() in stay
    assert line(row(99)).strip() not in stay
    assert "a [red]client[/red] was slow" in stay, "markup in a line of the log is not markup"


@pytest.fixture
def display() -> Iterator[Display]:
    shown = Display(terminal())  # not started: what it would show is asked for
    with handled_by(shown):
        yield shown


def drawn(display: Display) -> str:
    console = terminal()
    console.print(display.render())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_display_says_where_the_run_is(display: Display) -> None:
    assert drawn(display).strip() == ""
    tell("about to run", Began(300, 100, 6, True))
    assert drawn(display).strip() == ""
    tell("", Measured(measured := row(150, clients=5, missing=["client-3"])))
    display.since -= 10  # 50 rounds took 10 seconds, 150 are left
    text = drawn(display)
    assert "".join(text.split()).startswith("".join(line(measured).split())), "all of it, if on two lines"
    for words in ("round 150 of 300", "0:30 left or less", "5 of 6 clients"):
        assert words in text
    tell("", Ended(Path("runs/x")))
    assert drawn(display).strip() == ""


def test_the_log_goes_where_it_went_before() -> None:
    before = list(FLOWER_LOGGER.handlers)
    with pytest.raises(ValueError, match="x"), shown(console=terminal()):
        raise ValueError("x")
    assert FLOWER_LOGGER.handlers == before
