"""What a run needs besides its clients' work: waiting for them, test rows, a start and a reference."""

import time
from pathlib import Path

import numpy as np
import pytest

from client.app import app as client_app
from client.dataset import node_config
from common.config import Config
from common.errors import RunError, UserError
from common.federation import Federation
from server.grids.in_process import InProcessGrid
from server.handshake import handshake
from server.inputs import all_parts, find_reference, held_out_score, initial_weights, wait_for_nodes
from tests.e2e.data import blobs, write_federation, write_npz


class Arriving(InProcessGrid):
    """A grid whose clients come one by one, one at each look."""

    def __init__(self, arriving: int) -> None:
        super().__init__(client_app, [{}] * arriving, {})
        self.here = 0

    def get_node_ids(self) -> list[int]:
        self.here += 1
        return super().get_node_ids()[: self.here][::-1]


def config(**keys: object) -> Config:
    return Config.of({name.replace("_", "-"): value for name, value in keys.items()})  # type: ignore[misc]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_federation(tmp_path / "data", blobs(0), blobs(1))


@pytest.fixture
def federation(folder: Path) -> Federation:
    nodes = [node_config(file, "label", None) for file in sorted(folder.iterdir())]
    grid = InProcessGrid(client_app, nodes, {})
    return handshake(grid, grid.get_node_ids())


def test_waiting_until_all_are_here() -> None:
    assert wait_for_nodes(Arriving(5), 3, config()) == [1, 2, 3]


def test_waiting_until_the_time_is_up() -> None:
    began = time.monotonic()
    assert wait_for_nodes(Arriving(2), 3, config(min_clients=2, join_timeout=0.3)) == [1, 2]
    assert 0.3 <= time.monotonic() - began < 10
    with pytest.raises(
        RunError, match=r"only 2 of 4 clients came within join-timeout = 0.3 s; .*min-clients = 3"
    ):
        wait_for_nodes(Arriving(2), 4, config(min_clients=3, join_timeout=0.3))
    with pytest.raises(RunError, match="only 0 of 1 clients"):
        wait_for_nodes(Arriving(0), 1, config(min_clients=3, join_timeout=0.1))


def test_accuracy_of_a_test_file(federation: Federation, tmp_path: Path) -> None:
    data = blobs(5, rows=10)
    write_npz(tmp_path / "test.npz", data)
    accuracy = held_out_score(config(dataset="file", test=str(tmp_path / "test.npz")), federation)
    assert accuracy is not None
    weights = np.array([0.3, -0.1, 0.2, 0.05])
    scores = federation.scaling.rows(data.X) @ weights
    assert accuracy(weights) == np.mean((scores > 0) == (data.y == "1"))
    assert accuracy(np.zeros(4)) == 0.0, "no opinion is no hit"
    assert held_out_score(config(dataset="file"), federation) is None


def test_start_and_reference(federation: Federation, tmp_path: Path) -> None:
    assert np.array_equal(initial_weights(config(), federation), np.zeros(4))
    np.savez(tmp_path / "w.npz", weights=np.arange(4.0))
    path = str(tmp_path / "w.npz")
    assert np.array_equal(initial_weights(config(init=path), federation), np.arange(4.0))
    given = find_reference(config(reference=path), federation, all_here=False)
    assert given is not None
    assert np.array_equal(given.weights, np.arange(4.0))
    assert find_reference(config(reference="none"), federation, all_here=True) is None
    assert find_reference(config(reference="auto"), federation, all_here=False) is None
    with pytest.raises(UserError, match=r"init = 'nowhere\.npz'"):
        initial_weights(config(init="nowhere.npz"), federation)
    with pytest.raises(UserError, match=r"reference = 'nowhere\.npz'"):
        find_reference(config(reference="nowhere.npz"), federation, all_here=True)


def test_the_all_parts_are_those_of_the_clients(federation: Federation, folder: Path) -> None:
    pytest.importorskip("daqp")
    here = config(dataset="file", data_dir=str(folder))
    parts = all_parts(here, federation)
    rows = np.vstack([part for part, _ in parts])
    signs = 2.0 * np.concatenate([labels for _, labels in parts]) - 1
    assert rows.shape == (24, 4)
    assert np.linalg.norm(rows, axis=1).max() == pytest.approx(1.0, rel=1e-12)
    found = find_reference(here, federation, all_here=True)
    assert found is not None
    assert (signs * (rows @ found.weights)).min() == pytest.approx(1.0, rel=1e-9)
    assert found.margin <= found.bound
