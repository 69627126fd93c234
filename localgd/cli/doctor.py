"""Look at an installation and at what a run needs: doctor."""

from pathlib import Path
from typing import Annotated

import typer

from localgd.cli.options import Tls

COLOURS = {"ok": "green", "absent": "dim", "warning": "yellow", "problem": "bold red"}
ADDRESS = "127.0.0.1:8080"


def doctor(
    config_file: Annotated[
        Path | None, typer.Argument(metavar="CONFIG.toml", help="A configuration to examine too.")
    ] = None,
    tls: Tls = None,
    data: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A data file to examine; may be repeated.")
    ] = None,
    label: Annotated[
        str, typer.Option(metavar="COLUMN", help="The label column of a .csv or .parquet file.")
    ] = "label",
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where a server is to listen, or does already.")
    ] = None,
) -> None:
    """Examine the installation, and what a run needs, and say what to mend.

    Each line is ok, absent (not there, and perhaps not needed), a warning or a problem. The exit code is 1 if
    there is a problem.
    """
    from rich.console import Console
    from rich.text import Text

    from localgd.doctor import Check, examine, found_by, verdict

    where = address or ADDRESS
    checks: list[tuple[str, Check]] = [
        ("python", found_by("installation.python")),
        ("packages", found_by("installation.packages")),
        ("threads", found_by("installation.threads")),
        ("flower", found_by("network.connections")),
        (f"address {where}", found_by("network.address", where, address is not None)),
    ]
    if tls:
        checks.append((f"--tls {tls}", found_by("certificates.certificates", tls, address)))
    checks += [(path.name, found_by("inputs.data", path, label)) for path in data or ()]
    if config_file:
        checks.append((config_file.name, found_by("inputs.config", config_file)))
    console, findings = Console(soft_wrap=True, highlight=False), []
    for finding in examine(checks):
        findings.append(finding)
        console.print(
            Text.assemble((f"{finding.state:8}", COLOURS[finding.state]), f"{finding.what:18} ", finding.text)
        )
    console.print(verdict(findings))
    raise typer.Exit(any(finding.state == "problem" for finding in findings))
