"""Checkpoints over an in-process grid: a run that goes on is the run that never stopped."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from flwr.app import Context, Error, Message, RecordDict

from client import app as client_module
from client import dataset
from client.app import app as client_app
from client.dataset import node_config
from client.memory import Kept, problem_bytes
from common.errors import RunError, UserError
from common.files import whole
from common.records import message_of
from server import checkpoint
from server.app import app
from server.grids.in_process import InProcessGrid
from tests.e2e.data import RunFiles, assert_identical, blobs, write_federation

HANDSHAKE = 2
ROUNDS = 12
Spoil = Callable[[Message], Message | None]
KINDS: dict[str, dict[str, Any]] = {
    "local-gd": {"strategy": "local-gd", "local-steps": 3},
    "local-sgd": {"strategy": "local-gd", "local-steps": 3, "batch-size": 4},
    "modified": {"strategy": "modified-local-gd", "solver": "projection"},
    "proximal": {"strategy": "modified-local-gd", "local-steps": 3},
    "cutting-plane": {"strategy": "cutting-plane"},
    "consensus": {"strategy": "consensus"},
    "softmax": {"strategy": "cutting-plane", "loss": "softmax"},
    "squared": {"strategy": "local-gd", "loss": "squared", "local-steps": 3},
}


class Grid(InProcessGrid):
    """Raises an error in place of an exchange: 1 and 2 are the handshake's.

    The last client is not here before exchange ``late``; before exchange ``restarts`` it forgets all it knew;
    what it answers in exchange ``spoils`` is changed on its way, or lost.
    """

    def __init__(
        self,
        folder: Path,
        fails_at: int = 0,
        error: BaseException | None = None,
        late: int = 0,
        restarts: Mapping[int, Callable[[], None]] | None = None,
        spoils: Mapping[int, Spoil] | None = None,
    ) -> None:
        files = sorted(folder.glob("*.npz"))
        super().__init__(client_app, [node_config(file, "label", None) for file in files], {})
        self.fails_at, self.error, self.exchanges = fails_at, error or RunError("no power"), 0
        self.late, self.restarts, self.spoils = late, restarts or {}, spoils or {}

    def get_node_ids(self) -> list[int]:
        nodes = super().get_node_ids()
        return nodes if self.exchanges >= self.late else nodes[:-1]

    def exchange(self, messages: Iterable[Message], timeout: float | None = None) -> Iterator[Message]:
        self.exchanges += 1
        if self.exchanges == self.fails_at:
            raise self.error
        if self.exchanges in self.restarts:
            self.restarts[self.exchanges]()
            forget_all()
            self._contexts[max(self._contexts)].state = RecordDict()
        spoil = self.spoils.get(self.exchanges)
        for reply in super().exchange(messages, timeout):
            last = reply.metadata.src_node_id == max(self._contexts)
            whole = spoil(reply) if spoil and last else reply
            if whole is not None:
                yield whole


def forget_all() -> None:
    """Let no client remember its rows."""
    client_module._problems = Kept(2**30, problem_bytes)
    dataset._loaded = Kept(2**30, dataset._bytes)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three clients whose margins are thin enough for every strategy to need its rounds."""
    rng = np.random.default_rng(5)
    parts = [blobs(seed, rows=10, columns=30) for seed in range(3)]
    thin = [type(p)(p.X + rng.normal(0, 12, p.X.shape), p.y, p.columns) for p in parts]
    return write_federation(tmp_path / "data", *thin)


@pytest.fixture
def run(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunFiles]:
    """Run the ServerApp into a directory, with clients that remember nothing of an earlier run."""
    monkeypatch.setattr(client_module, "_problems", client_module._problems)  # to be put back
    monkeypatch.setattr(dataset, "_loaded", dataset._loaded)

    def start(
        name: str,
        fails_at: int = 0,
        error: BaseException | None = None,
        late: int = 0,
        restarts: Mapping[int, Callable[[], None]] | None = None,
        spoils: Mapping[int, Spoil] | None = None,
        **keys: Any,
    ) -> RunFiles:
        forget_all()
        values: dict[str, Any] = {"dataset": "file", "data-dir": str(data), "reference": "none"}
        place = "out" if not keys.pop("resume", False) else "resume"
        values |= {place: str(tmp_path / name), "num-server-rounds": ROUNDS}
        values |= {key.replace("_", "-"): value for key, value in keys.items()}
        app(Grid(data, fails_at, error, late, restarts, spoils), Context(1, 0, {}, RecordDict(), values))
        return RunFiles(tmp_path / name)

    return start


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stopped_in", [1, 2, 6, ROUNDS, ROUNDS + 1])
def test_a_resumed_run_is_bit_identical(kind: str, stopped_in: int, run: Callable[..., RunFiles]) -> None:
    whole = run("whole", **KINDS[kind])
    with pytest.raises(RunError, match="no power"):
        run("cut", HANDSHAKE + stopped_in, **KINDS[kind], checkpoint_every=4)
    assert_identical(run("cut", resume=True, **KINDS[kind]), whole)


def test_a_run_goes_on_when_it_has_been_killed_between_checkpoints(
    run: Callable[..., RunFiles], tmp_path: Path
) -> None:
    """As after kill -9: the last checkpoint is older than the rows, and there is no summary."""
    keys = KINDS["cutting-plane"]
    whole = run("whole", **keys)
    cut = run("cut", **keys, num_server_rounds=7, checkpoint_every=4)
    folder = cut.path / "checkpoint"
    (folder / "round-00000007").unlink()
    (cut.path / "summary.json").unlink()
    with (cut.path / "rounds.jsonl").open("a") as rows:
        rows.write('{"round": 8, "lo')
    assert [path.name for path in checkpoint.files(folder)] == ["round-00000004"]
    assert_identical(run("cut", resume=True, **keys), whole)


def test_it_may_be_longer_than_it_was(run: Callable[..., RunFiles]) -> None:
    keys = KINDS["modified"]
    run("short", **keys, num_server_rounds=5)
    assert_identical(run("short", resume=True, **keys), run("whole", **keys))


def test_a_finished_run_ends_the_same_again(run: Callable[..., RunFiles]) -> None:
    keys = KINDS["modified"] | {"stop-at-certified-angle": 60.0}
    whole = run("whole", **keys)
    assert whole.json("summary.json")["stopped_by"] == "certified-angle"
    run("again", **keys)
    assert_identical(run("again", resume=True, **keys), whole)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_an_interrupted_run_goes_on_from_its_last_round(
    error: BaseException, run: Callable[..., RunFiles], tmp_path: Path
) -> None:
    keys = KINDS["consensus"] | {"checkpoint-every": 0}
    with pytest.raises(type(error)):
        run("cut", HANDSHAKE + 6, error, **keys)
    names = [path.name for path in checkpoint.files(tmp_path / "cut" / "checkpoint")]
    assert names == ["round-00000000", "round-00000005"]
    told = RunFiles(tmp_path / "cut").json("summary.json")
    assert (told["stopped_by"], told["rounds"]) == ("interrupted", 4)
    assert_identical(run("cut", resume=True, **keys), run("whole", **keys))


def test_the_last_two_are_kept(run: Callable[..., RunFiles]) -> None:
    done = run("run", **KINDS["local-gd"], checkpoint_every=3)
    names = [path.name for path in checkpoint.files(done.path / "checkpoint")]
    assert names == ["round-00000009", "round-00000012"]
    assert (done.path / "checkpoint" / names[0]).stat().st_mode & 0o077 == 0, "cuts can be single examples"


def test_a_damaged_checkpoint_is_passed_over_in_one_line(
    run: Callable[..., RunFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KINDS["cutting-plane"]
    whole = run("whole", **keys)
    done = run("cut", **keys, num_server_rounds=6, checkpoint_every=4)
    older, newer = checkpoint.files(done.path / "checkpoint")
    newer.write_bytes(newer.read_bytes()[:-1])
    lines: list[str] = []
    monkeypatch.setattr("server.checkpoint.log", lambda level, text, *rest: lines.append(text % rest))
    assert_identical(run("cut", resume=True, **keys), whole)
    assert lines == [
        "checkpoint round-00000006: it is damaged: its checksum is wrong; the one before, of round 4, is used"
    ]
    older, newer = checkpoint.files(done.path / "checkpoint")
    for path in (older, newer):
        path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    with pytest.raises(
        UserError, match=r"holds no checkpoint to go on from: round-00000012: it is .*; round"
    ):
        run("cut", resume=True, **keys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"local-steps": 4}, r"local-steps is 4 now and was 3 then; a run goes on only as it began"),
        ({"seed": 1}, "seed is 1 now and was 0 then"),
        ({"strategy": "consensus", "solver": "projection"}, "strategy is 'consensus' now and was 'local-gd'"),
        ({"strategy": "flower:FedAvg"}, "strategy = 'flower:FedAvg' cannot be resumed"),
    ],
)
def test_a_changed_configuration_is_refused(
    change: dict[str, Any], message: str, run: Callable[..., RunFiles]
) -> None:
    before = run("run", **KINDS["local-gd"])
    rows = before.rows
    with pytest.raises(UserError, match=message):
        run("run", resume=True, **(KINDS["local-gd"] | change))
    assert before.rows == rows
    assert before.json("summary.json")["stopped_by"] == "rounds"


def test_what_may_change_may_change(run: Callable[..., RunFiles]) -> None:
    run("run", **KINDS["local-gd"], num_server_rounds=3)
    free = {"round-timeout": 3.0, "join-timeout": 3.0, "checkpoint-every": 1, "stop-at-certified-angle": 0.5}
    done = run("run", resume=True, **KINDS["local-gd"], **free)
    assert len(done.rows) == ROUNDS


def changed(file: Path, by: float) -> None:
    """Change a number of a data file."""
    with np.load(file) as whole:
        arrays = dict(whole)
    arrays["X"][0, 0] += by
    np.savez(file, **arrays)


@pytest.mark.parametrize("policy", ["wait", "skip"])
def test_changed_data_are_refused_by_name(policy: str, run: Callable[..., RunFiles], data: Path) -> None:
    keys = KINDS["local-gd"] | {"on-missing": policy}
    run("run", **keys)
    changed(data / "client-1.npz", by=1e-9)
    with pytest.raises(UserError, match="cannot go on: client-1 is here with other data than then"):
        run("run", resume=True, **keys)


def test_data_that_changed_while_it_ran_are_those_it_goes_on_with(
    run: Callable[..., RunFiles], data: Path
) -> None:
    """The scaling stays that of the handshake, which the new data alone would not give."""
    file, keys = data / "client-2.npz", KINDS["cutting-plane"]
    content = file.read_bytes()
    restarts = {HANDSHAKE + 4: lambda: changed(file, by=0.5)}
    whole = run("whole", **keys, restarts=restarts)
    file.write_bytes(content)
    with pytest.raises(RunError, match="no power"):
        run("cut", HANDSHAKE + 12, **keys, restarts=restarts, checkpoint_every=2)
    assert_identical(run("cut", resume=True, **keys), whole)
    file.write_bytes(content)
    with pytest.raises(UserError, match="client-2 is here with other data than then"):
        run("cut", resume=True, **keys)


def test_other_clients_are_refused_by_name(run: Callable[..., RunFiles], data: Path) -> None:
    run("run", **KINDS["local-gd"])
    file = data / "client-2.npz"
    file.rename(data / "clinic.npz")
    with pytest.raises(
        UserError, match="the run cannot go on: client-2 is not here; with on-missing = 'skip' or 'reuse' it"
    ):
        run("run", resume=True, **KINDS["local-gd"])
    with pytest.raises(UserError, match="the run cannot go on: clinic is new: only those take part"):
        run("run", resume=True, **KINDS["local-gd"], on_missing="skip")


@pytest.mark.parametrize("policy", ["skip", "reuse"])
@pytest.mark.parametrize("kind", ["local-gd", "cutting-plane", "consensus"])
def test_where_nobody_is_waited_for_it_goes_on_without_a_client(
    kind: str, policy: str, run: Callable[..., RunFiles], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the client had been lost in the round that the run goes on with."""
    lines: list[str] = []
    monkeypatch.setattr("server.app.log", lambda level, text, *rest: lines.append(text % rest))
    keys = KINDS[kind] | {"on-missing": policy}
    begun = run("run", **keys, num_server_rounds=4)
    agreed = begun.json("handshake.json")
    file = data / "client-2.npz"
    file.rename(file.with_suffix(".away"))
    done = run("run", resume=True, **keys)
    assert f"not here: client-2; on-missing = {policy}: it begins without" in lines
    assert done.json("handshake.json") == agreed
    assert [row["missing"] for row in done.rows] == [[]] * 3 + [["client-2"]] * 9
    assert [row["without"] for row in done.rows] == [[]] * 4 + [["client-2"]] * 8
    assert {(row["margin"], row["certified_angle_deg"]) for row in done.rows[3:]} == {(None, 180.0)}
    bounds = [row["margin_bound"] for row in done.rows]
    assert bounds == sorted(bounds, reverse=True), "what the client has proved stays"
    (file.with_suffix(".away")).rename(file)
    again = run("run", resume=True, **keys, num_server_rounds=13)
    assert (again.rows[-1]["missing"], again.rows[-1]["without"]) == ([], [])


def failing(reply: Message) -> Message:
    return message_of(reply.metadata, None, Error(2, "out of memory"))


def silent(reply: Message) -> None:
    return None


def senseless(reply: Message) -> Message:
    return message_of(reply.metadata, RecordDict())


@pytest.mark.parametrize("exchange", [1, 2])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (silent, "no answer within 600 s in the handshake from client-2; the run goes on"),
        (failing, "client-2 failed in the handshake: out of memory; its own log says more; the run"),
        (senseless, "client-2 answered badly in the handshake: it lacks"),
    ],
)
def test_a_resumed_run_goes_on_without_a_client_that_does_not_answer_as_it_should(
    exchange: int, spoil: Spoil, told: str, run: Callable[..., RunFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And takes it back as soon as it does, here after one more failure."""
    lines: list[str] = []
    monkeypatch.setattr("server.handshake.log", lambda level, text, *rest: lines.append(text % rest))
    keys = KINDS["cutting-plane"] | {"on-missing": "skip"}
    run("run", **keys, num_server_rounds=2)
    with pytest.raises(RunError, match="in the handshake"):
        run("run", resume=True, **keys | {"on-missing": "wait"}, spoils={exchange: spoil})
    spoils = {exchange: spoil, HANDSHAKE + 1: failing}
    done = run("run", resume=True, **keys, spoils=spoils, num_server_rounds=40)
    named = "node 3" if exchange == 1 else "client-2"  # who has not described itself has no name here
    assert len(lines) == 1
    assert lines[0].startswith(told.replace("client-2", named))
    gone = [row["round"] for row in done.rows if row["missing"]]
    assert gone == [2]
    assert done.rows[-1]["certified_angle_deg"] < 0.1


def test_a_client_that_comes_late_to_a_resumed_run_takes_part_again(run: Callable[..., RunFiles]) -> None:
    keys = KINDS["cutting-plane"] | {"on-missing": "skip", "join-timeout": 0.1}
    run("run", **keys, num_server_rounds=2)
    done = run("run", resume=True, **keys, late=HANDSHAKE + 2, num_server_rounds=40)
    gone = [row["round"] for row in done.rows if row["missing"]]
    assert gone == [2, 3]
    assert done.rows[-1]["certified_angle_deg"] < 0.01


def test_a_resumed_run_wants_min_clients_too(run: Callable[..., RunFiles]) -> None:
    keys = KINDS["local-gd"] | {"on-missing": "skip"}
    run("run", **keys)
    with pytest.raises(RunError, match="only 2 of 3 clients came within join-timeout"):
        run("run", resume=True, **keys, late=HANDSHAKE, join_timeout=0.1, min_clients=3)


def test_lost_rows_are_noticed(run: Callable[..., RunFiles]) -> None:
    done = run("run", **KINDS["local-gd"])
    path = done.path / "rounds.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:7]))
    with pytest.raises(UserError, match=r"rounds\.jsonl has lost rows: its checkpoint follows on round 11"):
        run("run", resume=True, **KINDS["local-gd"])


def test_there_must_be_a_run(run: Callable[..., RunFiles], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="/run': no such directory"):
        run("run", resume=True, **KINDS["local-gd"])
    assert not (tmp_path / "run").exists()
    (tmp_path / "run" / "checkpoint").mkdir(parents=True)
    with pytest.raises(
        UserError, match="holds no checkpoint to go on from: it has not begun its first round"
    ):
        run("run", resume=True, **KINDS["local-gd"])
    assert len(run("run", **KINDS["local-gd"]).rows) == ROUNDS, "but the same command starts it anew"


def test_a_damaged_checkpoint_does_not_count_among_those_that_stay(run: Callable[..., RunFiles]) -> None:
    keys = KINDS["cutting-plane"]
    done = run("run", **keys, num_server_rounds=6, checkpoint_every=4)
    folder = done.path / "checkpoint"
    (folder / "round-00000006").write_bytes(b"half")
    (folder / ".round-00000006.x.tmp").write_bytes(b"of a process that was killed")
    run("run", resume=True, **keys, num_server_rounds=5)
    assert [path.name for path in folder.iterdir()] == ["round-00000004", "round-00000005"]


def test_a_full_disk_does_not_end_the_run(
    run: Callable[..., RunFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("server.checkpoint.log", lambda level, text, *rest: lines.append(text % rest))

    def full(path: Path, mode: int) -> contextlib.AbstractContextManager[BinaryIO]:
        if path.name == "round-00000006":
            raise OSError(28, "No space left on device")
        return whole(path, mode)

    monkeypatch.setattr(checkpoint, "whole", full)
    done = run("run", **KINDS["local-gd"], checkpoint_every=6)
    assert len(done.rows) == ROUNDS
    assert lines == ["round 6: cannot write a checkpoint: No space left on device"]
    assert {path.name for path in (done.path / "checkpoint").iterdir()} == {
        "round-00000000",
        "round-00000012",
    }


def test_the_time_of_both_runs_counts(run: Callable[..., RunFiles]) -> None:
    first = run("run", **KINDS["local-gd"]).json("summary.json")["seconds"]
    path = checkpoint.newest(run("other", **KINDS["local-gd"]).path)
    assert path.seconds > 0
    assert run("run", resume=True, **KINDS["local-gd"]).json("summary.json")["seconds"] > first / 2


def test_flowers_own_strategies_write_none(run: Callable[..., RunFiles]) -> None:
    done = run("run", strategy="flower:FedAvg", local_steps=3, num_server_rounds=2)
    assert not (done.path / "checkpoint").exists()
    assert json.loads((done.path / "summary.json").read_text())["stopped_by"] == "rounds"
