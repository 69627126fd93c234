"""`localgd predict` and `localgd reference`, on models that a run has left and on models made by hand."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.datafiles import Dataset
from common.datafiles.checks import column_fingerprint
from common.model import Model
from tests.e2e.data import RunFiles, blobs, scores, write_csv, write_federation, write_npz
from tests.processes import Finished

Command = Callable[..., Finished]
ROWS = Dataset(np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.5]]), np.array(["ill", "well", "well"]))
TWO = Model(np.array([-1.0, 2.0]), np.array(0.5), ("ill", "well"), np.array([1.0, 0.0]), np.array([2.0, 1.0]))
"""Scores of ROWS: 0, 7, 3.5; a score of 0 is the first class."""
THREE = Model(
    np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]), np.zeros(3), ("a", "b", "c"), np.zeros(2), np.ones(2)
)
NUMBERS = Model(np.array([1.0, 1.0]), np.array(1.0), (), np.zeros(2), np.ones(2))


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_predictions_on_stdout_and_how_good_they_are_on_stderr(localgd: Command, tmp_path: Path) -> None:
    TWO.save(tmp_path / "model.npz")
    write_csv(tmp_path / "rows.csv", ROWS)
    finished = localgd("predict", "model.npz", "rows.csv")
    assert finished.code == 0
    assert read(finished.stdout) == [
        {"row": "1", "label": "ill", "prediction": "ill", "score well": "0.0"},
        {"row": "2", "label": "well", "prediction": "well", "score well": "7.0"},
        {"row": "3", "label": "well", "prediction": "well", "score well": "3.5"},
    ]
    assert finished.stderr.splitlines() == [
        "accuracy 100.0% (3 of 3 rows)",
        "label \\ prediction  ill  well",
        "ill                   1     0",
        "well                  0     2",
    ]


def test_a_file_without_labels(localgd: Command, tmp_path: Path) -> None:
    TWO.save(tmp_path / "model.npz")
    (tmp_path / "rows.csv").write_text("age,dose\n2,0\n0,3\n")
    np.savez(tmp_path / "rows.npz", X=ROWS.X[:2])
    for name in ("rows.csv", "rows.npz"):
        finished = localgd("predict", "model.npz", name)
        assert [(row["row"], row["prediction"]) for row in read(finished.stdout)] == [
            ("1", "ill"),
            ("2", "well"),
        ]
        assert finished.stderr == "2 rows without labels\n"


def test_several_classes_into_a_file(localgd: Command, tmp_path: Path) -> None:
    THREE.save(tmp_path / "model.npz")
    write_npz(tmp_path / "rows.npz", replace(ROWS, y=np.array(["a", "c", "b"])))
    finished = localgd("predict", "model.npz", "rows.npz", "--out", "predictions.csv")
    assert (finished.code, finished.stderr) == (0, "")
    assert finished.stdout.splitlines() == [
        "accuracy 66.7% (2 of 3 rows)",
        "label \\ prediction  a  b  c",
        "a                   1  0  0",
        "b                   0  1  0",
        "c                   0  1  0",
    ]
    [_, second, _] = read((tmp_path / "predictions.csv").read_text())
    assert second == {
        "row": "2", "label": "c", "prediction": "b", "score a": "0.0", "score b": "3.0", "score c": "-3.0",
    }  # fmt: skip
    again = localgd("predict", "model.npz", "rows.npz", "--out", "predictions.csv")
    assert (again.code, again.stderr) == (
        2,
        "localgd: --out predictions.csv exists already; name a new file\n",
    )


def test_numbers(localgd: Command, tmp_path: Path) -> None:
    NUMBERS.save(tmp_path / "model.npz")
    write_npz(tmp_path / "rows.npz", replace(ROWS, y=np.array(["3", "4", "4"])))
    finished = localgd("predict", "model.npz", "rows.npz")
    assert [row["prediction"] for row in read(finished.stdout)] == ["3.0", "4.0", "3.5"]
    assert finished.stderr == "R² 0.6250 on 3 rows\n"  # 1 − 0.25/(2/3)


def test_sparse_rows_narrower_than_the_model(localgd: Command, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    NUMBERS.save(tmp_path / "model.npz")
    (tmp_path / "rows.svm").write_text("3 1:2\n1\n")
    finished = localgd("predict", "model.npz", "rows.svm")
    assert [row["prediction"] for row in read(finished.stdout)] == ["3.0", "1.0"]


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ("age,dose,label\n1,2,well\n2,x,ill\n", (), r"rows\.csv: row 2 \(line 3\), column 'dose': 'x'"),
        ("age,dose,height,label\n1,2,3,well\n", (), "3 feature columns, and the model takes 2"),
        ("age,dose,diagnosis\n1,2,3\n", (), "3 feature columns.*takes 2; if one .*--label"),
        (
            "age,dose,diagnosis\n1,2,ill\n",
            ("--label", "diagnose"),
            "no label column.*did you mean 'diagnosis'",
        ),
        ("dose,age,label\n1,2,well\n", (), "other names, or in another order.*'dose', 'age'"),
        ("age,dose,label\n1,2,well\n3,4,dead\n", (), r"row 2: the label 'dead' .*\(ill, well\)"),
    ],
)
def test_rows_that_do_not_fit(
    content: str, arguments: tuple[str, ...], said: str, localgd: Command, tmp_path: Path
) -> None:
    replace(TWO, columns=column_fingerprint(("age", "dose"))).save(tmp_path / "model.npz")
    (tmp_path / "rows.csv").write_text(content)
    finished = localgd("predict", "model.npz", "rows.csv", *arguments)
    assert (finished.code, finished.stdout) == (2, "")
    [line] = finished.stderr.splitlines()
    assert re.search(said, line), line


def test_models_that_are_none(localgd: Command, tmp_path: Path) -> None:
    write_npz(tmp_path / "rows.npz", ROWS)
    (tmp_path / "empty").mkdir()
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "rounds.jsonl").write_text("")
    replace(TWO, scale=np.ones(3)).save(tmp_path / "crooked.npz")
    replace(TWO, mean=np.array([np.nan, 0])).save(tmp_path / "nan.npz")
    for name, said in (
        ("missing.npz", "cannot be read"),
        ("rows.npz", "lacks weights"),
        ("empty", "name a run directory or a model file"),
        ("failed", "did not end well; --resume failed"),
        ("crooked.npz", "do not fit together"),
        ("nan.npz", "finite numbers"),
    ):
        finished = localgd("predict", name, "rows.npz")
        assert finished.code == 2
        assert said in finished.stderr


def test_a_run_s_own_model_and_the_centralized_one(localgd: Command, tmp_path: Path) -> None:
    """A run's accuracy is that of its model file; the reference is what the run computes for itself."""
    for name, seed in (("north", 0), ("south", 1)):
        write_csv(tmp_path / "data" / f"{name}.csv", blobs(seed))
    write_csv(tmp_path / "test.csv", blobs(2))
    (tmp_path / "config.toml").write_text(
        'dataset = "file"\ndata-dir = "data"\nstrategy = "cutting-plane"\ntest = "test.csv"\nout = "run"\n'
        "stop-at-certified-angle = 0.1\n"
    )
    found = localgd("reference", "config.toml", "--out", "reference.npz")
    assert found.code == 0, found.stderr
    margin = float(found.stdout.split("margin")[1].split(",")[0])
    assert localgd("run", "config.toml", "-c", "reference=reference.npz").code == 0
    run = RunFiles(tmp_path / "run")
    assert run.rows[-1]["true_angle_deg"] <= run.rows[-1]["certified_angle_deg"] <= 0.1
    assert run.rows[-1]["margin"] == pytest.approx(margin, rel=1e-4)

    predicted = localgd("predict", "run", "test.csv")
    assert f"accuracy {100 * run.rows[-1]['test_accuracy']:.1f}%" in predicted.stderr
    ours = [float(row["score 1"]) for row in read(predicted.stdout)]
    np.testing.assert_allclose(ours, scores(run.model(), blobs(2).X), rtol=1e-12)
    write_csv(tmp_path / "other.csv", blobs(2), ("gene 1", "gene 0", "gene 2"))
    refused = localgd("predict", "run", "other.csv")
    assert (refused.code, "another order" in refused.stderr) == (2, True)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["stopped_by"] == "certified-angle"


@pytest.mark.parametrize(
    ("loss", "labels", "said"),
    [
        ("softmax", ("a", "b", "c"), "none is larger"),
        ("squared", ("1", "2"), "least norm"),
        ("logistic", (), "not lin"),
    ],
)
def test_the_centralized_model_of_other_losses(
    loss: str, labels: tuple[str, ...], said: str, localgd: Command, tmp_path: Path
) -> None:
    parts = [blobs(seed, labels=labels or ("0", "1")) for seed in range(2)]
    if not labels:  # the same rows with both labels
        parts[1] = replace(parts[0], y=parts[0].y[::-1].copy())
    write_federation(tmp_path / "data", *parts)
    (tmp_path / "config.toml").write_text(
        f'dataset = "file"\ndata-dir = "data"\nstrategy = "local-gd"\nloss = "{loss}"\n'
    )
    found = localgd("reference", "config.toml")
    assert found.code == 0, found.stderr
    assert said in found.stdout
