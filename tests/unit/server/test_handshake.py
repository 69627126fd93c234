"""The handshake: what it agrees on, against numpy, and what it refuses, by name."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Error, Message

from client.app import app as client_app
from client.dataset import node_config
from common.errors import RunError, UserError
from common.handshake import Description, Preparation, pack_describe
from common.solution import SolverSettings
from server.grids.in_process import InProcessGrid
from server.handshake import common_classes, handshake
from tests.e2e.data import blobs, write_csv, write_npz

COUNTS = {"north": 5, "east": 9, "south": 7}


class Grid(InProcessGrid):
    """Clients with a file each; tests get at the replies on their way."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.files = list(files)
        super().__init__(client_app, [node_config(file, "label", None) for file in self.files], {})
        self.change: Callable[[Message], Message | None] = lambda reply: reply

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        changed = []
        for reply in super().send_and_receive(messages, timeout=timeout):
            new = self.change(reply)
            if new is not None:
                new.metadata.__dict__["_src_node_id"] = reply.metadata.src_node_id
                changed.append(new)
        return changed


class NamedGrid(Grid):
    """A grid that knows its clients' names, as the gRPC stream does."""

    def names(self) -> dict[int, str]:
        return {node: file.stem for node, file in enumerate(self.files, start=1)}


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    """Three clients whose node ids are not in the order of their names."""
    for seed, (name, rows) in enumerate(COUNTS.items()):
        write_npz(tmp_path / f"{name}.npz", blobs(seed, rows))
    return Grid(tmp_path / f"{name}.npz" for name in COUNTS)


def pooled(grid: Grid) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Features and signs by client, in the order of the names."""
    data = {}
    for file in sorted(grid.files):
        with np.load(file) as arrays:
            data[file.stem] = arrays["X"], np.where(arrays["y"] == "1", 1.0, -1.0)
    return {name: X for name, (X, _) in data.items()}, {name: s for name, (_, s) in data.items()}


def agree(grid: Grid, **arguments: object) -> Preparation:
    return handshake(grid, grid.get_node_ids(), **arguments).preparation  # type: ignore[arg-type]


# ── What is agreed on ────────────────────────────────────────────────────────────────────────────


def test_clients_are_sorted_by_name(grid: Grid) -> None:
    federation = handshake(grid, grid.get_node_ids())
    assert [(c.name, c.node_id, c.count) for c in federation.clients] == [
        ("east", 2, 9),
        ("north", 1, 5),
        ("south", 3, 7),
    ]
    assert federation.preparation.classes == ("0", "1")
    assert federation.largest == 9
    assert len({c.fingerprint for c in federation.clients}) == 3


def test_the_order_of_the_nodes_does_not_change_a_bit(grid: Grid) -> None:
    one, other = handshake(grid, [1, 2, 3]), handshake(grid, [3, 1, 2])
    assert one.preparation.fingerprint == other.preparation.fingerprint
    assert one.norm == other.norm
    assert [replace(c, fingerprint="") for c in one.clients] == [
        replace(c, fingerprint="") for c in other.clients
    ]


def test_fingerprints_are_salted(grid: Grid) -> None:
    """Nobody can tell from two runs' files that it was the same data."""
    one, other = handshake(grid, [1]), handshake(grid, [1])
    assert one.clients[0].fingerprint != other.clients[0].fingerprint


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("scale", ["none", "max-norm", "standard"])
def test_rows_and_what_is_measured_of_them(scale: str, intercept: bool, grid: Grid) -> None:
    federation = handshake(grid, grid.get_node_ids(), intercept=intercept, scale=scale)
    features, signs = pooled(grid)
    everything = np.vstack(list(features.values()))
    mean, deviation = (everything.mean(axis=0), everything.std(axis=0)) if scale == "standard" else (0.0, 1.0)
    rows = {name: (X - mean) / deviation for name, X in features.items()}
    if intercept:
        rows = {name: np.hstack([X, np.ones((len(X), 1))]) for name, X in rows.items()}
    largest = max(np.linalg.norm(X, axis=1).max() for X in rows.values())
    norm = 1.0 if scale == "none" else largest
    assert federation.norm == pytest.approx(norm, rel=1e-12)
    assert federation.scaling.dimension == 3 + intercept
    for client in federation.clients:
        X = rows[client.name] / norm
        assert np.allclose(federation.scaling.rows(features[client.name]), X, rtol=1e-12, atol=1e-13)
        Z = signs[client.name][:, None] * X
        assert client.max_norm == pytest.approx(np.linalg.norm(Z, axis=1).max(), rel=1e-12)
        assert client.beta == pytest.approx(np.linalg.norm(Z, 2) ** 2 / (4 * len(Z)), rel=1e-10)
    assert federation.max_norm == pytest.approx(1.0 if scale != "none" else largest, rel=1e-12)
    assert federation.beta == max(client.beta for client in federation.clients)
    settings = federation.settings(SolverSettings())
    assert (settings.beta, settings.norm) == (federation.beta, federation.norm)
    assert settings.preparation == federation.preparation.fingerprint


def test_a_constant_column_keeps_its_scale(tmp_path: Path) -> None:
    for seed in range(2):
        data = blobs(seed)
        data.X[:, 1] = 1e6
        write_npz(tmp_path / f"client-{seed}.npz", data)
    scaling = agree(Grid(sorted(tmp_path.iterdir()))).scaling
    assert (scaling.mean[1], scaling.scale[1]) == (1e6, 1.0)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (("10", "9"), ("9", "10")),
        (("1", "-1"), ("-1", "1")),
        (("well", "ill"), ("ill", "well")),
        (("b", "1"), ("1", "b")),
    ],
)
def test_classes_are_ordered_by_value_or_by_the_alphabet(
    labels: tuple[str, str], classes: tuple[str, str], tmp_path: Path
) -> None:
    """Each client may hold one of the labels only."""
    for k, label in enumerate(labels):
        write_npz(tmp_path / f"client-{k}.npz", blobs(k, labels=(label,)))
    assert agree(Grid(sorted(tmp_path.iterdir()))).classes == classes


def test_column_names_may_be_missing_in_some_files(tmp_path: Path) -> None:
    write_npz(tmp_path / "east.npz", blobs(0))
    for seed, name in enumerate(("north", "south")):
        write_csv(tmp_path / f"{name}.csv", blobs(seed))
    assert agree(Grid(sorted(tmp_path.iterdir()))).classes == ("0", "1")


# ── What is refused ──────────────────────────────────────────────────────────────────────────────


def described(name: str, *classes: str) -> Description:
    return Description(name, 3, 2, classes, "", "none", None)


def test_labels_that_do_not_make_two_classes() -> None:
    for descriptions, said in (
        ([described("a", "x"), described("b", "x")], "every client has the label 'x'; two labels are needed"),
        (
            [described("a", "x", "y"), described("b", *"uvwxyz", "zz")],
            "b has 7 labels .*and 1 more.*'logistic'",
        ),
        (
            [described("a", "x", "y"), described("b", "u", "v"), described("c", "x", "y")],
            "disagree, 4 in all.*a, c: x, y; b: u, v",
        ),
        ([described("a", "x"), described("b", "y"), described("c", "z")], "disagree, 3 in all"),
    ):
        with pytest.raises(UserError, match=said):
            common_classes(descriptions, "logistic")


def test_two_clients_of_one_name(tmp_path: Path) -> None:
    files = [tmp_path / f"{folder}/client.npz" for folder in "ab"]
    for file in files:
        write_npz(file, blobs(0))
    with pytest.raises(UserError, match=r"two clients are called 'client'; .*a name of its own"):
        agree(Grid(files))


def test_different_numbers_of_columns(grid: Grid) -> None:
    write_npz(grid.files[1], blobs(1, columns=4))
    with pytest.raises(UserError, match="feature columns: north, south: 3; east: 4"):
        agree(grid)


def test_columns_in_another_order(tmp_path: Path) -> None:
    for seed, (name, columns) in enumerate({"a": "xyz", "b": "xzy", "c": "xyz"}.items()):
        write_csv(tmp_path / f"{name}.csv", blobs(seed), tuple(columns))
    with pytest.raises(UserError, match="other names or another order: a, c against b"):
        agree(Grid(sorted(tmp_path.iterdir())))


def test_rows_of_zeros(tmp_path: Path) -> None:
    for k in range(2):
        data = blobs(k)
        data.X[:] = 0
        write_npz(tmp_path / f"client-{k}.npz", data)
    grid = Grid(sorted(tmp_path.iterdir()))
    for scale in ("none", "max-norm", "standard"):
        with pytest.raises(UserError, match="every row of every client is zero"):
            agree(grid, intercept=False, scale=scale)
    assert agree(grid, intercept=True).classes == ("0", "1")


def test_what_a_client_cannot_read_is_told_with_its_name(grid: Grid) -> None:
    grid.files[1].write_text("not data")
    with pytest.raises(UserError, match=r"^east: .*east\.npz: not a \.npz file"):
        agree(grid)
    with pytest.raises(UserError, match=r"^east: .*east\.npz: not a \.npz file"):
        agree(NamedGrid(grid.files))


def test_a_client_that_calls_itself_something_else(grid: Grid) -> None:
    class Mistaken(NamedGrid):
        def names(self) -> dict[int, str]:
            return {**super().names(), 2: "west"}

    with pytest.raises(UserError, match="the client that joined as 'west' calls itself 'east'"):
        agree(Mistaken(grid.files))


def test_a_client_of_another_version(grid: Grid) -> None:
    def newer(reply: Message) -> Message:
        reply.content.config_records["config"]["protocol"] = 99
        return reply

    grid.change = newer
    with pytest.raises(UserError, match=r"client north speaks protocol 99, this server 3.*same version"):
        agree(grid)


def test_a_server_of_another_version(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "server.handshake.pack_describe",
        lambda *arguments: _with_protocol(pack_describe(*arguments), 99),
    )
    with pytest.raises(UserError, match=r"the server speaks protocol 99, this client 3.*same version"):
        agree(grid)


def _with_protocol(content, protocol: int):
    content.config_records["config"]["protocol"] = protocol
    return content


def test_a_client_that_crashes(grid: Grid) -> None:
    grid.change = lambda reply: (
        Message(Error(2, "out of memory"), reply_to=reply) if reply.metadata.src_node_id == 3 else reply
    )
    with pytest.raises(RunError, match="failed in the handshake: out of memory") as caught:
        agree(grid)
    assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize("silent_from", [1, 4])
def test_a_silent_client_is_named(silent_from: int, grid: Grid) -> None:
    """In the first message or in the second."""
    named, seen = NamedGrid(grid.files), iter(range(1, 100))
    named.change = lambda reply: (
        None if next(seen) >= silent_from and reply.metadata.src_node_id == 2 else reply
    )
    with pytest.raises(RunError, match=r"no answer within 600 s in the handshake from .*east"):
        agree(named)


def test_more_than_two_labels_at_one_client(grid: Grid) -> None:
    write_npz(grid.files[0], blobs(1, labels=("0", "1", "2")))
    with pytest.raises(UserError, match=re.escape("north has 3 labels (0, 1, 2)")):
        agree(grid)
