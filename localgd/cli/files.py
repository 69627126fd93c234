"""What a federation of processes needs first: shard and pki."""

from pathlib import Path
from typing import Annotated

import typer

from common.config import Config, Value
from common.errors import UserError
from localgd.cli.options import say


def shard(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A named data set.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="A new directory for client-0.npz … and test.npz.")
    ],
    clients: Annotated[int, typer.Option(help="How many clients.")] = Config.clients,
    partition: Annotated[str, typer.Option(help="iid, dirichlet or label.")] = Config.partition,
    alpha: Annotated[
        float, typer.Option(help="Dirichlet concentration: small is heterogeneous.")
    ] = Config.alpha,
    seed: Annotated[int, typer.Option(help="Seed of the split and the shards.")] = Config.seed,
    test_fraction: Annotated[float, typer.Option(help="Share held out in test.npz.")] = Config.test_fraction,
    loss: Annotated[
        str, typer.Option(help="What the labels are for: softmax takes all classes of the data set.")
    ] = Config.loss,
) -> None:
    """Write each client's private file of a named data set, and the held-out rows."""
    values: dict[str, Value] = {"dataset": dataset, "clients": clients, "partition": partition}
    values |= {"loss": loss, "strategy": "local-gd"}  # a strategy that every loss goes with
    config = Config.of(values | {"alpha": alpha, "seed": seed, "test-fraction": test_fraction})
    from localgd.shards import write_shards

    say(write_shards(config, out))


def pki(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the CA is, or a new one shall be.")],
    server: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A host name or IP address that clients reach the server by; may be repeated. localhost and "
            "127.0.0.1 are always added.",
        ),
    ] = None,
    client: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A client's name; may be repeated.")
    ] = None,
    days: Annotated[
        int, typer.Option(help="How long the certificates are valid; a CA is for ten years.")
    ] = 365,
    revoke: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Instead, put this client's certificate on the list revoked.txt."),
    ] = None,
) -> None:
    """Write a CA and the certificates of a server and clients, for --tls, and SuperNode keys.

    A CA that is in DIR already signs what is added. The server needs ca.crt, server.crt, server.key and
    revoked.txt; a client ca.crt, NAME.crt and NAME.key, or NAME.supernode with Flower's SuperNode, whose
    NAME.supernode.pub is what the SuperLink registers. Keep ca.key where neither of them runs.
    """
    from localgd import pki as authority
    from localgd.tls import REVOKED

    if revoke is None:
        for path in authority.write(out, server or (), client or (), days):
            typer.echo(path)
        return
    if server or client:
        raise UserError("--revoke goes without --server and --client")
    if authority.revoke(out, revoke):
        typer.echo(f"{revoke} is revoked: give {out / REVOKED} to the server")
    else:
        typer.echo(f"{revoke} was revoked already")
