"""What came of several runs, as one table: on the console, in Markdown and in CSV."""

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from common.config import Config


@dataclass(frozen=True)
class Outcome:
    """What came of one run; the fields are the columns of ``table.csv``.

    ``to_target`` is the first round whose model was certified to be within the target, ``megabytes`` what
    one client sent in all rounds, on average, ``seconds`` the rounds' time.  None: not known, not reached.
    """

    strategy: str
    solver: str
    local_steps: int | None
    seed: int
    rounds: int = 0
    to_target: int | None = None
    true_angle_deg: float | None = None
    certified_angle_deg: float | None = None
    errors: int | None = None
    test_accuracy: float | None = None
    megabytes: float | None = None
    seconds: float | None = None
    failure: str = ""
    alpha: float | None = None
    directory: str = ""


def outcome_of(config: Config, path: Path, target: float, failure: str = "") -> Outcome:
    """Read a run's directory, whatever there is of it; ``target`` in degrees."""
    steps = None if config.solver == "projection" else config.local_steps
    alpha = config.alpha if config.partition == "dirichlet" and config.dataset != "file" else None
    outcome = Outcome(
        config.strategy,
        config.solver,
        steps,
        config.seed,
        failure=failure,
        alpha=alpha,
        directory=path.name,
    )
    log, summary = path / "rounds.jsonl", path / "summary.json"
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
    if not rows:
        return outcome
    last = rows[-1]
    return dataclasses.replace(
        outcome,
        rounds=last["round"],
        to_target=next((row["round"] for row in rows if _within(row, target)), None),
        true_angle_deg=last["true_angle_deg"],
        certified_angle_deg=last["certified_angle_deg"],
        errors=last["errors"],
        test_accuracy=last.get("test_accuracy"),
        megabytes=sum(row["bytes"]["received"] / row["clients"] for row in rows) / 1e6,
        seconds=json.loads(summary.read_text("utf-8"))["seconds"] if summary.exists() else None,
    )


def conclusion(outcome: Outcome) -> str:
    """Say in one line what came of a run."""
    if outcome.failure:
        return f"failed: {outcome.failure}"
    return (
        f"{outcome.rounds} rounds, {_number(outcome.seconds)} s, true angle "
        f"{_degrees(outcome.true_angle_deg)}, certified {_degrees(outcome.certified_angle_deg)}"
    )


def show(outcomes: Sequence[Outcome], target: float, console: Console) -> None:
    """Print the table, without the columns that have nothing to say and the long reasons of failures."""
    hidden = {"failure"}
    for name in ("seed", "alpha"):
        if len({getattr(outcome, name) for outcome in outcomes}) == 1:
            hidden.add(name.replace("alpha", "α"))
    if all(outcome.to_target in (None, outcome.rounds) for outcome in outcomes):
        hidden.add("rounds")  # where it is not reached, "> rounds" says it
    named = [dict(zip(_names(target), _cells(outcome), strict=True)) for outcome in outcomes]
    table = Table(box=None, header_style="bold", padding=(0, 1), collapse_padding=True, pad_edge=False)
    for name in named[0]:
        if name == "strategy":
            table.add_column(name)  # the only one that a narrow console may break, between words
        elif name not in hidden:
            table.add_column(name.replace(" to ", "\nto "), justify="right", no_wrap=True)
    for row in named:
        table.add_row(*(cell for name, cell in row.items() if name not in hidden))
    console.print(table)


def write_tables(folder: Path, outcomes: Sequence[Outcome], target: float) -> None:
    """Write ``table.csv``, with numbers, and ``table.md``, with words."""
    with open(folder / "table.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Outcome)])
        writer.writeheader()
        writer.writerows(map(dataclasses.asdict, outcomes))
    names = _names(target)
    lines = [names, ["---"] + ["---:"] * (len(names) - 2) + ["---"], *map(_cells, outcomes)]
    text = "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)
    (folder / "table.md").write_text(f"{text}\n{legend(target)}\n", encoding="utf-8")


def legend(target: float) -> str:
    """Say what the columns are that do not say it themselves."""
    return (
        f"Rounds to {target:g}°: until certified to be that near the centralized model. "
        "MB sent: by one client, in all rounds."
    )


def _names(target: float) -> list[str]:
    return [
        "strategy", "K", "α", "seed", f"rounds to {target:g}°", "rounds", "true", "certified", "errors",
        "test", "MB sent", "seconds", "failure",
    ]  # fmt: skip


def _cells(outcome: Outcome) -> list[str]:
    accuracy = outcome.test_accuracy
    return [
        f"{outcome.strategy} with {outcome.solver}",
        _known(outcome.local_steps),
        "-" if outcome.alpha is None else f"{outcome.alpha:g}",
        str(outcome.seed),
        "failed" if outcome.failure else _known(outcome.to_target, f"> {outcome.rounds}"),
        str(outcome.rounds),
        _degrees(outcome.true_angle_deg),
        _degrees(outcome.certified_angle_deg),
        _known(outcome.errors),
        "-" if accuracy is None else f"{100 * accuracy:.1f}%",
        _number(outcome.megabytes),
        _number(outcome.seconds),
        outcome.failure,
    ]


def _within(row: Mapping[str, Any], target: float) -> bool:
    return row["certified_angle_deg"] is not None and row["certified_angle_deg"] <= target


def _degrees(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}°" if value >= 0.1 else f"{value:.2g}°"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _known(value: int | None, unknown: str = "-") -> str:
    return unknown if value is None else str(value)
