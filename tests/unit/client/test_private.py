"""Flower's mods for differential privacy around the ClientApp."""

from pathlib import Path

import numpy as np
import pytest
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod

from client import app as client
from client.dataset import node_config
from client.private import private_app
from common.errors import RunError, UserError
from common.geometry import angle
from common.solution import SolverSettings
from server.grids.in_process import InProcessGrid
from server.handshake import handshake
from strategies import Consensus, LocalGD
from tests.problems import Trace, deal, record, signed_rows

SETTINGS = SolverSettings(local_steps=5, learning_rate=0.5)
ROWS = signed_rows(np.random.default_rng(0), 24, 4, 0.2)


def grid(app: ClientApp, folder: Path) -> InProcessGrid:
    nodes = []
    for k, shard in enumerate(deal(ROWS, 3)):
        np.savez(folder / f"client-{k}.npz", X=shard.X, y=shard.y)
        nodes.append(node_config(folder / f"client-{k}.npz", "label", None))
    return InProcessGrid(app, nodes, {})


def trained(app: ClientApp, folder: Path, rounds: int = 30) -> Trace:
    trace = Trace()
    LocalGD(SETTINGS).start(grid(app, folder), record(np.zeros(4)), rounds, callbacks=[trace])
    return trace


def noise(epsilon: float, clipping: float = 1.0) -> LocalDpMod:
    return LocalDpMod(clipping_norm=clipping, sensitivity=2 * clipping, epsilon=epsilon, delta=1e-5)


def test_with_next_to_no_noise_it_is_the_same_model(tmp_path: Path) -> None:
    plain = trained(client.app, tmp_path).models[-1]
    private = trained(private_app(noise(1e9)), tmp_path).models[-1]
    assert angle(plain, private) < 1e-3
    assert np.linalg.norm(plain - private) < 1e-5 * np.linalg.norm(plain)


def test_noise_and_clipping_reach_the_server_and_nothing_else_does(tmp_path: Path) -> None:
    trace = trained(private_app(noise(epsilon=10.0, clipping=0.1)), tmp_path, rounds=3)
    for answers in trace.answers:
        for answer in answers:
            told = answer.measures
            assert (told.loss, told.margin, told.errors, told.count) == (0, 0, 0, 1)
            for solution in answer.solutions:
                assert (solution.dual_mass, solution.active, solution.steps) == (0, 0, 0)
    first = [answer.solutions[0].displacement for answer in trace.answers[0]]
    other = trained(private_app(noise(10.0, 0.1)), tmp_path, rounds=1)
    again = [answer.solutions[0].displacement for answer in other.answers[0]]
    assert all(np.linalg.norm(a - b) > 1e-3 for a, b in zip(first, again, strict=True)), "drawn anew"
    clipped = trained(private_app(noise(1e9, clipping=0.1)), tmp_path, rounds=1).answers[0]
    assert {round(float(np.linalg.norm(a.solutions[0].displacement)), 6) for a in clipped} == {0.1}


def test_a_mod_around_the_ordinary_app_is_refused_by_flower(tmp_path: Path) -> None:
    app = ClientApp(mods=[noise(1.0)])
    app.train()(client.train)
    with pytest.raises(RunError, match="round 1: node 1 failed"):
        trained(app, tmp_path)


def test_strategies_with_other_centres_are_refused(tmp_path: Path) -> None:
    strategy = Consensus(SolverSettings(solver="projection"))
    with pytest.raises(UserError, match="this client solves from the model only"):
        strategy.start(grid(private_app(), tmp_path), record(np.zeros(4)), 5)


def test_a_server_with_a_certificate_gets_no_description(tmp_path: Path) -> None:
    alone = grid(private_app(), tmp_path)
    with pytest.raises(RunError, match="failed"):
        handshake(alone, alone.get_node_ids())
