"""The command ``localgd``: one module for each group of commands."""

import inspect
import os
import re
import sys
from typing import NoReturn

import click
import typer
from typer.core import TyperArgument

from common.errors import LocalGDError
from localgd.cli import doctor, federation, files, flower, models, runs
from localgd.cli.options import QUIET

INTERRUPTED = 130
COMMANDS = {
    "In this process": (runs.run, runs.compare, runs.report),
    "As processes": (files.shard, files.pki, federation.serve, federation.join),
    "On Flower's engines": (flower.simulate, flower.submit),
    "Models": (models.predict, models.reference),
    "Installation": (doctor.doctor,),
}
"""The commands as the help groups them."""

app = typer.Typer(
    name="localgd",
    help="Federated training that proves, round by round, how close its model is to the centralized one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)


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
        exit_code = group()(prog_name="localgd", standalone_mode=False)
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


def group() -> click.Group:
    """Return the commands as click has them, for `main` and for the documentation."""
    commands = typer.main.get_command(app)
    assert isinstance(commands, click.Group)
    for command in commands.commands.values():
        _mend_help(command)
    return commands


def _mend_help(command: click.Command) -> None:
    """Let paragraphs flow, and give arguments what the signature says: with click 8.5 typer 0.20 loses it."""
    assert command.callback is not None
    command.help = re.sub(r"(?<!\n)\n(?!\n)", " ", command.help or "")
    signature = inspect.signature(command.callback)
    for parameter in command.params:
        if isinstance(parameter, TyperArgument) and not parameter.help and parameter.name:
            [declared] = signature.parameters[parameter.name].annotation.__metadata__
            parameter.help = declared.help


def _fail(text: str, exit_code: int) -> NoReturn:
    print(f"localgd: {text}", file=sys.stderr)
    sys.exit(exit_code)
