"""`localgd compare`: runs side by side, and a table of them."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.data import TISSUE, RunFiles
from tests.pages import check, draw, needs_chromium
from tests.processes import Finished

pytestmark = pytest.mark.xdist_group("e2e-compare")


def first_within(run: RunFiles, degrees: float) -> int:
    return next(row["round"] for row in run.rows if row["certified_angle_deg"] <= degrees)


def read_table(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "table.csv", encoding="utf-8", newline="") as file:
        return {f"{row['strategy']} K{row['local_steps']}": row for row in csv.DictReader(file)}


def test_the_flagship_beside_the_papers_two(localgd: Callable[..., Finished], tmp_path: Path) -> None:
    done = localgd("compare", TISSUE, "-c", "num-server-rounds=20", "--out", "out")
    assert done.code == 0, done.stderr
    table = read_table(tmp_path / "out")
    assert list(table) == ["local-gd K100", "modified-local-gd K", "cutting-plane K"]
    exact = table["cutting-plane K"]
    assert int(exact["to_target"]) == int(exact["rounds"]) <= 8
    assert float(exact["true_angle_deg"]) < 0.1
    assert all(row["to_target"] == "" for name, row in table.items() if name != "cutting-plane K")
    run = RunFiles(tmp_path / "out" / "cutting-plane-projection-seed0")
    assert float(exact["certified_angle_deg"]) == run.rows[-1]["certified_angle_deg"]
    assert float(exact["seconds"]) == run.json("summary.json")["seconds"]
    sent = sum(row["bytes"]["received"] / row["clients"] for row in run.rows) / 1e6
    assert float(exact["megabytes"]) == pytest.approx(sent)
    assert "out/table.md" in done.last_line
    page = tmp_path / "out" / "compare.html"
    before = page.read_bytes()
    page.unlink()
    assert localgd("report", "out").stdout.startswith("out/compare.html; 6 pictures in out/plots")
    assert page.read_bytes() == before
    text = " ".join(check(page).text.split())
    assert "3 runs side by side on tissue" in text
    assert f"cutting-plane {first_within(run, 10)}" in text
    assert {"true-by-rounds.svg", "bytes-to-certified.svg"} <= {
        path.name for path in (tmp_path / "out" / "plots").iterdir()
    }
    assert "1/3 local-gd-gradient-K100-seed0: 20 rounds" in done.stdout


@needs_chromium
def test_a_browser_draws_the_page_on_a_small_screen(localgd: Callable[..., Finished], tmp_path: Path) -> None:
    arguments = ("--strategies", "local-gd,consensus", "--local-steps", "1,5", "--seeds", "0,1")
    done = localgd("compare", TISSUE, *arguments, "-c", "num-server-rounds=3", "--out", "out")
    assert done.code == 0, done.stderr
    assert draw(tmp_path / "out" / "compare.html", tmp_path, 400)[1] == 400


def test_one_failing_run(localgd: Callable[..., Finished], tmp_path: Path) -> None:
    arguments = ("--strategies", "flower:Krum,flower:FedMedian,local-gd", "--local-steps", "1,5")
    keys = ("-c", "strategy=flower:Krum", "-c", "strategy-options=num_malicious_nodes=2", "-c", "solver=auto")
    done = localgd("compare", TISSUE, *arguments, *keys, "-c", "num-server-rounds=3", "--out", "out")
    assert done.code == 1
    assert done.stderr == (
        "localgd: 2 of 6 runs failed: strategy = 'flower:Krum' needs 7 clients with "
        "num_malicious_nodes = 2, not 6\n"
    )
    table = read_table(tmp_path / "out")
    assert [name for name, row in table.items() if row["failure"]] == ["flower:Krum K1", "flower:Krum K5"]
    assert [row["rounds"] for row in table.values()] == ["0", "0", "3", "3", "3", "3"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("--strategies", "fedavg"),
            "strategy = 'fedavg' is not allowed; allowed: local-gd, ",
        ),
        (("--local-steps", "ten"), "local-steps = 'ten' is not allowed; allowed: a whole number >= 1"),
        (("--seeds", "0;1"), "seed = '0;1' is not allowed; allowed: a whole number >= 0"),
        (("-c", "dataset=tisue"), "unknown data set 'tisue'; did you mean 'tissue'?"),
        (("--stop", "near"), "'near' is not a valid float"),
    ],
)
def test_a_bad_word_ends_with_2(
    arguments: tuple[str, ...], complaint: str, localgd: Callable[..., Finished], tmp_path: Path
) -> None:
    done = localgd("compare", TISSUE, *arguments)
    assert done.code == 2
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()
