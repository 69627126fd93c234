"""The two ways of running that need no daemon: in this process, and served over a gRPC stream."""

from functools import partial
from pathlib import Path

import numpy as np
from flwr.app import Context, RecordDict, UserConfig

from client.app import app as client_app
from client.engine import to_engine
from common import virtual
from common.config import Config
from localgd.tls import server_credentials, why_revoked
from server.app import app as server_app
from server.grids.in_process import InProcessGrid
from server.grids.stream import MAX_CLIENTS, StreamGrid


def run_in_process(config: Config) -> None:
    """Run the ServerApp and one ClientApp per virtual client in this process."""
    server_app(in_process_grid(config), server_context(config))


def in_process_grid(config: Config) -> InProcessGrid:
    """Return a grid with one ClientApp per virtual client in this process.

    Raises
    ------
    UserError
        When the engine or the data cannot be had.
    """
    # A mistake in the engine or the data set shows here, as no client's in particular.
    to_engine(np.zeros(0), config.engine, config.device)
    virtual.shard(config, 0)
    names = virtual.names(config)
    nodes: list[UserConfig] = [{"partition-id": k, "num-partitions": len(names)} for k in range(len(names))]
    return InProcessGrid(client_app, nodes, config.values(), names)


def serve(config: Config, address: str, tls: Path | None) -> None:
    """Run the ServerApp over a gRPC stream that clients join, with the certificates of a directory."""
    listen = partial(
        StreamGrid,
        address,
        max_message_bytes=config.max_message_bytes,
        max_clients=max(MAX_CLIENTS, config.clients),
    )
    if tls is None:
        grid = listen(credentials=None)
    else:
        grid = listen(credentials=server_credentials(tls), why_refused=partial(why_revoked, tls))
    with grid:
        server_app(grid, server_context(config))


def server_context(config: Config) -> Context:
    """Return the context that Flower would give the ServerApp."""
    return Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=config.values())
