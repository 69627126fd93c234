"""What MkDocs does besides rendering: tables made from the code itself, so that they cannot drift.

A page asks for a table with a line ``<!-- made from the code: NAME -->``.
"""

import ast
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
warnings.filterwarnings("ignore", "'click", DeprecationWarning)  # typer still asks for what click will drop
sys.path.insert(0, str(ROOT))  # mkdocs runs as a script, which does not see the packages beside it

import click  # noqa: E402

from common import config  # noqa: E402
from common.config import Config  # noqa: E402
from localgd import cli  # noqa: E402

MARK = re.compile(r"^<!-- made from the code: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the tables, and leave only the text of links to files that are not among the pages."""
    filled = MARK.sub(lambda mark: "\n".join(TABLES[mark[1]]()), markdown)
    up = r"\.\./" * (1 + page.file.src_uri.count("/"))
    return re.sub(rf"\[([^\]]+)\]\({up}[^)]*\)", r"\1", filled)


def keys() -> Iterator[str]:
    """Yield the table of configuration keys."""
    yield from ("| key | | allowed | default |", "|---|---|---|---|")
    meanings = meaning_of_keys()
    for name, default in config.defaults().items():
        allowed = Config.__dataclass_fields__[name.replace("-", "_")].metadata["rule"].allowed
        yield row(f"`{name}`", meanings[name], allowed, code(default))


def meaning_of_keys() -> dict[str, str]:
    """Return the line under each key in the source of the configuration."""
    [body] = ast.parse(inspect.getsource(Config)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, after in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(after, ast.Expr), f"{field.target.id} has no line that says what it is"
            assert isinstance(after.value, ast.Constant)
            found[field.target.id.replace("_", "-")] = str(after.value.value)
    return found


def commands() -> Iterator[str]:
    """Yield a section for each command: what it does, its arguments and its options."""
    group = cli.group()
    for panel, functions in cli.COMMANDS.items():
        yield f"\n## {panel}\n"
        for function in functions:
            yield from one_command(group.commands[function.__name__])


def one_command(command: click.Command) -> Iterator[str]:
    """Yield the section of one command."""
    with click.Context(command, info_name=f"localgd {command.name}") as context:
        usage = command.collect_usage_pieces(context)
    yield from (f"\n### {command.name}\n", "```text", " ".join([context.info_name or "", *usage]), "```", "")
    yield command.help or ""
    yield from ("\n| argument, option | | default |", "|---|---|---|")
    for parameter in command.params:
        declared: Any = parameter
        takes = declared.metavar or (
            "" if getattr(declared, "is_flag", False) else parameter.type.name.upper()
        )
        named = takes if isinstance(parameter, click.Argument) else f"{parameter.opts[0]} {takes}".strip()
        default = (
            ""
            if parameter.default is None or parameter.default is False or parameter.default == ""
            else code(parameter.default)
        )
        yield row(f"`{named}`".replace("|", "\\|"), declared.help or "", default)


def row(*cells: str) -> str:
    """Return a line of a table, in which <time> is no tag."""
    return f"| {' | '.join(cells)} |".replace("<", "&lt;")


def code(value: Any) -> str:
    """Return a value as it is written in a configuration."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) and value else f"`{value}`" if value != "" else ""


def solvers() -> Iterator[str]:
    """Yield the table of the solvers that each strategy works with."""
    yield from ("| strategy | solvers; the first is its default |", "|---|---|")
    for strategy, names in config.SOLVERS.items():
        yield row(f"`{strategy}`", ", ".join(f"`{name}`" for name in names))


TABLES: dict[str, Callable[[], Iterator[str]]] = {"keys": keys, "commands": commands, "solvers": solvers}
