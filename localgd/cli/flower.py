"""Federations on Flower's own engines: simulate and submit."""

from typing import Annotated

import typer

from common import config as configuration
from common.config import Config
from localgd.cli.options import (
    ConfigFile,
    Out,
    Overrides,
    Resume,
    Timeout,
    say,
    stop_on_sigterm,
    with_out,
    with_resume,
)


def simulate(
    config_file: ConfigFile,
    override: Overrides = None,
    out: Out = None,
    resume: Resume = None,
    timeout: Timeout = 3600.0,
) -> None:
    """Run a federation in Flower's simulation (Ray), one virtual node per client."""
    values = configuration.read(config_file, override or ())
    config = Config.of(with_resume(with_out(values, out), out, resume))
    from localgd.submission import simulate as simulate_federation

    stop_on_sigterm()
    simulate_federation(config, timeout, say)


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

    stop_on_sigterm()
    submit_federation(Config.of(values), connection, timeout, say)
