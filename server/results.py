"""The run directory: what a run leaves on disk."""

import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tomli_w

from common.config import Config
from common.errors import UserError
from common.federation import Federation
from common.model import Model


class RunDirectory:
    """``config.toml``, ``handshake.json``, ``rounds.jsonl``, ``model.npz``, ``best.npz``, ``summary.json``.

    Raises
    ------
    UserError
        When the directory cannot be made or already holds a run.
    """

    def __init__(self, config: Config) -> None:
        self.path = Path(config.out) if config.out else fresh(Path("runs"), config.strategy)
        check_out(config)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "config.toml").write_text(tomli_w.dumps(config.values()), encoding="utf-8")
            self._rounds = open(self.path / "rounds.jsonl", "w", encoding="utf-8")  # noqa: SIM115, open for the whole run
        except OSError as error:
            raise UserError(f"cannot write to out = '{self.path}': {error.strerror}") from None

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
        """Append a round's row; it is on disk when this returns to the operating system."""
        self._rounds.write(json.dumps(row) + "\n")
        self._rounds.flush()

    def write_models(self, model: Model, best: Model) -> None:
        """Write the model of the last row and the best certified one."""
        model.save(self.path / "model.npz")
        best.save(self.path / "best.npz")

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write how the run ended, and close the directory."""
        self._write_json("summary.json", summary | {"versions": versions()})
        self._rounds.close()

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        (self.path / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_out(config: Config) -> None:
    """Refuse, before anybody is bothered, a run directory that holds a run or cannot be made."""
    if not config.out:
        return
    path = Path(config.out)
    if any((path / name).exists() for name in ("rounds.jsonl", "summary.json")):
        raise UserError(f"out = '{path}' already holds a run; choose another directory or remove it")
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise UserError(f"cannot write to out = '{path}': Not a directory")
    if not os.access(existing, os.W_OK):
        raise UserError(f"cannot write to out = '{path}': Permission denied")


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
