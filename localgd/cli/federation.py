"""Federations of processes: serve and join."""

import contextlib
import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from common import config as configuration
from common import interrupts
from common.config import Config
from common.errors import UserError
from localgd.cli.options import (
    QUIET,
    ConfigFile,
    Insecure,
    InsecureNetwork,
    Json,
    Out,
    Overrides,
    Quiet,
    Resume,
    Tls,
    log_plainly,
    say,
    with_out,
    with_resume,
)


def serve(
    config_file: ConfigFile,
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen.")] = "127.0.0.1:8080",
    tls: Tls = None,
    insecure: Insecure = False,
    insecure_network: InsecureNetwork = False,
    override: Overrides = None,
    out: Out = None,
    resume: Resume = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Serve a federation to clients that join over a persistent gRPC stream.

    --tls DIR holds ca.crt, server.crt and server.key (see localgd pki). Only clients with a certificate of
    that CA can join, under the name in it, and none whose certificate is in DIR/revoked.txt when it joins.
    """
    with _refusals_logged() if tls else contextlib.nullcontext():
        _check_security(tls, insecure, insecure_network, address)
        values = configuration.read(config_file, override or ())
        values.setdefault("dataset", "file")  # the clients bring their own data
        config = Config.of(with_resume(with_out(values, out), out, resume))
        from localgd.federations import serve as serve_federation
        from localgd.live import shown

        with interrupts.deferred(), shown(quiet, as_json):
            serve_federation(config, address, tls)


def join(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where the server listens.")],
    data: Annotated[
        Path, typer.Option(metavar="FILE", help="This client's private data: .npz, .csv, .parquet or .svm.")
    ],
    label: Annotated[
        str, typer.Option(metavar="COLUMN", help="The label column of a .csv or .parquet file.")
    ] = "label",
    name: Annotated[
        str | None, typer.Option(help="This client's name; else its certificate's, or the file's.")
    ] = None,
    tls: Tls = None,
    insecure: Insecure = False,
    insecure_network: InsecureNetwork = False,
    retry_for: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long to look for the server.")
    ] = 60.0,
) -> None:
    """Join a federation with this device's own data.

    --tls DIR holds ca.crt and this client's certificate and key, NAME.crt and NAME.key (see localgd pki).
    """
    _check_security(tls, insecure, insecure_network, address)
    interrupts.end_on_the_spot()
    log_plainly()
    from client.app import app as client_app
    from client.dataset import load, node_config, source_of
    from client.stream import join as join_stream
    from localgd.tls import client_tls

    own = client_tls(tls, name) if tls else None
    node = node_config(data, label, own.name if own else name)
    where = source_of(node)
    rows, columns = load(where).X.shape  # a mistake in the file shows here, before anybody is bothered
    say(f"{where.name}: {rows} examples, {columns} feature columns; joining {address}")
    join_stream(
        address,
        client_app,
        node,
        where.name,
        credentials=own.credentials if own else None,
        tls=own.context if own else None,
        retry_for=retry_for,
        report=say,
    )
    say("done: the federation has ended")


def _check_security(tls: Path | None, insecure: bool, network: bool, address: str) -> None:
    """Refuse to do without certificates unless the user says so, and beyond this machine says it twice."""
    if (tls is None) != insecure:
        raise UserError("say either --tls DIR (certificates) or --insecure (no encryption: for trying out)")
    if network and not insecure:
        raise UserError("--insecure-network goes with --insecure only, not with --tls")
    from common.stream import is_loopback

    if insecure and not network and not is_loopback(address):
        raise UserError(
            f"--insecure is for localhost and 127.0.0.1, not for {address}: use --tls DIR (localgd pki makes "
            "one), or say --insecure-network too if whoever is on that network may join, read and change "
            "everything"
        )


@contextlib.contextmanager
def _refusals_logged() -> Iterator[None]:
    """Log each connection that TLS refuses, unless the user wants to see gRPC's own log."""
    from localgd import refusals

    if os.environ["GRPC_VERBOSITY"] != QUIET:
        yield
        return
    os.environ["GRPC_VERBOSITY"] = refusals.VERBOSITY  # gRPC looks when it is imported, which is now
    from flwr.common import log

    try:
        with refusals.told(partial(log, logging.WARNING)):
            yield
    finally:
        os.environ["GRPC_VERBOSITY"] = QUIET
