"""Waiting for clients, and the size of a simulation."""

import pytest

from common.config import Config
from common.errors import RunError, UserError
from server.grids.in_process import InProcessGrid
from server.inputs import simulated_nodes, wait_for_nodes


def grid_of(nodes: int) -> InProcessGrid:
    return InProcessGrid(None, [{}] * nodes, {})  # type: ignore[arg-type]


def test_a_simulation_has_one_node_per_client() -> None:
    config = Config(clients=6, join_timeout=1)
    assert simulated_nodes(grid_of(6), config) == [1, 2, 3, 4, 5, 6]
    for nodes in (4, 7):
        with pytest.raises(UserError, match=rf"num-supernodes = {nodes}, but clients = 6; .*=6'"):
            simulated_nodes(grid_of(nodes), config)


def test_a_simulation_without_nodes_is_not_waited_for_for_ever() -> None:
    with pytest.raises(RunError, match=r"join-timeout = 0\.1 s"):
        simulated_nodes(grid_of(0), Config(join_timeout=0.1))


def test_too_few_clients_end_the_wait() -> None:
    config = Config(min_clients=3, join_timeout=0.1)
    with pytest.raises(
        RunError, match=r"only 2 of 5 clients came within join-timeout = 0\.1 s; .* start more"
    ):
        wait_for_nodes(grid_of(2), 5, config)
    assert wait_for_nodes(grid_of(4), 5, config) == [1, 2, 3, 4]
