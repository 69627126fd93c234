"""Examine an installation, and what a run would need, and say what to mend."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from common.errors import UserError

State = Literal["ok", "absent", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: its state, what it is, and what there is to say, or to mend."""

    state: State
    what: str
    text: str


Check = Callable[[], Iterator[Finding]]


def found_by(name: str, *arguments: object) -> Check:
    """Return the check ``MODULE.FUNCTION`` of this package, which is imported when it runs.

    So that one whose packages are missing or broken is a finding, and the others still run.
    """

    def run() -> Iterator[Finding]:
        module, _, function = name.partition(".")
        yield from getattr(importlib.import_module(f"localgd.doctor.{module}"), function)(*arguments)

    return run


def examine(checks: Sequence[tuple[str, Check]]) -> Iterator[Finding]:
    """Run the checks one after the other; whatever one of them raises is a finding too."""
    for what, check in checks:
        try:
            yield from check()
        except UserError as error:
            yield Finding("problem", what, str(error))
        except Exception as error:  # a doctor that falls over helps nobody
            told = " ".join(str(error).split()) or "without a word"
            yield Finding("problem", what, f"cannot be examined: {type(error).__name__}: {told}")


def verdict(findings: Sequence[Finding]) -> str:
    """Say in one line what came of it."""
    counted = []
    for state in ("problem", "warning"):
        if number := sum(finding.state == state for finding in findings):
            counted.append(f"{number} {state}{'s' if number > 1 else ''}")
    return ", ".join(counted) or "nothing to mend"
