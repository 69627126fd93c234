"""What the commands share: arguments and options, and what follows from them."""

import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from common.config import Value
from common.errors import UserError

QUIET = "NONE"
"""The verbosity of gRPC at which it says nothing: our own lines say what is wrong."""

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
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the last line only.")]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print each round as a JSON object, as in rounds.jsonl, and nothing else."),
]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", min=1, help="A run that takes longer is stopped.")]


def with_out(values: dict[str, Value], out: Path | None) -> dict[str, Value]:
    return values | ({"out": str(out)} if out else {})


def with_resume(values: dict[str, Value], out: Path | None, resume: Path | None) -> dict[str, Value]:
    if resume and out:
        raise UserError(f"--resume goes on in {resume}: leave out --out")
    return values | ({"resume": str(resume)} if resume else {})


def log_plainly() -> None:
    """Send Flower's log, which the server writes its rounds to, to stdout as plain lines."""
    from flwr.common.logger import FLOWER_LOGGER

    for old in list(FLOWER_LOGGER.handlers):
        FLOWER_LOGGER.removeHandler(old)
    handler = logging.StreamHandler(sys.stdout)
    handler.setLevel(logging.INFO)
    FLOWER_LOGGER.addHandler(handler)
    FLOWER_LOGGER.propagate = False


def stop_on_sigterm() -> None:
    """Let a request to end unwind this process, so that what it has started ends with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def say(text: str) -> None:
    print(text, flush=True)
