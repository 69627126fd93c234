"""Python, packages, extras, and the threads that numpy computes with."""

import os
import platform
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from localgd.doctor import Finding

PURPOSES = {
    "docs": "building this documentation",
    "examples": "the named data sets",
    "fast": "long local solves, compiled",
    "parquet": ".parquet files",
    "plots": "a report's pictures as PNG files",
    "reference": "the exact centralized model to compare with",
    "simulation": "localgd simulate, Flower's simulation",
    "svmlight": "svmlight files",
    "tensorboard": "event files of a run",
    "torch": "engine = 'torch', GPUs",
}
"""What each extra is for."""

BUNDLES = ("standard", "dev")
"""Extras that only put others together, or are for work on localgd itself."""

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def python() -> Iterator[Finding]:
    """Say which Python runs, and where."""
    yield Finding("ok", "python", f"{platform.python_version()}, {sys.executable}")


def packages(needed: Iterable[str] | None = None) -> Iterator[Finding]:
    """Compare the installed versions with those that are needed; ``needed`` is for tests."""
    try:
        listed = list(needed if needed is not None else requires("localgd") or ())
    except PackageNotFoundError:
        yield Finding("problem", "localgd", "is not installed: pip install . in its directory")
        return
    if needed is None:
        yield Finding("ok", "localgd", version("localgd"))
    always, optional = _by_extra(map(Requirement, listed))
    wrong = [fault for requirement in always if (fault := _fault(requirement))]
    for fault in wrong:
        yield Finding("problem", "packages", fault)
    if not wrong:
        named = ("flwr", "numpy", "grpcio", "cryptography")
        told = ", ".join(f"{name} {version(name)}" for name in named)
        yield Finding("ok", "packages", f"{told}; all {len(always)} as needed")
    for extra, requirements in sorted(optional.items()):
        if extra not in BUNDLES:
            yield _extra(extra, requirements)


def threads() -> Iterator[Finding]:
    """Say how many threads numpy's products take, and how many cores there are."""
    import numpy as np

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    told = f"{blas['name']} {blas['version']}, {cores} core{'s' if cores > 1 else ''}"
    values = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    told += "".join(f", {name}={value}" for name, value in values.items())
    many = [name for name, value in values.items() if value.isdecimal() and int(value) > 1]
    if many:
        yield Finding(
            "warning",
            "threads",
            f"{told}: several threads wait for each other in products as small as a round's; "
            f"unset {' and '.join(many)}",
        )
    else:
        yield Finding("ok", "threads", told)


def _by_extra(
    requirements: Iterable[Requirement],
) -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    always, optional = [], defaultdict(list)
    for requirement in requirements:
        marker = str(requirement.marker or "")
        if "extra ==" in marker:
            optional[marker.split("extra ==")[1].split('"')[1]].append(requirement)
        elif requirement.marker is None or requirement.marker.evaluate():
            always.append(requirement)
    return always, optional


def _extra(extra: str, requirements: Iterable[Requirement]) -> Finding:
    """Say whether an extra is there; of one that asks for another package's extra, whether that is."""
    what, purpose = f"extra {extra}", PURPOSES.get(extra, "")
    wanted = [one for requirement in requirements for one in _behind(requirement)]
    missing = [one.name for one in wanted if _installed(one) is None]
    faults = [fault for one in wanted if one.name not in missing and (fault := _fault(one))]
    if faults:
        return Finding("problem", what, f"{purpose}: {'; '.join(faults)}")
    if missing:
        told = f"{purpose}: needs {', '.join(missing)}: pip install 'localgd[{extra}]'"
        return Finding("absent", what, told)
    return Finding("ok", what, f"{purpose}: {', '.join(f'{one.name} {_installed(one)}' for one in wanted)}")


def _behind(requirement: Requirement) -> list[Requirement]:
    if not requirement.extras or _installed(requirement) is None:
        return [requirement]
    found = []
    for other in map(Requirement, requires(requirement.name) or ()):
        if other.marker and any(other.marker.evaluate({"extra": extra}) for extra in requirement.extras):
            found += [other] if not other.marker.evaluate({"extra": ""}) else []
    return found


def _fault(requirement: Requirement) -> str:
    """Say what is wrong with a package, if anything is."""
    installed = _installed(requirement)
    if installed is None:
        return f"{requirement.name} is not installed: pip install '{requirement.name}{requirement.specifier}'"
    if not requirement.specifier.contains(installed, prereleases=True):
        return (
            f"{requirement.name} {installed} is installed, but {requirement.specifier} is needed: "
            f"pip install '{requirement.name}{requirement.specifier}'"
        )
    return ""


def _installed(requirement: Requirement) -> str | None:
    try:
        return version(requirement.name)
    except PackageNotFoundError:
        return None
