"""The report of a run, from whatever its directory holds."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from server.report import leave_report, write_report
from tests.pages import check
from tests.run_directories import EVIL, row, write


def text_of(path: Path) -> str:
    return " ".join(check(path / "report.html").text.split())


def test_a_whole_run(tmp_path: Path) -> None:
    path = write(tmp_path / "run", [row(k) for k in range(1, 31)])
    pictures = write_report(path)
    text = text_of(path)
    assert (
        "It is proved, without a look at the data, that the model of round 30 is within 2.00° of the "
        "centralized one: the max-margin model of all clients' data together." in text
    )
    assert "best margin γ* of any linear model lies between 0.098333 and 0.10167." in text
    assert "the true angle is 0.67°" in text
    assert "all rounds done" in text
    for number in ("87.5%", "1.5", "0.12", "f00d", "1.2.3", "num-server-rounds", EVIL, f"{EVIL}, well"):
        assert number in text, number
    assert "clients: messages, local solves, replies 0.45 30.0%" in text
    assert "between rounds: log, checkpoints, last evaluation 0.9 60.0%" in text
    assert [p.stem for p in pictures] == ["angle", "margin", "loss", "accuracy", "drift", "seconds"]
    for picture in pictures:
        assert picture.read_text().startswith("<?xml")


def test_the_rounds_can_be_copied_as_text(tmp_path: Path) -> None:
    path = write(tmp_path / "run", [row(k) for k in (1, 2)])
    write_report(path)
    [block] = re.findall(r"<pre[^>]*>(.*?)</pre>", (path / "report.html").read_text(), flags=re.DOTALL)
    header, *lines = [line.split("\t") for line in block.splitlines()]
    assert header[:4] == ["round", "loss", "errors", "margin"]
    assert "reference_distance" not in header
    table = [dict(zip(header, line, strict=True)) for line in lines]
    assert [(line["round"], line["certified_angle_deg"], line["turn_deg"]) for line in table] == [
        ("1", "60", ""),
        ("2", "30", "0.5"),
    ]


SQUARED = {"certified_angle_deg": None, "margin": None, "margin_bound": None, "errors": None}
UNPROVED = {"certified_angle_deg": 180.0, "true_angle_deg": None, "margin": -0.2, "errors": 3}


@pytest.mark.parametrize(
    ("rows", "keys", "said"),
    [
        (
            [],
            {"stopped_by": "failed", "error": "round 1: b failed"},
            ("no round was completed", "It ended early: round 1: b failed"),
        ),
        ([row(1)], {}, ("the model of round 1 is within 60.00°",)),
        ([row(1)], {"stopped_by": ""}, ("no end is recorded",)),
        ([row(1), row(2)], {"stopped_by": "interrupted", "error": "SystemExit(143)"}, ("interrupted",)),
        (
            [row(k, **UNPROVED) for k in (1, 2)],
            {},
            ("No angle is proved yet: after round 2 the model has 3 training examples on the wrong side",
             "No linear model has a margin above 0.125"),
        ),
        ([row(1, margin_bound=None, **UNPROVED)], {}, ("No bound on the margin is known yet.",)),
        (
            [row(1), row(2, **SQUARED | {"errors": 4})],
            {},
            ("It is proved that no linear model separates the data",),
        ),
        (
            [],
            {"stopped_by": "not-separable", "error": "the data of b alone are not linearly separable"},
            ("It is proved that no linear model separates the data", "the data of b alone"),
        ),
        (
            [row(k, reference_distance=0.25, **SQUARED) for k in (1, 2, 3)],
            {"loss": "squared", "strategy": "local-gd"},
            ("Nothing is proved: the squared loss has no margin", "‖w − ŵ‖ is 0.25 of ‖ŵ‖"),
        ),
        (
            [row(1), row(2), row(3, certified_angle_deg=50.0)],
            {},
            ("Closer still is best.npz, of round 2: 30.00°",),
        ),
        (
            [row(1), row(2, clients=1, missing=[EVIL], margin=None, certified_angle_deg=180.0)],
            {},
            (
                f"No angle is proved of the model of round 2: {EVIL} did not measure it",
                "No linear model has a margin above 0.125",
                f"{EVIL} 7 1 0.25 3.00° 1 5 f00d",
            ),
        ),
        ([row(k, true_angle_deg=None) for k in (1, 2)], {"strategy": "flower:FedAvg"}, ("flower:FedAvg",)),
        ([row(1, margin=0.125, margin_bound=0.125)], {}, ("is 0.125, to all these digits",)),
    ],
)  # fmt: skip
def test_any_run(
    rows: list[dict[str, Any]], keys: dict[str, Any], said: tuple[str, ...], tmp_path: Path
) -> None:
    path = write(tmp_path / "run", rows, **keys)
    write_report(path)
    text = text_of(path)
    for words in said:
        assert words in text
    assert "None" not in text
    assert ("A proof rests on" in text) == ("It is proved, without" in text)


def test_thousands_of_rounds_make_a_page_that_opens(tmp_path: Path) -> None:
    path = write(tmp_path / "run", [row(k) for k in range(1, 5001)])
    write_report(path)
    assert (path / "report.html").stat().st_size < 400_000
    assert re.search(r"\d+ of 5000 rounds", text_of(path))


def test_half_a_row_at_the_end_is_a_run_that_goes_on(tmp_path: Path) -> None:
    path = write(tmp_path / "run", [row(1)], stopped_by="")
    with open(path / "rounds.jsonl", "a") as file:
        file.write('{"round": 2, "lo')
    write_report(path)
    assert "the model of round 1" in text_of(path)


def test_pictures_that_there_is_nothing_to_show_in_are_gone(tmp_path: Path) -> None:
    path = write(tmp_path / "run", [row(1)])
    write_report(path)
    (path / "rounds.jsonl").write_text("")
    write_report(path)
    assert list((path / "plots").iterdir()) == []


def spoil_row(path: Path) -> None:
    (path / "rounds.jsonl").write_text("{}\nnot json\n{}\n")


def strip_row(path: Path) -> None:
    (path / "rounds.jsonl").write_text('{"round": 1}\n')


def spoil_config(path: Path) -> None:
    (path / "config.toml").write_text("= 1")


def remove_config(path: Path) -> None:
    (path / "config.toml").unlink()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (spoil_row, r"cannot read rounds.jsonl, row 2"),
        (strip_row, r"has no 'certified_angle_deg': another version of localgd has written it"),
        (spoil_config, r"cannot read config.toml"),
        (remove_config, r"holds no run: there is no config.toml in it"),
    ],
)
def test_a_directory_that_cannot_be_read(
    spoil: Callable[[Path], None], complaint: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "run", [row(1)])
    spoil(path)
    with pytest.raises(UserError, match=complaint):
        write_report(path)


def test_a_report_that_cannot_be_made_does_not_fail_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from flwr.common.logger import FLOWER_LOGGER

    FLOWER_LOGGER.addHandler(caplog.handler)
    try:
        leave_report(tmp_path / "nowhere")
    finally:
        FLOWER_LOGGER.removeHandler(caplog.handler)
    assert "no report: " in caplog.text


def test_png_files_beside_the_svg_files(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    from server.report.png import write_png

    pictures = write_report(write(tmp_path / "run", [row(1), row(2)]))
    assert write_png(pictures[:1])
    data = pictures[0].with_suffix(".png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20]) == 940, "twice as wide as the picture"
