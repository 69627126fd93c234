"""The run directory: what a run leaves on disk."""

import contextlib
import fcntl
import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tomli_w

from common.config import Config
from common.errors import RunError, UserError
from common.federation import Federation
from common.files import remove_leftovers, whole
from common.model import Model


class RunDirectory:
    """``config.toml``, ``handshake.json``, ``rounds.jsonl``, ``model.npz``, ``best.npz``, ``summary.json``.

    Parameters
    ----------
    config
        Names the directory: a new one as ``out``, that of a run to go on with as ``resume``.
    rows
        With ``resume``: how many rows of ``rounds.jsonl`` stay; those after them are cut.

    Raises
    ------
    UserError
        When the directory cannot be made or already holds a run, when another process writes to it, or when
        the run to go on with has lost rows.
    """

    def __init__(self, config: Config, rows: int = 0) -> None:
        self.path = Path(config.resume or config.out or fresh(Path("runs"), config.strategy))
        check_out(config)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._rounds = open(self.path / "rounds.jsonl", "a", encoding="utf-8")  # noqa: SIM115, open for the whole run
            self._lock()
            self._cut(rows)
            remove_leftovers(self.path)
            (self.path / "summary.json").unlink(missing_ok=True)
            values = config.values() | {"resume": "", "out": config.resume or config.out}
            self._write("config.toml", tomli_w.dumps(values))
        except OSError as error:
            key = "resume" if config.resume else "out"
            raise UserError(f"cannot write to {key} = '{self.path}': {error.strerror}") from None

    def _lock(self) -> None:
        """Keep other processes out, for as long as this one lives."""
        try:
            fcntl.flock(self._rounds, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._rounds.close()
            raise UserError(f"another process is writing to '{self.path}': stop it first") from None

    def _cut(self, rows: int) -> None:
        """Cut the log after so many rows, the last of which are there in full."""
        lines = (self.path / "rounds.jsonl").read_bytes().splitlines(keepends=True)[:rows]
        if len(lines) < rows or (rows and not _is_row(lines[-1], rows)):
            self._rounds.close()
            raise UserError(
                f"resume = '{self.path}': rounds.jsonl has lost rows: its checkpoint follows on round {rows}"
            )
        self._rounds.truncate(sum(map(len, lines)))

    def write_handshake(self, federation: Federation, rates: tuple[float, float]) -> None:
        """Write what the handshake agreed on, and the step size ``η`` and ``λ`` that follow from it."""
        self._write_json(
            "handshake.json",
            {
                "clients": [
                    {
                        "name": client.name,
                        "count": client.count,
                        "fingerprint": client.fingerprint,
                        "max_norm": client.max_norm,
                        "beta": client.beta,
                    }
                    for client in federation.clients
                ],
                "classes": list(federation.preparation.classes),
                "dimension": federation.scaling.dimension,
                "intercept": federation.scaling.intercept,
                "loss": federation.preparation.loss,
                "norm": federation.norm,
                "beta": federation.beta,
                "learning_rate": rates[0],
                "regularization": rates[1],
            },
        )

    def write_row(self, row: dict[str, Any]) -> None:
        """Append a round's row; it is with the operating system when this returns.

        Raises
        ------
        RunError
            When it cannot be written, as on a full disk.
        """
        try:
            self._rounds.write(json.dumps(row) + "\n")
            self._rounds.flush()
        except OSError as error:
            raise RunError(f"cannot write to '{self.path / 'rounds.jsonl'}': {error.strerror}") from None

    def sync(self) -> None:
        """Put the rows written so far on the disk itself."""
        os.fsync(self._rounds.fileno())

    def write_models(self, model: Model, best: Model) -> None:
        """Write the model of the last row and the best certified one.

        Raises
        ------
        RunError
            When they cannot be written, as on a full disk.
        """
        try:
            model.save(self.path / "model.npz")
            best.save(self.path / "best.npz")
        except OSError as error:
            raise RunError(f"cannot write the models to '{self.path}': {error.strerror}") from None

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write how the run ended, and close the directory.

        Raises
        ------
        RunError
            When it cannot be written, as on a full disk.
        """
        with contextlib.suppress(OSError):  # a row that could not be written cannot be now
            self._rounds.close()
        self._write_json("summary.json", summary | {"versions": versions()})

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        try:
            self._write(name, json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise RunError(f"cannot write to '{self.path / name}': {error.strerror}") from None

    def _write(self, name: str, text: str) -> None:
        with whole(self.path / name) as file:
            file.write(text.encode())


def check_out(config: Config) -> None:
    """Refuse, before anybody is bothered, a run directory that cannot be written or holds another run."""
    if not (config.resume or config.out):
        return
    key, path = ("resume", Path(config.resume)) if config.resume else ("out", Path(config.out))
    begun = any((path / "checkpoint").glob("round-*")) or (path / "summary.json").exists()
    if not config.resume and (begun or _size(path / "rounds.jsonl")):
        raise UserError(f"out = '{path}' already holds a run; choose another directory or remove it")
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise UserError(f"cannot write to {key} = '{path}': Not a directory")
    if not os.access(existing, os.W_OK):
        raise UserError(f"cannot write to {key} = '{path}': Permission denied")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_row(line: bytes, number: int) -> bool:
    try:
        return line.endswith(b"\n") and json.loads(line)["round"] == number
    except (ValueError, KeyError, TypeError):
        return False


def versions() -> dict[str, str]:
    """Return the versions of what the result depends on."""
    found = {"python": platform.python_version()}
    for package in ("localgd", "flwr", "numpy", "grpcio"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # an app bundle runs from its source, not installed
            found[package] = "not installed"
    return found


def fresh(parent: Path, strategy: str) -> Path:
    """Return a directory name that is not taken."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{strategy.replace(':', '-')}"
    path, k = parent / stem, 1
    while path.exists():
        path, k = parent / f"{stem}-{k}", k + 1
    return path
