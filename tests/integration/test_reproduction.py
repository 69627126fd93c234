"""The studies of the paper: how they are run and kept, and that the document says what they found."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from client.problem import Problem
from client.solvers import descend
from common.losses import LOSSES
from examples.paper import STUDIES, conduct, document
from examples.paper.procedures import proximal_step
from examples.paper.runs import (
    HERE,
    RESULTS,
    Keys,
    Runs,
    combinations,
    complete,
    name_of,
    planned,
    read,
    sampled,
)
from tests.problems import signed_rows

TINY: Keys = {
    "dataset": "synthetic",
    "clients": 3,
    "strategy": "local-gd",
    "learning-rate": "10/beta",
    "local-steps": 5,
    "num-server-rounds": 12,
    "test-fraction": 0.0,
}
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")


# the machinery


def test_a_run_is_made_once_and_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[Keys] = [{**TINY, "local-steps": k} for k in (1, 5)]
    monkeypatch.setattr(conduct, "planned", lambda study: wanted)
    assert conduct.conduct("tiny", workers=1, results=tmp_path) == 2
    file = tmp_path / "tiny.jsonl"
    first = file.read_text("utf-8")
    assert conduct.conduct("tiny", workers=1, results=tmp_path) == 0
    assert file.read_text("utf-8") == first

    wanted[0] = {**TINY, "local-steps": 2}  # another study now; the run that it shares with the first is kept
    assert conduct.conduct("tiny", workers=1, results=tmp_path) == 1
    assert [run["local-steps"] for run in read(file).values()] == [2, 5]
    assert first.splitlines()[1] in file.read_text("utf-8")

    # one that was recorded at other rounds is made again
    file.write_text(file.read_text("utf-8").replace("[1,2,3,5,7,10,12]", "[1,2,3,5,7,11,12]", 1), "utf-8")
    assert conduct.conduct("tiny", workers=1, results=tmp_path) == 1

    for run in read(file).values():
        assert run.facts["failure"] == ""
        assert run.curve["round"] == [1, 2, 3, 5, 7, 10, 12]
        angles = run.curve["true"]
        assert 0 < angles[-1] < angles[0] < 90
        assert all(c >= t for c, t in zip(run.curve["certified"], angles, strict=True))


def test_a_run_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        conduct, "planned", lambda study: [{**TINY, "clients": 3000, "learning-rate": "auto"}]
    )
    conduct.conduct("tiny", workers=1, results=tmp_path)
    (run,) = read(tmp_path / "tiny.jsonl").values()
    assert "clients = 3000" in run.facts["failure"]


def test_hashes_tell_keys_apart_but_not_their_order() -> None:
    assert name_of({"a": 1, "b": 2}) == name_of({"b": 2, "a": 1}) != name_of({"a": 1, "b": 3})


def test_combinations_of_lists() -> None:
    assert [dict(keys) for keys in combinations({"a": [1, 2], "b": 3, "c": ["x", "y"]})] == [
        {"a": a, "b": 3, "c": c} for a in (1, 2) for c in ("x", "y")
    ]


@pytest.mark.parametrize("last", [1, 2, 10, 99, 1000])
def test_recorded_rounds_end_with_the_last(last: int) -> None:
    rounds = sampled(last)
    assert rounds == sorted(set(rounds))
    assert (rounds[0], rounds[-1]) == (1, last)


def test_the_exact_proximal_step_is_what_many_gradient_steps_tend_to() -> None:
    problem = Problem(signed_rows(np.random.default_rng(0), 12, 20, 0.2), LOSSES["logistic"])
    centre = 0.1 * np.random.default_rng(1).standard_normal(20)
    decay = 0.05 * problem.beta
    stepped = descend(problem, centre, 3000, 1 / (problem.beta + decay), decay).displacement
    np.testing.assert_allclose(proximal_step(problem, centre, decay), stepped, rtol=0, atol=1e-9)


@pytest.mark.parametrize("share", [1e-1, 1e-4, 1e-8, 1e-12])
def test_the_exact_proximal_step_is_stationary(share: float) -> None:
    problem = Problem(signed_rows(np.random.default_rng(2), 30, 40, 0.1), LOSSES["logistic"])
    centre = np.random.default_rng(3).standard_normal(40)
    decay = share * problem.beta
    moved = proximal_step(problem, centre, decay)
    pull = problem.adjoint(1 / (1 + np.exp(problem.forward(centre + moved)))) / problem.count
    assert np.linalg.norm(decay * moved - pull) <= 1e-8 * np.linalg.norm(pull)


# the document


@pytest.mark.parametrize("study", STUDIES)
def test_findings_are_those_of_the_runs(study: str) -> None:
    runs = complete(study)
    assert len(runs) == len(planned(study)) > 0
    assert not [run.facts["failure"] for run in runs if run.facts.get("failure")]
    assert document.find(study, runs) == json.loads(document.findings_file(study).read_text("utf-8"))


def test_a_finding_that_the_runs_do_not_show_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from examples.paper import direction

    monkeypatch.setattr(direction, "expected", lambda runs: {"pigs fly": False})
    with pytest.raises(RuntimeError, match="direction: the document says that pigs fly"):
        document.find("direction", Runs())


def test_the_document_is_the_template_filled_with_the_findings() -> None:
    assert document.PAGE.read_text("utf-8") == document.render()


def test_every_number_in_the_document_is_in_a_file_of_results_or_keys() -> None:
    known = set(NUMBER.findall(" ".join(file.read_text("utf-8") for file in RESULTS.glob("*.json"))))
    for study in STUDIES:
        text = (HERE / f"{study}.toml").read_text("utf-8")
        assert tomllib.loads(text)
        known |= set(NUMBER.findall(text))
    page = document.PAGE.read_text("utf-8")
    for apart in (r"```.*?```", r"`[^`]*`", r"\]\([^)]*\)", r"<!--.*?-->", r"\b[A-Z]\w+ et al\. \d{4}"):
        page = re.sub(apart, " ", page, flags=re.DOTALL)
    assert {number for number in NUMBER.findall(page) if number not in known} <= document.NAMED


def test_figures_are_there_small_and_all_of_them_shown() -> None:
    shown = set(re.findall(r"\]\(images/reproduction/([\w-]+\.png)\)", document.PAGE.read_text("utf-8")))
    there = {path.name: path.stat().st_size for path in document.IMAGES.glob("*.png")}
    assert shown == set(there)
    assert max(there.values()) < 150_000
