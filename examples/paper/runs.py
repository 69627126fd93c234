"""What a study runs: every combination of its keys, each run kept under the hash of its keys."""

import hashlib
import itertools
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import Value

Keys = Mapping[str, Value]
HERE = Path(__file__).parent
RESULTS = HERE / "results"
RECORDED = (1, 1.5, 2, 3, 5, 7)
"""Recorded rounds, and their multiples by powers of ten."""


@dataclass(frozen=True)
class Run:
    """One run: the keys it was asked for, and what came of it.

    Attributes
    ----------
    curve
        Column -> values, one for each of the rounds in the column ``round``, see `sampled`.
    facts
        What is known of the whole run, such as ``seconds`` of processor time.
    """

    keys: Keys
    curve: Mapping[str, list[Any]]
    facts: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        """Return the value of a key."""
        return self.keys[key]

    @property
    def recorded(self) -> list[int]:
        """The rounds of the curve; [0] where there are none to speak of."""
        return self.curve["round"] or [0]

    @property
    def last(self) -> dict[str, Any]:
        """The last row of the curve."""
        return {name: values[-1] for name, values in self.curve.items()}

    def at(self, number: int) -> dict[str, Any]:
        """Return the row of a recorded round, or the last one if the run had ended by then."""
        rounds = self.curve["round"]
        place = rounds.index(min(number, rounds[-1]))
        return {name: values[place] for name, values in self.curve.items()}

    def line(self) -> str:
        """Return the run as a line of a results file."""
        whole = {"keys": dict(self.keys), "facts": dict(self.facts), "curve": dict(self.curve)}
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


class Runs(tuple[Run, ...]):
    """Some runs of a study, in the order of its file."""

    def of(self, **keys: Value) -> "Runs":
        """Return the runs with these keys; a run that does not have a key at all is left out."""
        wanted = {name.replace("_", "-"): value for name, value in keys.items()}
        return Runs(run for run in self if all(run.keys.get(k, _NONE) == v for k, v in wanted.items()))

    def one(self, **keys: Value) -> Run:
        """Return the only run with these keys."""
        (run,) = self.of(**keys)
        return run

    def values(self, key: str) -> list[Any]:
        """Return the different values of a key, in the order of the file."""
        return list(dict.fromkeys(run.keys[key] for run in self if key in run.keys))


_NONE = object()


def planned(study: str) -> list[Keys]:
    """Return the keys of every run that a study's file asks for.

    ``[base]`` holds what all runs share; every ``[[runs]]`` adds to it, and a list there stands for each of
    its values.
    """
    whole = tomllib.loads((HERE / f"{study}.toml").read_text("utf-8"))
    wanted = [keys for block in whole["runs"] for keys in combinations({**whole.get("base", {}), **block})]
    return list({name_of(keys): keys for keys in wanted}.values())


def combinations(block: Mapping[str, Any]) -> Iterator[Keys]:
    """Yield every combination of the lists among some keys."""
    choices = [value if isinstance(value, list) else [value] for value in block.values()]
    for chosen in itertools.product(*choices):
        yield dict(zip(block, chosen, strict=True))


def sampled(last: int) -> list[int]:
    """Return the rounds that are recorded of so many: about as many for each factor of ten, and the last."""
    grid = (part * 10**power for power in range(len(str(last))) for part in RECORDED)
    return sorted({int(number) for number in grid if number <= last and number % 1 == 0} | {last})


def name_of(keys: Keys) -> str:
    """Return the hash of a run's keys, whatever their order."""
    text = json.dumps(dict(keys), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(path: Path) -> dict[str, Run]:
    """Read a results file: the runs by the hashes of their keys.

    Those that were recorded at other rounds than one would be now are left out, to be made again: what a
    study shows must not depend on when it was run.
    """
    if not path.exists():
        return {}
    runs = [Run(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]
    return {name_of(run.keys): run for run in runs if run.recorded == sampled(max(run.recorded, default=0))}


def write(path: Path, runs: Iterable[Run]) -> None:
    """Write a results file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text("".join(run.line() + "\n" for run in runs), encoding="utf-8")
    os.replace(new, path)


def complete(study: str, results: Path = RESULTS) -> Runs:
    """Return the runs of a study, in the order of its file.

    Raises
    ------
    LookupError
        When one has not been run.
    """
    found = read(results / f"{study}.jsonl")
    keys = planned(study)
    if missing := sum(name_of(one) not in found for one in keys):
        raise LookupError(f"{study}: {missing} of {len(keys)} runs have not been run: make reproduce")
    return Runs(found[name_of(one)] for one in keys)
