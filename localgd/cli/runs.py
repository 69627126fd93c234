"""Federations in this process, and what came of them: run, compare and report."""

from pathlib import Path
from typing import Annotated

import typer

from common import config as configuration
from common import interrupts
from common.config import Config
from common.errors import UserError
from localgd.cli.options import (
    ConfigFile,
    Json,
    Out,
    Overrides,
    Quiet,
    Resume,
    say,
    with_out,
    with_resume,
)


def run(
    config_file: ConfigFile,
    override: Overrides = None,
    out: Out = None,
    resume: Resume = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a whole federation in this process."""
    values = configuration.read(config_file, override or ())
    config = Config.of(with_resume(with_out(values, out), out, resume))
    from localgd.federations import run_in_process
    from localgd.live import shown

    with interrupts.deferred(), shown(quiet, as_json):
        run_in_process(config)


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
    alphas: Annotated[
        str,
        typer.Option(metavar="A,A", help="Dirichlet concentrations; small is heterogeneous."),
    ] = "",
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
    """Run strategies side by side in this process, in every combination: a table, and a page of pictures."""
    values = with_out(configuration.read(config_file, override or ()), out)
    from rich.console import Console

    from localgd.compare import STRATEGIES, plan
    from localgd.compare import compare as compare_runs

    chosen = STRATEGIES if strategies is None else strategies
    compare_runs(plan(values, chosen, solvers, local_steps, seeds, stop, alphas), Console())


def report(
    directory: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="The directory of a run, or of a comparison.")
    ],
) -> None:
    """Draw a run, whole or broken off: report.html, one page with everything in it, and its pictures.

    Every run leaves report.html and the pictures as SVG files, every comparison compare.html; this makes them
    anew, and the pictures as PNG files too.
    """
    from localgd import compare_page
    from server.report import PAGE, PLOTS, write_report
    from server.report.png import HINT, write_png

    try:
        if compared := (directory / compare_page.TABLE).exists():
            pictures = compare_page.write_page(directory)
        else:
            pictures = write_report(directory)
        drawn = write_png(pictures)
    except OSError as error:
        raise UserError(f"cannot write to '{directory}': {error.strerror}") from None
    page = directory / (compare_page.PAGE if compared else PAGE)
    hint = "" if drawn else f"; {HINT}"
    say(f"{page}; {len(pictures)} pictures in {directory / PLOTS}{hint}")
