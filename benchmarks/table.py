"""A row of the results, and the page that they make."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

PACKAGES = "flwr", "numpy", "numba", "torch", "scipy", "scikit-learn", "daqp", "grpcio", "protobuf", "ray"


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes
    ----------
    what, against
        What was measured, and what it is compared with, in the same run.
    measured
        Both figures, in words.
    ratio
        How many times faster than the other, or, where ``at_most``, how many times its cost.
    target
        What the ratio has to be: at least this, or where ``at_most`` at most this; None without a target.
    limit
        How far from what the machine can do, in words.
    """

    what: str
    against: str
    measured: str
    ratio: float
    target: float | None
    at_most: bool = False
    limit: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target

    def cells(self) -> tuple[str, ...]:
        """Return the row's cells, in the order of `HEADER`."""
        sign = "≤" if self.at_most else "≥"
        target = "" if self.target is None else f"{sign} {self.target:g} ×"
        answer = {True: "yes", False: "**no**", None: ""}[self.reached]
        return self.what, self.against, self.measured, f"{self.ratio:.3g} ×", target, answer, self.limit


HEADER = "what", "against", "measured", "ratio", "target", "reached", "distance to the limit"


def page(rows: Sequence[Row], left_out: Sequence[str], command: str, load: str) -> str:
    """Return the results in Markdown, with machine, versions and command."""
    lines = [
        "# Results of `make bench`",
        "",
        "A ratio compares two things that were timed in turns in one run; it is of medians. Distances to a",
        "limit are of the smallest times. What each row does is in its module in `benchmarks/`; what follows",
        "for running a federation is in [docs/performance.md](../docs/performance.md).",
        "",
        f"- command: `{command}`",
        f"- machine: {machine()}",
        f"- versions: {versions()}",
        f"- load average (other processes included): {load}",
        "",
        _line(HEADER),
        _line(["---"] * len(HEADER)),
        *(_line(row.cells()) for row in rows),
        "",
    ]
    if left_out:
        lines += ["Not measured in this run: " + "; ".join(left_out) + ".", ""]
    return "\n".join(lines)


def machine() -> str:
    """Say what computes: processor, cores, memory, system."""
    model = next((line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model or platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()}"


def versions() -> str:
    """Return the versions of Python and of the packages that the rows use."""
    known = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            known.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            known.append(f"no {package}")
    return ", ".join(known)


def _cpuinfo() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
