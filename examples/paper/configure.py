"""From the keys of a run to the configuration of the project's own app."""

import json
import tempfile
from functools import lru_cache
from pathlib import Path

from common.config import Config, Value
from common.errors import RunError
from examples.paper.data import DATA
from examples.paper.runs import Keys
from localgd.compare import run_one

OWN = ("data", "procedure")
"""Keys that are the studies', not the configuration's."""

OF_DATA = (
    "dataset", "data", "clients", "partition", "alpha", "seed", "min-shard", "test-fraction", "loss", "scale",
)  # fmt: skip
"""Keys that the smoothness depends on."""


def configuration(keys: Keys, folder: Path) -> Config:
    """Return the configuration of a run; data that the studies make themselves go into the folder."""
    values: dict[str, Value] = {k: v for k, v in keys.items() if k not in OWN}
    if "data" in keys:
        DATA[str(keys["data"])](keys, folder / "data")
        values |= {"dataset": "file", "data-dir": str(folder / "data")}
    rate = values.get("learning-rate")
    if isinstance(rate, str) and rate not in ("auto", "1/beta"):
        of_data = tuple((name, keys[name]) for name in OF_DATA if name in keys)
        values["learning-rate"] = float(rate.removesuffix("/beta")) / _beta(of_data)
    return Config.of({"checkpoint-every": 0, **values})


@lru_cache
def _beta(of_data: tuple[tuple[str, Value], ...]) -> float:
    """Return the smoothness of a federation: what the handshake of a run of one round has found."""
    keys = dict(of_data) | {"strategy": "local-gd", "local-steps": 1, "num-server-rounds": 1}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        failure = run_one(configuration(keys, folder), folder / "run", 0.1, lambda line: None).failure
        if failure:
            raise RunError(failure)
        beta: float = json.loads((folder / "run" / "handshake.json").read_text("utf-8"))["beta"]
    return beta
