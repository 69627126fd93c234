"""Read a run directory, whatever there is of it."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.losses import LOSSES

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A run directory's content; without ``summary`` the run goes on still, or was killed."""

    path: Path
    config: Mapping[str, Any]
    handshake: Mapping[str, Any]
    rows: Sequence[Row]
    summary: Mapping[str, Any]

    @property
    def has_margin(self) -> bool:
        """Whether its loss has a margin, and so a certificate."""
        return LOSSES[self.config["loss"]].has_margin

    @property
    def stopped_by(self) -> str:
        """The word of the summary; empty where there is none."""
        return str(self.summary.get("stopped_by", ""))

    def column(self, *keys: str) -> list[Any]:
        """Return one value of every row, by the keys that lead to it; None where it is not known."""
        values: list[Any] = list(self.rows)
        for key in keys:
            values = [None if value is None else value.get(key) for value in values]
        return values

    def known(self, *keys: str) -> bool:
        """Whether any row has a value."""
        return any(value is not None for value in self.column(*keys))

    def drifts(self) -> dict[str, list[float | None]]:
        """Return each client's drift round by round, where the rows name it."""
        rounds = [row.get("client_drift_deg") or {} for row in self.rows]
        return {
            name: [drift.get(name) for drift in rounds] for name in sorted({n for r in rounds for n in r})
        }


def read(path: Path) -> Run:
    """Read a run directory; of its log all rows that are whole.

    Raises
    ------
    UserError
        When the directory holds no run, or one of its files cannot be read.
    """
    if not (path / "config.toml").is_file():
        raise UserError(f"'{path}' holds no run: there is no config.toml in it")
    name = "config.toml"
    try:
        config = tomllib.loads((path / name).read_text("utf-8"))
        documents = {}
        for name in ("handshake.json", "summary.json"):
            file = path / name
            documents[name] = json.loads(file.read_text("utf-8")) if file.exists() else {}
        name = "rounds.jsonl"
        lines = (path / name).read_text("utf-8").split("\n") if (path / name).exists() else [""]
        rows = []
        for number, line in enumerate(lines[:-1], start=1):  # after the last newline: nothing, or half a row
            name = f"rounds.jsonl, row {number}"
            rows.append(json.loads(line))
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}': cannot read {name}: {error}") from None
    return Run(path, config, documents["handshake.json"], rows, documents["summary.json"])
