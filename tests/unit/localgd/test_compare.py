import csv
import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from flwr.common.logger import FLOWER_LOGGER
from rich.console import Console

from common.config import Config, Value
from common.errors import NotSeparable, RunError, UserError
from localgd import compare
from localgd.compare import Plan, directory_name, plan
from localgd.outcomes import Outcome, conclusion, legend, outcome_of, show, write_tables


def names(planned: Plan) -> list[str]:
    return [directory_name(config) for config in planned.configs]


def test_without_lists_the_papers_algorithms_run_beside_the_exact_one() -> None:
    values: dict[str, Value] = {"solver": "projection", "num-server-rounds": 7, "out": "here"}
    planned = plan(values)
    assert names(planned) == [
        "local-gd-gradient-K100-seed0",
        "modified-local-gd-projection-seed0",
        "cutting-plane-projection-seed0",
    ]
    assert {config.num_server_rounds for config in planned.configs} == {7}
    assert {config.stop_at_certified_angle for config in planned.configs} == {0.1}
    assert (planned.target, planned.out) == (0.1, "here")
    assert {config.out for config in planned.configs} == {""}


def test_every_combination_once() -> None:
    planned = plan({}, "local-gd,consensus", local_steps="1,10", seeds="0,1")
    assert names(planned) == [
        "local-gd-gradient-K1-seed0",
        "local-gd-gradient-K10-seed0",
        "consensus-projection-seed0",  # no local steps to vary
        "local-gd-gradient-K1-seed1",
        "local-gd-gradient-K10-seed1",
        "consensus-projection-seed1",
    ]


def test_alphas_are_numbers_and_part_of_a_name_where_they_are_not_the_default() -> None:
    planned = plan({}, "consensus", alphas="0.3, 10", seeds="1")
    assert names(planned) == ["consensus-projection-seed1", "consensus-projection-alpha10-seed1"]
    assert [config.alpha for config in planned.configs] == [0.3, 10.0]


def test_solvers_go_to_the_strategies_that_name_none() -> None:
    planned = plan({}, "local-gd, modified-local-gd/proximal, flower:FedAvg", "gradient,projection")
    assert [(config.strategy, config.solver) for config in planned.configs] == [
        ("local-gd", "gradient"),
        ("local-gd", "projection"),
        ("modified-local-gd", "proximal"),
        ("flower:FedAvg", "gradient"),
        ("flower:FedAvg", "projection"),
    ]


def test_options_go_to_the_strategy_that_they_are_for() -> None:
    planned = plan(
        {"strategy": "flower:FedAdam", "strategy-options": "eta=1"}, "flower:FedAdam,flower:FedYogi"
    )
    assert [config.strategy_options for config in planned.configs] == ["eta=1", ""]


def test_the_strategy_of_the_configuration_does_not_have_to_go_with_its_other_keys() -> None:
    values: dict[str, Value] = {"strategy": "modified-local-gd", "solver": "projection", "loss": "squared"}
    assert names(plan(values, "local-gd")) == ["local-gd-gradient-K100-seed0"]


@pytest.mark.parametrize(
    ("configured", "stop", "stops", "target"),
    [
        (0.0, None, 0.1, 0.1),
        (5.0, None, 5.0, 5.0),
        (5.0, 1.0, 1.0, 1.0),
        (5.0, 0.0, 0.0, 5.0),
        (0.0, 0.0, 0.0, 0.1),
    ],
)
def test_where_runs_stop(configured: float, stop: float | None, stops: float, target: float) -> None:
    planned = plan({"stop-at-certified-angle": configured}, "consensus", stop=stop)
    assert (planned.configs[0].stop_at_certified_angle, planned.target) == (stops, target)


@pytest.mark.parametrize(
    ("lists", "complaint"),
    [
        ({"strategies": "sgd"}, "strategy = 'sgd' is not allowed; allowed: local-gd, "),
        ({"strategies": "flower:FedAvgg"}, "did you mean 'flower:FedAvg'?"),
        ({"strategies": "local-gd/newton"}, "solver = 'newton' is not allowed"),
        ({"strategies": "consensus/gradient"}, "solver = 'gradient' does not go with strategy = 'consensus'"),
        ({"strategies": "consensus", "solvers": "gradient"}, "does not go with strategy = 'consensus'"),
        ({"strategies": ""}, "--strategies takes strategies with commas between them, not ''"),
        ({"strategies": "local-gd,,consensus"}, "--strategies takes words with single commas"),
        (
            {"solvers": "newton"},
            "--solvers: 'newton' is not allowed; allowed: gradient, projection, ",
        ),
        ({"local_steps": "1,x"}, "local-steps = 'x' is not allowed; allowed: a whole number >= 1"),
        ({"local_steps": "0"}, "local-steps = 0 is not allowed"),
        ({"seeds": "-1"}, "seed = -1 is not allowed; allowed: a whole number >= 0"),
        ({"alphas": "0"}, "alpha = 0.0 is not allowed; allowed: a number > 0"),
        ({"alphas": "small"}, "alpha = 'small' is not allowed"),
        ({"stop": 90.0}, "stop-at-certified-angle = 90.0 is not allowed"),
    ],
)
def test_a_bad_word_is_named(lists: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        plan({}, **lists)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


# what came of a run


def row(number: int, certified: float | None) -> dict[str, Any]:
    return {
        "round": number, "true_angle_deg": None, "certified_angle_deg": certified, "errors": 0,
        "test_accuracy": None, "bytes": {"sent": 1, "received": 4_000_000}, "clients": 2,
    }  # fmt: skip


def write_run(path: Path, *certified: float | None, summary: bool = True) -> None:
    path.mkdir(parents=True)
    lines = [json.dumps(row(number, angle)) + "\n" for number, angle in enumerate(certified, start=1)]
    (path / "rounds.jsonl").write_text("".join(lines), encoding="utf-8")
    if summary:
        (path / "summary.json").write_text('{"seconds": 1.5}', encoding="utf-8")


def test_the_first_round_within_the_target_counts(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 180.0, 0.5, 0.05, 0.2)
    config = Config.of({"strategy": "local-gd", "local-steps": 3, "seed": 4})
    assert outcome_of(config, tmp_path / "run", 0.5) == Outcome(
        "local-gd", "gradient", 3, 4, rounds=4, to_target=2, certified_angle_deg=0.2, errors=0,
        megabytes=8.0, seconds=1.5, alpha=0.3, directory="run",
    )  # fmt: skip
    assert outcome_of(config, tmp_path / "run", 0.04).to_target is None


def test_what_there_is_of_a_failed_run(tmp_path: Path) -> None:
    write_run(tmp_path / "cut", None, summary=False)  # no certificate: squared loss, or not separable
    config = Config.of({"strategy": "consensus"})
    cut, none = (outcome_of(config, tmp_path / name, 1.0, "why") for name in ("cut", "none"))
    assert (cut.rounds, cut.to_target, cut.seconds, cut.failure) == (1, None, None, "why")
    assert none == Outcome("consensus", "projection", None, 0, failure="why", alpha=0.3, directory="none")
    assert conclusion(none) == "failed: why"


def test_the_tables(tmp_path: Path) -> None:
    outcomes = [
        Outcome("local-gd", "gradient", 10, 0, 300, None, 19.4, 44.7, 0, 0.975, 1.264, 2.5, alpha=0.1),
        Outcome("cutting-plane", "projection", None, 0, 5, 5, 2.6e-12, 0.0001, 0, 1.0, 0.1, 0.2),
        Outcome("consensus", "projection", None, 0, failure="a | b"),
    ]
    write_tables(tmp_path, outcomes, 0.1)
    text = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert text[0].startswith("| strategy | K | α | seed | rounds to 0.1° | rounds | true |")
    assert text[2] == (
        "| local-gd with gradient | 10 | 0.1 | 0 | > 300 | 300 | 19.40° | 44.70° | 0 | 97.5% | "
        "1.26 | 2.50 |  |"
    )
    assert text[3].startswith("| cutting-plane with projection | - | - | 0 | 5 | 5 | 2.6e-12° | 0.0001° |")
    assert text[4].endswith(r"| a \| b |")
    with open(tmp_path / "table.csv", encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert float(read[0]["true_angle_deg"]) == 19.4
    assert [r["to_target"] for r in read] == ["", "5", ""]
    shown = io.StringIO()
    show(outcomes, 0.1, Console(file=shown, width=80))
    lines = shown.getvalue()
    assert all(len(line) <= 80 for line in lines.splitlines())
    assert "…" not in lines
    for word in ("cutting-plane", "projection", "> 300", "failed", "0.0001°", "97.5%"):
        assert word in lines
    assert "seed" not in lines, "there is only one"


# several runs


def test_a_failing_run_does_not_lose_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run_in_process(config: Config) -> None:
        ran.append(config.strategy)
        FLOWER_LOGGER.info("working")
        if config.strategy == "consensus":
            raise NotSeparable("these data")
        if config.strategy == "cutting-plane":
            raise ZeroDivisionError("one\ntwo")
        write_run(Path(config.out), 0.01)

    monkeypatch.setattr(compare, "run_in_process", run_in_process)
    handlers = list(FLOWER_LOGGER.handlers)
    planned = plan({"dataset": "synthetic", "out": str(tmp_path / "out")}, "consensus,cutting-plane,local-gd")
    said = io.StringIO()
    with pytest.raises(RunError, match="2 of 3 runs failed: these data"):
        compare.compare(planned, Console(file=said, width=100))
    assert ran == ["consensus", "cutting-plane", "local-gd"]
    assert FLOWER_LOGGER.handlers == handlers
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "| these data |" in table
    assert "| ZeroDivisionError: two |" in table
    assert "| local-gd with gradient | 100 | 0.3 | 0 | 1 |" in table
    lines = said.getvalue().splitlines()
    assert lines[0] == "1/3 consensus-projection-seed0: failed: these data"
    assert str(tmp_path / "out" / "table.md") in lines[-1]
    assert table.splitlines()[-1] == lines[-2] == legend(0.1)
    with pytest.raises(UserError, match="already holds a comparison"):
        compare.compare(planned, Console(file=said))
    assert len(ran) == 3


def test_an_interruption_loses_its_own_run_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_in_process(config: Config) -> None:
        if config.strategy == "consensus":
            raise KeyboardInterrupt
        write_run(Path(config.out), 0.01)

    monkeypatch.setattr(compare, "run_in_process", run_in_process)
    planned = plan({"dataset": "synthetic", "out": str(tmp_path / "out")}, "local-gd,consensus")
    with pytest.raises(KeyboardInterrupt):
        compare.compare(planned, Console(file=io.StringIO()))
    assert "local-gd" in (tmp_path / "out" / "table.csv").read_text(encoding="utf-8")


def test_each_line_of_the_log_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        compare, "run_in_process", lambda config: FLOWER_LOGGER.log(logging.INFO, "%4d  of", 3)
    )
    lines: list[str] = []
    compare.run_one(Config.of({}), tmp_path / "run", 0.1, lines.append)
    assert lines == ["3 of"]


def test_a_data_set_that_is_not_there_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown data set 'tisue'; did you mean 'tissue'"):
        compare.compare(plan({"dataset": "tisue", "out": str(tmp_path / "out")}), Console(file=io.StringIO()))
    assert not (tmp_path / "out").exists()
