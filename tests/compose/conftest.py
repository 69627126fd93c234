"""Tests in real containers. `make test-compose` runs them; `make test` leaves them out, as they take minutes.

Without a Docker engine, and without leave to start one, they are skipped; the end of the output says why.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.compose import engine as engines
from tests.compose.engine import Engine
from tests.compose.stack import Stack

if os.environ.get("LOCALGD_TEST_COMPOSE") != "1":
    collect_ignore_glob = ["test_*.py"]

told: list[str] = []  # figures and reasons for the end of the output


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in dict.fromkeys(told):
        terminalreporter.write_line(line, yellow=True, bold=True)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine that answers."""
    try:
        with engines.engine() as engine:
            yield engine
    except engines.NoEngine as reason:
        _skip(reason)


@pytest.fixture(scope="session")
def base(engine: Engine) -> str:
    """The image that the images are built on."""
    try:
        return engines.base_image(engine)
    except engines.NoEngine as reason:
        _skip(reason)


@pytest.fixture(scope="session")
def tag(engine: Engine, base: str) -> Iterator[str]:
    """The tag of the images `localgd-server` and `localgd-client`, built from this work tree."""
    tag = f"test-{os.getpid()}"
    images = [f"localgd-{target}:{tag}" for target in ("client", "server")]
    for target, image in zip(("client", "server"), images, strict=True):
        engines.build(engine, base, target, image)
    yield tag
    engine.run("image", "rm", *images, check=False)


@pytest.fixture
def stack(engine: Engine, tag: str, tmp_path: Path) -> Iterator[Stack]:
    """The compose file's services, with nothing running yet and nothing left at the end."""
    tmp_path.chmod(0o755)
    stack = Stack(engine, tmp_path, tag)
    try:
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="session")
def tell() -> list[str]:
    """Lines for the end of the output."""
    return told


def _skip(reason: Exception) -> NoReturn:
    told.append(f"NOT TESTED in containers: {reason}")
    pytest.skip(str(reason))
