"""The ServerApp over an in-process grid: what a run leaves behind when it ends well, and when it does not."""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict

from client.app import app as client_app
from client.dataset import node_config
from common.config import Config
from common.errors import NotSeparable, RunError, UserError
from common.solution import SolverSettings
from localgd.live import handled_by
from server.app import app, solver_settings
from server.grids.in_process import InProcessGrid
from tests.e2e.data import RunFiles, blobs, write_federation

Said = list[str]


class Grid(InProcessGrid):
    """Calls a function before every exchange, with its number from 1: the handshake's are 1 and 2."""

    def __init__(self, folder: Path, before: Callable[[int], None]) -> None:
        files = sorted(folder.glob("*.npz"))
        super().__init__(client_app, [node_config(file, "label", None) for file in files], {})
        self.before, self.exchanges = before, 0

    def exchange(self, messages: Iterable[Message], timeout: float | None = None) -> Iterator[Message]:
        self.exchanges += 1
        self.before(self.exchanges)
        return super().exchange(messages, timeout)


@pytest.fixture
def said() -> Iterator[Said]:
    """What the server logs."""
    lines: Said = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    with handled_by(Recorder()):
        yield lines


@pytest.fixture
def run(tmp_path: Path, said: Said) -> Callable[..., Grid]:
    """Run the ServerApp over two clients, into tmp_path/run."""
    data = write_federation(tmp_path / "data", blobs(0), blobs(1))

    def start(before: Callable[[int], None] = lambda number: None, **keys: Any) -> Grid:
        values: dict[str, Any] = {"dataset": "file", "data-dir": str(data), "out": str(tmp_path / "run")}
        values |= {"num-server-rounds": 4, "reference": "none"}
        values |= {name.replace("_", "-"): value for name, value in keys.items()}
        grid = Grid(data, before)
        app(grid, Context(1, 0, {}, RecordDict(), values))
        return grid

    return start


def raise_at(number: int, error: BaseException) -> Callable[[int], None]:
    def before(exchange: int) -> None:
        if exchange == number:
            raise error

    return before


def test_a_run_says_what_it_does(run: Callable[..., Grid], said: Said, tmp_path: Path) -> None:
    grid = run()
    assert grid.exchanges == 2 + 4 + 1, "the handshake, the rounds, the closing evaluation"
    assert re.fullmatch(
        r"modified-local-gd with proximal, K = 100, learning rate [\d.]+: 2 clients, 24 examples, 4 weights",
        said[0],
    )
    assert said[1].split()[:2] == ["round", "loss"]
    assert [int(line.split()[0]) for line in said[2:-1]] == [1, 2, 3, 4]
    assert said[-1].startswith("after round 4: certified angle ")
    assert said[-1].endswith(f"; results in {tmp_path / 'run'}, shown by report.html")
    told = RunFiles(tmp_path / "run").json("summary.json")
    assert (told["rounds"], told["stopped_by"], told["strategy"]) == (4, "rounds", "modified-local-gd")


def test_the_reference_is_computed_where_all_data_are(run: Callable[..., Grid], said: Said) -> None:
    pytest.importorskip("scipy")
    run(reference="auto", solver="projection", num_server_rounds=1)
    assert re.search(r"with projection: .*, best margin 0\.\d{5}$", said[0])
    assert said[-1].startswith("after round 1: true angle ")


@pytest.mark.parametrize(
    ("error", "stopped_by"),
    [
        (RunError("no power"), "failed"),
        (UserError("no power"), "failed"),
        (NotSeparable("no power"), "not-separable"),
    ],
)
def test_an_expected_failure_keeps_its_kind_and_says_where_to_look(
    error: Exception, stopped_by: str, run: Callable[..., Grid], tmp_path: Path
) -> None:
    with pytest.raises(type(error)) as caught:
        run(raise_at(2 + 3, error))
    assert type(caught.value) is type(error)
    assert str(caught.value) == f"no power (see {tmp_path / 'run'})"
    left = RunFiles(tmp_path / "run")
    told = left.json("summary.json")
    assert (told["stopped_by"], told["error"], told["rounds"]) == (stopped_by, "no power", 1)
    assert told["final"] == left.rows[-1]
    assert left.rows[-1]["round"] == 1, "round 2 was not measured"
    assert not (left.path / "model.npz").exists()


@pytest.mark.parametrize(
    ("error", "stopped_by"), [(KeyboardInterrupt(), "interrupted"), (MemoryError(), "failed")]
)
def test_any_other_end_is_written_down_and_passed_on(
    error: BaseException, stopped_by: str, run: Callable[..., Grid], tmp_path: Path
) -> None:
    with pytest.raises(type(error)) as caught:
        run(raise_at(2 + 1, error))
    assert caught.value is error
    told = RunFiles(tmp_path / "run").json("summary.json")
    assert (told["stopped_by"], told["rounds"], told["final"]) == (stopped_by, 0, None)
    assert told["error"]
    assert RunFiles(tmp_path / "run").rows == []


@pytest.mark.parametrize("exchange", [1, 2])
def test_a_failed_handshake_leaves_no_directory(
    exchange: int, run: Callable[..., Grid], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"^no power$"):
        run(raise_at(exchange, RunError("no power")))
    assert not (tmp_path / "run").exists()


def test_a_refused_configuration_asks_no_client(run: Callable[..., Grid]) -> None:
    asked: list[int] = []
    with pytest.raises(UserError, match="did you mean 'local-steps'"):
        run(asked.append, local_step=3)
    assert asked == []


def test_a_step_that_is_too_long_for_a_proximal_solve(run: Callable[..., Grid], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"learning-rate = 1e\+09 is too long.*'proximal'.*allowed: <= "):
        run(learning_rate=1e9)
    assert not (tmp_path / "run").exists()


def test_the_clients_are_told_what_the_configuration_says() -> None:
    config = Config.of(
        {
            "strategy": "local-gd", "local-steps": 7, "learning-rate": 0.5, "regularization": 0.25,
            "engine": "torch", "device": "cuda",
        }
    )  # fmt: skip
    assert solver_settings(config) == SolverSettings(
        "gradient", "logistic", 7, 0.5, 0.25, "torch", "cuda", beta=0.0, norm=1.0, preparation=""
    )


def test_the_summary_is_plain_json(run: Callable[..., Grid], tmp_path: Path) -> None:
    run(stop_at_certified_angle=89.0, solver="projection")
    text = (tmp_path / "run" / "summary.json").read_text()
    told = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert told["stopped_by"] == "certified-angle"
    assert told["seconds"] >= 0
