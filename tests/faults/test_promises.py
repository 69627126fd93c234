"""What docs/reliability.md and docs/security.md promise, a test that exists holds."""

import ast
import re
from pathlib import Path

import pytest

from tests.processes import ROOT

PAGES = [ROOT / "docs" / "reliability.md", ROOT / "docs" / "security.md"]


def functions(path: Path) -> set[str]:
    """The tests of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 5
    for file, function in named:
        assert (ROOT / file).is_file(), file
        assert not function or function in functions(ROOT / file), function


def test_every_promise_has_its_test() -> None:
    text = PAGES[0].read_text(encoding="utf-8").partition("| promise | test |")[2].partition("\n\n")[0]
    rows = text.strip().splitlines()[1:]
    assert len(rows) > 15
    for row in rows:
        assert re.fullmatch(r"\| .+ \| `tests/[\w/]+\.py::test_\w+` \|", row), row
