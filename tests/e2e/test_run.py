"""`localgd run`: what a run leaves behind, and that it is what the rounds say."""

import importlib.util
import re
import signal
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from common import virtual
from common.config import Config
from common.reference import max_margin
from tests.e2e.data import TISSUE, RunFiles, blobs, scores, signs, write_csv, write_federation, write_npz
from tests.processes import Finished, Processes

pytestmark = pytest.mark.xdist_group("e2e-run")

Command = Callable[..., Finished]
KEYS = {
    "round", "loss", "errors", "test_accuracy", "margin", "margin_bound", "certified_angle_deg",
    "true_angle_deg", "reference_distance", "weight_norm", "turn_deg", "drift_deg", "client_drift_deg",
    "active", "clients",
    "missing", "without", "seconds", "bytes",
}  # fmt: skip
LATER = {
    "seconds",
    "margin_bound",
    "certified_angle_deg",
}  # what a row owes to the clock and to the next round
EXAMPLE = Config.of({"dataset": "tissue"})


@dataclass(frozen=True)
class Run(RunFiles):
    """A run directory and how the command that made it ended."""

    finished: Finished


def run(processes: Processes, out: Path, *arguments: object) -> Run:
    finished = processes.localgd("run", TISSUE, "--out", out, *arguments).wait()
    assert finished.code == 0, finished.stderr
    return Run(out, finished)


@pytest.fixture(scope="session")
def short(shared: Processes) -> Run:
    """20 rounds of the example."""
    return run(shared, shared.folder / "short", "-c", "num-server-rounds=20")


@pytest.fixture(scope="session")
def long(shared: Processes) -> Run:
    """The example as it is: 300 rounds."""
    return run(shared, shared.folder / "long")


def test_the_last_line_says_what_was_reached_and_where_the_results_are(short: Run, long: Run) -> None:
    for done, most_true, most_certified in ((short, 20, 60), (long, 8, 30)):
        said = re.search(r"true angle ([\d.]+)°.*certified angle ([\d.]+)°", done.finished.last_line)
        assert said, done.finished.last_line
        assert 0 < float(said[1]) <= most_true
        assert float(said[1]) <= float(said[2]) <= most_certified
        assert str(done.path) in done.finished.last_line
        assert done.finished.stderr == ""


def test_the_run_directory_holds_exactly_what_is_promised(short: Run) -> None:
    names = {path.name for path in short.path.iterdir()}
    assert names == {
        "config.toml",
        "handshake.json",
        "rounds.jsonl",
        "summary.json",
        "model.npz",
        "best.npz",
        "checkpoint",
        "report.html",
        "plots",
    }
    summary = short.json("summary.json")
    assert summary["strategy"] == "modified-local-gd"
    assert (summary["rounds"], summary["stopped_by"]) == (20, "rounds")
    assert summary["final"] == short.rows[-1]
    assert summary["seconds"] > 0
    assert {"python", "localgd", "flwr", "numpy"} <= summary["versions"].keys()
    config = tomllib.loads((short.path / "config.toml").read_text())
    assert config["num-server-rounds"] == 20
    assert config["solver"] == "projection"
    assert Config.of(config).values() == config, "not all keys, or one that is not resolved"


def test_every_round_has_one_row_with_every_key(long: Run) -> None:
    rows = long.rows
    assert [row["round"] for row in rows] == list(range(1, 301))
    for row in rows:
        assert row.keys() == KEYS
        assert row["true_angle_deg"] <= row["certified_angle_deg"] + 1e-5, "the certificate does not hold"
        assert row["seconds"]["total"] >= row["seconds"]["clients"] + row["seconds"]["combine"] > 0
        assert row["bytes"].keys() == {"sent", "received"}
        assert row["bytes"]["sent"] > 6 * 8 * 501  # six clients, one float64 vector each
        assert (row["clients"], row["missing"]) == (6, [])
    assert [rows[0]["turn_deg"], rows[0]["test_accuracy"]] == [None, 1.0]
    bounds = [row["margin_bound"] for row in rows]
    assert bounds == sorted(bounds, reverse=True), "not the smallest bound so far"


def test_row_r_describes_the_model_after_round_r(short: Run, long: Run) -> None:
    """The 20 rounds are the first of the 300: the same model is measured by an evaluation and by round 21."""
    for ours, theirs in zip(short.rows, long.rows, strict=False):
        skip = LATER if ours["round"] == 20 else {"seconds"}
        assert {k: ours[k] for k in ours.keys() - skip} == {k: theirs[k] for k in theirs.keys() - skip}
    assert short.rows[19]["margin_bound"] >= long.rows[19]["margin_bound"]


@pytest.mark.parametrize("name", ["short", "long"])
def test_the_last_row_is_what_the_model_file_gives_on_the_shards(
    name: str, request: pytest.FixtureRequest
) -> None:
    done: Run = request.getfixturevalue(name)
    model, row, norm = done.model(), done.rows[-1], done.json("handshake.json")["norm"]
    classes = tuple(model["classes"].tolist())
    assert classes == ("brain", "other")
    assert model["weights"].shape == model["mean"].shape == model["scale"].shape == (500,)
    margins = []
    for k in range(6):
        part = virtual.shard(EXAMPLE, k)
        margins.append(signs(part.y, classes) * scores(model, part.X))
        assert (np.where(scores(model, part.X) > 0, *classes[::-1]) == part.y).all()
    length = float(np.linalg.norm(done.weights))
    assert row["weight_norm"] == pytest.approx(length, rel=1e-12)
    assert row["margin"] == pytest.approx(min(m.min() for m in margins) / length, rel=1e-9)
    assert row["loss"] == pytest.approx(np.mean([np.log1p(np.exp(-m)).mean() for m in margins]), rel=1e-9)
    assert row["errors"] == 0
    test = virtual.held_out(EXAMPLE)
    assert test is not None
    assert row["test_accuracy"] == np.mean(signs(test.y, classes) * scores(model, test.X) > 0)
    everything = np.vstack([(virtual.shard(EXAMPLE, k).X - model["mean"]) / model["scale"] for k in range(6)])
    assert max(np.linalg.norm(np.pad(everything, ((0, 0), (0, 1)), constant_values=1 / norm), axis=1)) == (
        pytest.approx(1.0, rel=1e-12)
    )


def test_the_best_model_is_the_one_with_the_smallest_certified_angle(long: Run) -> None:
    angles = [row["certified_angle_deg"] for row in long.rows]
    assert long.json("summary.json")["best_round"] == 1 + max(
        k for k, x in enumerate(angles) if x == min(angles)
    )
    best, final = long.model("best.npz"), long.model()
    assert all(np.array_equal(best[key], final[key]) for key in final)  # here it is the last one


def test_the_handshake_file_describes_the_clients(short: Run) -> None:
    told = short.json("handshake.json")
    assert [client["name"] for client in told["clients"]] == [f"client-{k}" for k in range(6)]
    assert [client["count"] for client in told["clients"]] == [
        len(virtual.shard(EXAMPLE, k).y) for k in range(6)
    ]
    assert told["classes"] == ["brain", "other"]
    assert (told["dimension"], told["intercept"]) == (501, True)
    assert max(client["max_norm"] for client in told["clients"]) == pytest.approx(1.0, rel=1e-12)
    assert told["beta"] == max(client["beta"] for client in told["clients"])
    assert (told["learning_rate"], told["regularization"]) == (1 / (100 * told["beta"]), 0.0)


def test_config_toml_runs_again_to_the_same_weights(short: Run, localgd: Command, tmp_path: Path) -> None:
    assert localgd("run", short.path / "config.toml", "--out", "again").code == 0
    again = RunFiles(tmp_path / "again")
    assert np.array_equal(again.weights, short.weights)
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in again.rows] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in short.rows
    ]


def test_without_out_the_run_directory_gets_a_name_of_its_own(localgd: Command, tmp_path: Path) -> None:
    for _ in range(2):
        finished = localgd("run", TISSUE, "-c", "num-server-rounds=1", "-c", "reference=none")
        assert finished.code == 0
        assert "true angle" not in finished.last_line
    found = sorted((tmp_path / "runs").iterdir())
    assert len(found) == 2
    assert all(re.match(r"\d{8}-\d{6}-modified-local-gd", path.name) for path in found)
    assert RunFiles(found[0]).rows[0]["true_angle_deg"] is None


def test_stop_at_certified_angle_ends_with_the_model_of_the_last_row(
    long: Run, localgd: Command, tmp_path: Path
) -> None:
    assert localgd("run", TISSUE, "--out", "early", "-c", "stop-at-certified-angle=30").code == 0
    early = RunFiles(tmp_path / "early")
    rows, summary = early.rows, early.json("summary.json")
    assert summary["stopped_by"] == "certified-angle"
    assert summary["rounds"] == rows[-1]["round"] == len(rows) < 300
    assert rows[-1]["certified_angle_deg"] <= 30 < rows[-2]["certified_angle_deg"]
    assert rows[-1]["weight_norm"] == pytest.approx(np.linalg.norm(early.weights), rel=1e-12)
    assert {k: rows[-1][k] for k in KEYS - {"seconds"}} == {
        k: long.rows[len(rows) - 1][k] for k in KEYS - {"seconds"}
    }


def test_init_goes_on_from_a_model_file(localgd: Command, tmp_path: Path) -> None:
    """Local-GD has no memory, so twice four rounds are eight."""
    plain = ("run", TISSUE, "-c", "strategy=local-gd", "-c", "solver=gradient", "-c", "reference=none")
    assert localgd(*plain, "-c", "num-server-rounds=8", "--out", "whole").code == 0
    assert localgd(*plain, "-c", "num-server-rounds=4", "--out", "half").code == 0
    assert (
        localgd(*plain, "-c", "num-server-rounds=4", "-c", "init=half/model.npz", "--out", "rest").code == 0
    )
    whole, rest = RunFiles(tmp_path / "whole"), RunFiles(tmp_path / "rest")
    assert np.allclose(rest.weights, whole.weights, rtol=1e-9, atol=0)
    assert rest.rows[0]["turn_deg"] is not None, "the first round's turn is from the initial model"


def test_init_takes_a_plain_weight_vector(localgd: Command, tmp_path: Path) -> None:
    start = np.linspace(1, 2, 501)
    np.savez(tmp_path / "start.npz", weights=start)
    assert (
        localgd(
            "run", TISSUE, "--out", "run", "-c", "init=start.npz", "-c", "num-server-rounds=1",
            "-c", "solver=proximal", "-c", "local-steps=1", "-c", "learning-rate=1e-300",
        ).code == 0
    )  # fmt: skip
    assert np.allclose(RunFiles(tmp_path / "run").weights, start, rtol=1e-12, atol=0)


def test_reference_from_a_file(short: Run, localgd: Command, tmp_path: Path) -> None:
    model, norm = short.model(), short.json("handshake.json")["norm"]
    parts = [virtual.shard(EXAMPLE, k) for k in range(6)]
    rows = [
        signs(p.y, ("brain", "other"))[:, None]
        * np.pad((p.X - model["mean"]) / model["scale"], ((0, 0), (0, 1)), constant_values=1 / norm)
        for p in parts
    ]
    exact = max_margin(np.vstack(rows))
    assert exact is not None
    np.savez(tmp_path / "exact.npz", weights=exact.weights)
    for file in ("exact.npz", short.path / "model.npz"):
        out = f"with-{Path(file).stem}"
        assert localgd("run", short.path / "config.toml", "--out", out, "-c", f"reference={file}").code == 0
    angles = [row["true_angle_deg"] for row in RunFiles(tmp_path / "with-exact").rows]
    assert angles == pytest.approx([row["true_angle_deg"] for row in short.rows], abs=1e-5)
    assert RunFiles(tmp_path / "with-model").rows[-1]["true_angle_deg"] < 1e-6


def test_data_dir_with_npz_and_csv_files_and_a_test_file(
    short: Run, shards: Path, localgd: Command, tmp_path: Path
) -> None:
    for k in range(6):
        write = write_csv if k % 2 else write_npz
        write(tmp_path / "data" / f"client-{k}.{'csv' if k % 2 else 'npz'}", virtual.shard(EXAMPLE, k))
    (tmp_path / "data" / "README.txt").write_text("not data")
    arguments = ("-c", "dataset=file", "-c", "data-dir=data", "-c", "num-server-rounds=20")
    test = ("-c", f"test={shards / 'held-out' / 'test.npz'}")
    assert localgd("run", TISSUE, *arguments, *test, "--out", "files").code == 0
    files = RunFiles(tmp_path / "files")
    assert np.allclose(files.weights, short.weights, rtol=1e-12, atol=0)
    for ours, theirs in zip(files.rows, short.rows, strict=True):
        assert ours["turn_deg"] == theirs["turn_deg"] or ours["round"] > 1
        for key in KEYS - {"seconds", "bytes", "missing", "turn_deg"}:
            if theirs[key] is None:  # not for pytest.approx
                assert ours[key] is None, key
            else:
                assert ours[key] == pytest.approx(theirs[key], rel=1e-9), key


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("solver", ["projection", "proximal"])
def test_torch_gives_the_same_weights(solver: str, localgd: Command, tmp_path: Path) -> None:
    for engine in ("numpy", "torch"):
        arguments = ("-c", f"engine={engine}", "-c", f"solver={solver}", "-c", "num-server-rounds=20")
        assert localgd("run", TISSUE, *arguments, "-c", "reference=none", "--out", engine).code == 0
    ours, theirs = RunFiles(tmp_path / "torch").weights, RunFiles(tmp_path / "numpy").weights
    assert np.linalg.norm(ours - theirs) <= 1e-9 * np.linalg.norm(theirs)


def test_a_client_that_is_not_separable_ends_a_projection_run(localgd: Command, tmp_path: Path) -> None:
    finished = localgd(
        "run", TISSUE, "--out", "run", "-c", "dataset=ionosphere", "-c", "clients=1", "-c", "reference=none"
    )
    assert finished.code == 1
    [line] = finished.stderr.splitlines()
    assert re.search(r"client-0 alone are not linearly separable.*gradient.*proximal.*\(see run\)", line)
    directory = RunFiles(tmp_path / "run")
    summary = directory.json("summary.json")
    assert (summary["stopped_by"], summary["rounds"], summary["final"]) == ("not-separable", 0, None)
    assert directory.rows == []
    assert (directory.path / "config.toml").exists()
    assert (directory.path / "handshake.json").exists()


def test_an_interrupt_is_one_line_and_keeps_the_rows(processes: Processes, tmp_path: Path) -> None:
    data = write_federation(tmp_path / "data", blobs(0), blobs(1))
    running = processes.localgd(
        "run", TISSUE, "--out", tmp_path / "run", "-c", "dataset=file", "-c", f"data-dir={data}",
        "-c", "num-server-rounds=1000000", "-c", "reference=none",
    )  # fmt: skip
    running.wait_for(r"\n +3 ")
    running.signal(signal.SIGINT)
    finished = running.wait()
    assert (finished.code, finished.stderr) == (130, "localgd: interrupted\n")
    directory = RunFiles(tmp_path / "run")
    assert directory.json("summary.json")["stopped_by"] == "interrupted"
    assert directory.json("summary.json")["final"] == directory.rows[-1]
