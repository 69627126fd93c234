"""The command ``localgd``."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import click
import typer

from common import config as configuration
from common.config import Config, Value
from common.errors import LocalGDError, UserError

INTERRUPTED = 130
QUIET = "NONE"

app = typer.Typer(
    name="localgd",
    help="Federated training that proves, round by round, how close its model is to the centralized one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG.toml", help="A configuration file, see examples/.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-c", metavar="KEY=VALUE", help="Set a configuration key; may be repeated."),
]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The run directory; runs/<time>-<strategy> if not given.")
]
Resume = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Go on with the run in this directory, from its newest checkpoint."),
]
Tls = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Directory with the certificates for mutual TLS.")
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="No encryption and no proof of identity: for trying out.")
]
InsecureNetwork = Annotated[
    bool,
    typer.Option(
        "--insecure-network",
        help="With --insecure, use an address beyond this machine all the same: whoever can reach the server "
        "can join, and whoever is on the way can read and change everything.",
    ),
]


Timeout = Annotated[float, typer.Option(metavar="SECONDS", min=1, help="A run that takes longer is stopped.")]


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr, never a traceback."""
    if os.environ.get("GRPC_VERBOSITY", "error") == "error":  # "error" is what Flower sets
        os.environ["GRPC_VERBOSITY"] = QUIET  # our own lines say what is wrong
    # The matrices of a round are small: on a busy machine several threads for one product wait for each
    # other far longer than they save; and with one thread the last bits are the same on every machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    try:
        exit_code = app(prog_name="localgd", standalone_mode=False)
    except LocalGDError as error:
        _fail(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError:  # the help has been shown
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "localgd"
        _fail(f"{error.format_message().rstrip('.')}; see {command} --help", 2)
    except KeyboardInterrupt:
        exit_code = INTERRUPTED
    if exit_code == INTERRUPTED:  # typer makes an exit code of Ctrl-C
        _fail("interrupted", INTERRUPTED)
    sys.exit(exit_code)


def _fail(text: str, exit_code: int) -> NoReturn:
    print(f"localgd: {text}", file=sys.stderr)
    sys.exit(exit_code)


@app.command()
def run(config_file: ConfigFile, override: Overrides = None, out: Out = None, resume: Resume = None) -> None:
    """Run a whole federation in this process."""
    values = configuration.read(config_file, override or ())
    config = Config.of(_with_resume(_with_out(values, out), out, resume))
    _log_plainly()
    _stop_on_sigterm()
    from localgd.federations import run_in_process

    run_in_process(config)


@app.command()
def serve(
    config_file: ConfigFile,
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen.")] = "127.0.0.1:8080",
    tls: Tls = None,
    insecure: Insecure = False,
    insecure_network: InsecureNetwork = False,
    override: Overrides = None,
    out: Out = None,
    resume: Resume = None,
) -> None:
    """Serve a federation to clients that join over a persistent gRPC stream.

    --tls DIR holds ca.crt, server.crt and server.key (see localgd pki). Only clients with a certificate of
    that CA can join, under the name in it, and none whose certificate is in DIR/revoked.txt when it joins.
    """
    with _refusals_logged() if tls else contextlib.nullcontext():
        _check_security(tls, insecure, insecure_network, address)
        values = configuration.read(config_file, override or ())
        values.setdefault("dataset", "file")  # the clients bring their own data
        config = Config.of(_with_resume(_with_out(values, out), out, resume))
        _log_plainly()
        _stop_on_sigterm()
        from localgd.federations import serve as serve_federation

        serve_federation(config, address, tls)


@app.command()
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
    _log_plainly()
    from client.app import app as client_app
    from client.dataset import load, node_config, source_of
    from client.stream import join as join_stream
    from localgd.tls import client_tls

    own = client_tls(tls, name) if tls else None
    node = node_config(data, label, own.name if own else name)
    where = source_of(node)
    rows, columns = load(where).X.shape  # a mistake in the file shows here, before anybody is bothered
    _say(f"{where.name}: {rows} examples, {columns} feature columns; joining {address}")
    join_stream(
        address,
        client_app,
        node,
        where.name,
        credentials=own.credentials if own else None,
        tls=own.context if own else None,
        retry_for=retry_for,
        report=_say,
    )
    _say("done: the federation has ended")


@app.command()
def simulate(
    config_file: ConfigFile, override: Overrides = None, out: Out = None, timeout: Timeout = 3600.0
) -> None:
    """Run a federation in Flower's simulation (Ray), one virtual node per client."""
    config = Config.of(_with_out(configuration.read(config_file, override or ()), out))
    from localgd.submission import simulate as simulate_federation

    _stop_on_sigterm()
    simulate_federation(config, timeout, _say)


@app.command()
def submit(
    config_file: ConfigFile,
    connection: Annotated[str, typer.Argument(metavar="CONNECTION", help="A SuperLink that flwr knows.")],
    override: Overrides = None,
    timeout: Timeout = 3600.0,
) -> None:
    """Run a federation on a SuperLink, whose SuperNodes bring their own data, and wait for its end."""
    values = configuration.read(config_file, override or ())
    values.setdefault("dataset", "file")  # the nodes bring their own data
    from localgd.submission import submit as submit_federation

    _stop_on_sigterm()
    submit_federation(Config.of(values), connection, timeout, _say)


@app.command()
def compare(
    config_file: ConfigFile,
    strategies: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Strategies; modified-local-gd/projection names a solver too. If not given: local-gd, "
            "modified-local-gd/projection and cutting-plane.",
        ),
    ] = None,
    solvers: Annotated[
        str,
        typer.Option(metavar="A,B", help="Solvers, for the strategies that name none."),
    ] = "",
    local_steps: Annotated[str, typer.Option(metavar="K,K", help="Numbers of local steps.")] = "",
    seeds: Annotated[str, typer.Option(metavar="S,S", help="Seeds of the split and the shards.")] = "",
    stop: Annotated[
        float | None,
        typer.Option(
            metavar="DEG",
            help="Stop a run when it is certified to be this near the centralized model; 0 for never. "
            "The configuration's stop-at-certified-angle, else 0.1, if not given.",
        ),
    ] = None,
    override: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new directory; runs/<time>-compare if not given.")
    ] = None,
) -> None:
    """Run strategies side by side in this process, in every combination, and show and write a table."""
    values = _with_out(configuration.read(config_file, override or ()), out)
    from rich.console import Console

    from localgd.compare import STRATEGIES, plan
    from localgd.compare import compare as compare_runs

    chosen = STRATEGIES if strategies is None else strategies
    compare_runs(plan(values, chosen, solvers, local_steps, seeds, stop), Console())


@app.command()
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

    _say(write_shards(config, out))


@app.command()
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


def _with_out(values: dict[str, Value], out: Path | None) -> dict[str, Value]:
    return values | ({"out": str(out)} if out else {})


def _with_resume(values: dict[str, Value], out: Path | None, resume: Path | None) -> dict[str, Value]:
    if resume and out:
        raise UserError(f"--resume goes on in {resume}: leave out --out")
    return values | ({"resume": str(resume)} if resume else {})


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


def _log_plainly() -> None:
    """Send Flower's log, which the server writes its rounds to, to stdout as plain lines."""
    from flwr.common.logger import FLOWER_LOGGER

    for old in list(FLOWER_LOGGER.handlers):
        FLOWER_LOGGER.removeHandler(old)
    handler = logging.StreamHandler(sys.stdout)
    handler.setLevel(logging.INFO)
    FLOWER_LOGGER.addHandler(handler)
    FLOWER_LOGGER.propagate = False


def _stop_on_sigterm() -> None:
    """Let a request to end unwind this process, so that what it has started ends with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def _say(text: str) -> None:
    print(text, flush=True)
