"""The document: what the studies found, in the places of a template."""

import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from examples.paper import STUDIES
from examples.paper.runs import HERE, RESULTS, Runs, complete

PAGE = HERE.parents[1] / "docs" / "reproduction.md"
IMAGES = PAGE.parent / "images" / "reproduction"
NAMED = {"2412.07971", "2506.13974", "2024", "2026"}
"""Numbers in the template's prose that nobody has measured: names and dates."""

PLACE = re.compile(r"\{\{ *([\w.-]+) *\}\}")


def publish(study: str) -> None:
    """Write what a study found, and draw its figures."""
    runs = complete(study)
    text = json.dumps(find(study, runs), indent=1, ensure_ascii=False) + "\n"
    findings_file(study).write_text(text, encoding="utf-8")
    draw(study, runs)


def find(study: str, runs: Runs) -> dict[str, str]:
    """Return what a study found: the words for its places in the template.

    Raises
    ------
    RuntimeError
        When the runs do not show what the document says.
    """
    module = importlib.import_module(f"examples.paper.{study}")
    for what, shown in module.expected(runs).items():
        if not shown:
            raise RuntimeError(f"{study}: the document says that {what}; the runs do not show it")
    seconds = sum(run.facts["seconds"] for run in runs)
    found: dict[str, str] = module.find(runs)
    return found | {"runs": str(len(runs)), "minutes": f"{seconds / 60:.1f}"}


def draw(study: str, runs: Runs) -> None:
    """Draw a study's figures."""
    from examples.paper.figures import save

    module = importlib.import_module(f"examples.paper.{study}")
    for name, figure in module.draw(runs).items():
        save(figure, IMAGES / f"{name}.png")


def total() -> None:
    """Write how many runs all studies have made, and the minutes of processor time that they took."""
    runs = [run for study in STUDIES for run in complete(study)]
    minutes = f"{sum(run.facts['seconds'] for run in runs) / 60:.0f}"
    text = json.dumps({"runs": str(len(runs)), "minutes": minutes}, indent=1) + "\n"
    (RESULTS / "total.json").write_text(text, encoding="utf-8")


def findings_file(study: str) -> Path:
    """Return where a study's findings are kept."""
    return RESULTS / f"{study}.json"


def render(template: str = "", findings: Mapping[str, Any] | None = None) -> str:
    """Return the document.

    Raises
    ------
    KeyError
        When the template has a place that no study fills.
    """
    template = template or (HERE / "template.md").read_text("utf-8")
    if findings is None:
        findings = {study: json.loads(findings_file(study).read_text("utf-8")) for study in STUDIES}
    known = {f"{study}.{name}": word for study, words in findings.items() for name, word in words.items()}
    for apart in ("machine", "ways", "total"):  # no study of their own
        if (file := RESULTS / f"{apart}.json").exists():
            known |= flat(apart, json.loads(file.read_text("utf-8")))
    return PLACE.sub(lambda place: known[place[1]], template)


def flat(name: str, whole: Mapping[str, Any]) -> dict[str, str]:
    """Return the entries of nested objects by their names with dots between them."""
    found: dict[str, str] = {}
    for key, value in whole.items():
        path = f"{name}.{key}"
        found |= flat(path, value) if isinstance(value, dict) else {path: str(value)}
    return found
