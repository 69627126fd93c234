"""The page about several runs: what the variants reach, over seeds, rounds, bytes and local steps."""

import re
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from localgd.compare_page import figures, reached, write_page
from localgd.variants import CERTIFIED, MEGABYTES, ROUNDS, TRUE, Variant, cost, spent, variants
from server.report.chart import Chart
from server.report.palette import look
from server.report.reading import Run, read
from tests.pages import check
from tests.run_directories import row, write


def run(folder: Path, *angles: float, **keys: Any) -> Run:
    """A run with these certified angles; the true ones are half of them, a client sends 2 kB a round."""
    rows = [row(k, certified_angle_deg=a, true_angle_deg=a / 2) for k, a in enumerate(angles, start=1)]
    return read(write(folder / f"run-{len(list(folder.iterdir()))}", rows, **keys))


def two_seeds(tmp_path: Path) -> Variant:
    runs = [run(tmp_path, 180, 40, 8, 2, seed=0), run(tmp_path, 60, 20, seed=1)]
    [variant] = variants(runs)
    return variant


def test_runs_that_differ_in_their_seed_only_are_one(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, 5, strategy="local-gd", local_steps=1, seed=0),
        run(tmp_path, 5, strategy="local-gd", local_steps=10, seed=0),
        run(tmp_path, 5, strategy="local-gd", local_steps=1, seed=1),
        run(tmp_path, 5, strategy="consensus"),
        run(tmp_path, strategy="cutting-plane"),  # failed before its first round
    ]
    found = variants(runs)
    assert [(v.label, len(v.runs)) for v in found] == [
        ("local-gd K=1", 2),
        ("local-gd K=10", 1),
        ("consensus", 1),
    ]
    assert found[0].dash != found[1].dash


def test_labels_say_what_differs(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, 5, strategy="local-gd", solver="projection", alpha=0.1),
        run(tmp_path, 5, strategy="local-gd", local_steps=7, alpha=10.0),
    ]
    assert [v.label for v in variants(runs)] == ["local-gd/projection α=0.1", "local-gd/gradient K=7 α=10"]


def test_over_seeds_a_run_that_has_stopped_keeps_its_last_model(tmp_path: Path) -> None:
    low, middle, high = two_seeds(tmp_path).angles(CERTIFIED)
    assert low == [60, 20, 8, 2]
    assert middle == [None, 30, 14, 11]
    assert high == [None, 40, 20, 20], "180 is nothing certified"


def test_costs(tmp_path: Path) -> None:
    own = run(tmp_path, 180, 40, 8, 2)
    assert spent(own, ROUNDS) == [1, 2, 3, 4]
    assert spent(own, MEGABYTES) == pytest.approx([2e-3, 4e-3, 6e-3, 8e-3])
    assert (cost(own, CERTIFIED, 10, ROUNDS), cost(own, TRUE, 10, ROUNDS)) == (3, 3)
    assert cost(own, TRUE, 25, MEGABYTES) == pytest.approx(4e-3)
    assert cost(own, CERTIFIED, 1, ROUNDS) is None


def test_the_table_says_how_many_seeds_got_there(tmp_path: Path) -> None:
    variant = two_seeds(tmp_path)
    assert reached(variant, [CERTIFIED])[:3] == ["3 (1 of 2)", "> 4", "> 4"]
    assert reached(variant, [TRUE])[:2] == ["2 – 3", "4 (1 of 2)"]


def charts(tmp_path: Path) -> dict[str, Chart]:
    runs = [
        run(tmp_path, *(90 / r for r in range(1, 21)), strategy=strategy, local_steps=steps)
        for strategy in ("local-gd", "flower:FedAvg")
        for steps in (1, 5)
    ]
    runs.append(run(tmp_path, 50, 0.05, 1e-9, strategy="cutting-plane"))
    return {chart.name: chart for chart in figures(variants(runs), [CERTIFIED, TRUE])}


def test_the_same_strategy_has_the_same_colour_everywhere(tmp_path: Path) -> None:
    for chart in charts(tmp_path).values():
        drawn = [(line.label, line.colour) for line in chart.lines]
        drawn += [(dot.label, dot.colour) for dot in chart.dots]
        assert drawn
        for label, colour in drawn:
            assert colour == look(re.split(r"[ ,]", label)[0]).colour


def test_a_fixed_budget_of_local_steps(tmp_path: Path) -> None:
    drawn = charts(tmp_path)
    chart = drawn["budget"]
    assert chart.title == "True angle after 20 local steps"
    # K = 1 has had 20 rounds, K = 5 four
    assert [line.label for line in chart.lines] == ["local-gd", "flower:FedAvg"]
    for line in chart.lines:
        assert list(line.x) == [1, 5]
        assert list(line.y) == pytest.approx([45 / 20, 45 / 4])
    assert list(drawn["by-steps"].lines[1].x)[:3] == [5, 10, 15]


def test_a_hollow_dot_is_a_target_not_reached(tmp_path: Path) -> None:
    chart = charts(tmp_path)["rounds-to-certified"]
    dots = {dot.label: (dot.x, dot.hollow) for dot in chart.dots}
    assert dots["cutting-plane, 0.1°: 2"] == (2, False)
    assert dots["local-gd K=1, 10°: 9"] == (9, False)
    assert dots["local-gd K=1, 1°: > 20"] == (20, True)


def test_the_page(tmp_path: Path) -> None:
    write(tmp_path / "a", [row(k) for k in range(1, 30)], seed=0)
    write(tmp_path / "b", [row(k) for k in range(1, 20)], seed=1)
    write(tmp_path / "failed", [], stopped_by="failed")
    (tmp_path / "a" / "report.html").touch()
    table = "failure,directory\n,a\n,b\n<b>,failed\nwhy,never-begun\n"
    (tmp_path / "table.csv").write_text(table)
    assert (tmp_path / "plots" / "certified-by-bytes.svg") in write_page(tmp_path)
    page = check(tmp_path / "compare.html")
    text = " ".join(page.text.split())
    assert "3 runs side by side on tissue" in text
    assert "modified-local-gd K=100 6 > 29 > 29" in text
    assert "b: no report" in text
    assert "<b>,failed" in text
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"] == ["a/report.html"]
    assert (tmp_path / "plots" / "certified-by-bytes.svg").exists()


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="has no column 'directory'"):
        write_page(tmp_path)


@pytest.mark.parametrize("rows", [[], [row(1, certified_angle_deg=None, true_angle_deg=None)]])
def test_nothing_to_draw(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    write(tmp_path / "a", rows, stopped_by="failed")
    (tmp_path / "table.csv").write_text("directory\na\n")
    write_page(tmp_path)
    assert "1 run side by side" in check(tmp_path / "compare.html").text
