"""The run directory: written once, never over another run, readable by anything."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from common.config import Config
from common.errors import UserError
from common.federation import Client, Federation
from common.handshake import Preparation
from common.model import Model
from common.scaling import Scaling
from server.results import RunDirectory, versions

SCALING = Scaling(np.array([1.0, 2.0]), np.array([4.0, 8.0]), intercept=True)
FEDERATION = Federation(
    (Client(2, "a", 5, "f00d", max_norm=1.0, beta=0.25), Client(1, "b", 7, "cafe", max_norm=0.5, beta=0.125)),
    Preparation(SCALING, ("ill", "well")),
    norm=2.0,
)


def config(out: Path | str = "") -> Config:
    return Config.of({"out": str(out), "local-steps": 7})


def test_everything_is_written(tmp_path: Path) -> None:
    directory = RunDirectory(config(tmp_path / "new" / "run"))
    directory.write_handshake(FEDERATION, (0.1, 0.01))
    for number in (1, 2):
        directory.write_row({"round": number, "loss": 0.1 + 0.2, "margin": None})
        rows = (directory.path / "rounds.jsonl").read_text().splitlines()  # there at once
        assert json.loads(rows[-1]) == {"round": number, "loss": 0.1 + 0.2, "margin": None}
        assert len(rows) == number
    model = Model.of(np.array([1.0, 2.0, 3.0]), FEDERATION.scaling, ("ill", "well"))
    directory.write_models(model, model)
    directory.write_summary({"rounds": 2})

    resolved = tomllib.loads((directory.path / "config.toml").read_text())
    assert Config.of(resolved) == config(tmp_path / "new" / "run")
    assert (resolved["local-steps"], resolved["solver"]) == (7, "proximal")
    assert json.loads((directory.path / "handshake.json").read_text()) == {
        "clients": [
            {"name": "a", "count": 5, "fingerprint": "f00d", "max_norm": 1.0, "beta": 0.25},
            {"name": "b", "count": 7, "fingerprint": "cafe", "max_norm": 0.5, "beta": 0.125},
        ],
        "classes": ["ill", "well"],
        "dimension": 3,
        "intercept": True,
        "loss": "logistic",
        "norm": 2.0,
        "beta": 0.25,
        "learning_rate": 0.1,
        "regularization": 0.01,
    }
    summary = json.loads((directory.path / "summary.json").read_text())
    assert summary == {"rounds": 2, "versions": versions()}
    for name in ("model.npz", "best.npz"):
        with np.load(directory.path / name, allow_pickle=False) as file:
            assert set(file.files) == {"weights", "intercept", "classes", "mean", "scale", "columns"}
            score = (np.array([5.0, 10.0]) - file["mean"]) / file["scale"] @ file["weights"] + file[
                "intercept"
            ]
            assert score == pytest.approx((1.0 * 1.0 + 1.0 * 2.0 + 3.0) / 2)  # rows are divided by 2
        assert (directory.path / name).stat().st_mode & 0o777 == 0o644
    assert not list(directory.path.glob(".*")), "a temporary file is left"


def test_an_empty_directory_will_do(tmp_path: Path) -> None:
    directory = RunDirectory(config(tmp_path))
    assert directory.path == tmp_path
    directory.write_summary({})


@pytest.mark.parametrize("name", ["rounds.jsonl", "summary.json"])
def test_another_run_is_not_written_over(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(UserError, match=re.escape(f"out = '{tmp_path}' already holds a run")):
        RunDirectory(config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=re.escape(f"cannot write to out = '{out}': ")):
            RunDirectory(config(out))


def test_a_run_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    first = RunDirectory(config(tmp_path / "run"))
    with pytest.raises(UserError, match="another process is writing to"):
        RunDirectory(config(tmp_path / "run"))
    first.write_summary({"rounds": 0})


def test_names_are_made_up_and_never_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20260102-030405")
    made = [RunDirectory(config()) for _ in range(3)]
    stem = "runs/20260102-030405-modified-local-gd"
    assert [str(directory.path) for directory in made] == [stem, f"{stem}-1", f"{stem}-2"]
    for directory in made:
        directory.write_summary({})


def test_versions() -> None:
    assert {"python", "localgd", "flwr", "numpy"} <= versions().keys()
    assert versions()["numpy"] == np.__version__
