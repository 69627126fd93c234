"""The messages of the handshake as typed objects, and how they travel in Flower's records."""

import hashlib
import math
from dataclasses import dataclass

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from common.arrays import finite, natural, unpacking
from common.errors import UserError
from common.scaling import ColumnStatistics, Scaling

PROTOCOL = 3
"""Rises when an older peer would misread a message, as where a setting has another default."""


@dataclass(frozen=True)
class Description:
    """What a client tells of its data in the first message of the handshake.

    ``classes`` are empty where the labels are numbers to predict; ``fingerprint`` is a salted hash of the
    data; ``columns`` one of the feature names in order, or ``"none"``; ``statistics`` are sent only when the
    scaling needs them.  Sparse data are open: they may have columns beyond ``dimension`` that are zero in
    all of this client's rows.
    """

    name: str
    count: int
    dimension: int
    classes: tuple[str, ...]
    fingerprint: str
    columns: str
    statistics: ColumnStatistics | None
    open: bool = False


def pack_describe(salt: str, statistics: bool, loss: str) -> RecordDict:
    """Ask a client to describe its data for a loss."""
    config = {"protocol": PROTOCOL, "salt": salt, "statistics": statistics, "loss": loss}
    return RecordDict({"config": ConfigRecord(config)})  # type: ignore[arg-type]


def unpack_describe(content: RecordDict) -> tuple[str, bool, str]:
    """Return the salt, whether statistics are wanted, and the loss; refuse another version's server."""
    config = content.config_records["config"]
    if config["protocol"] != PROTOCOL:
        raise UserError(
            f"the server speaks protocol {config['protocol']!r}, this client {PROTOCOL}: "
            "install the same version of localgd on both"
        )
    return str(config["salt"]), bool(config["statistics"]), str(config["loss"])


def pack_description(description: Description) -> RecordDict:
    """Pack a client's description."""
    config = ConfigRecord(
        {
            "protocol": PROTOCOL,
            "name": description.name,
            "count": description.count,
            "dimension": description.dimension,
            "classes": list(description.classes),
            "fingerprint": description.fingerprint,
            "columns": description.columns,
            "open": description.open,
        }
    )
    records = RecordDict({"config": config})
    if description.statistics is not None:
        statistics = description.statistics
        records["arrays"] = ArrayRecord({"mean": Array(statistics.mean), "m2": Array(statistics.m2)})
    return records


def unpack_description(content: RecordDict) -> Description:
    """Unpack a client's description; refuse another version's client, naming it.

    Raises
    ------
    ValueError
        When a number is not finite or cannot be, or it is no description at all; says which.
    """
    with unpacking("description"):
        return _unpack_description(content)


def _unpack_description(content: RecordDict) -> Description:
    config = content.config_records["config"]
    if config["protocol"] != PROTOCOL:
        raise UserError(
            f"client {config.get('name')!s} speaks protocol {config['protocol']!r}, this server {PROTOCOL}: "
            "install the same version of localgd on both"
        )
    count, dimension = (natural(config[key], f"its {key}") for key in ("count", "dimension"))
    if count < 1 or dimension < 1:
        raise ValueError(f"it has {count} examples of {dimension} columns")
    statistics = None
    if (arrays := content.array_records.get("arrays")) is not None:
        mean, m2 = (finite(arrays[key], (dimension,), f"its {key}") for key in ("mean", "m2"))
        if (m2 < 0).any():
            raise ValueError("the spread of its columns is negative")
        statistics = ColumnStatistics(count, mean, m2)
    return Description(
        name=str(config["name"]),
        count=count,
        dimension=dimension,
        classes=tuple(map(str, config["classes"])),  # type: ignore[arg-type]
        fingerprint=str(config["fingerprint"]),
        columns=str(config["columns"]),
        statistics=statistics,
        open=bool(config["open"]),
    )


@dataclass(frozen=True)
class Preparation:
    """How a client prepares its data: the second message of the handshake, kept by the client for the run."""

    scaling: Scaling
    classes: tuple[str, ...]
    loss: str = "logistic"
    engine: str = "auto"
    device: str = "cpu"

    @property
    def fingerprint(self) -> str:
        """A hash by which a message says which preparation it builds on."""
        text = repr((self.classes, self.loss, self.engine, self.device, self.scaling.intercept)).encode()
        return hashlib.sha256(text + self.scaling.mean.tobytes() + self.scaling.scale.tobytes()).hexdigest()[
            :16
        ]


def pack_preparation(preparation: Preparation) -> RecordDict:
    """Pack the scaling and the meaning of the labels."""
    scaling = preparation.scaling
    return RecordDict(
        {
            "arrays": ArrayRecord({"mean": Array(scaling.mean), "scale": Array(scaling.scale)}),
            "config": ConfigRecord(
                {
                    "intercept": scaling.intercept,
                    "classes": list(preparation.classes),
                    "loss": preparation.loss,
                    "engine": preparation.engine,
                    "device": preparation.device,
                    "fingerprint": preparation.fingerprint,
                }
            ),
        }
    )


def unpack_preparation(content: RecordDict) -> Preparation:
    """Unpack the scaling and the meaning of the labels."""
    arrays, config = content.array_records["arrays"], content.config_records["config"]
    scaling = Scaling(arrays["mean"].numpy(), arrays["scale"].numpy(), bool(config["intercept"]))
    classes = tuple(map(str, config["classes"]))  # type: ignore[arg-type]
    return Preparation(scaling, classes, str(config["loss"]), str(config["engine"]), str(config["device"]))


def pack_prepared(name: str, max_norm: float, beta: float) -> RecordDict:
    """Pack what a client measured of its scaled rows, before they are divided by the largest norm."""
    return RecordDict(
        {
            "config": ConfigRecord({"name": name}),
            "metrics": MetricRecord({"max-norm": max_norm, "beta": beta}),
        }
    )


def unpack_prepared(content: RecordDict) -> tuple[str, float, float]:
    """Return a client's name, its largest row norm and its smoothness ``βᵢ``.

    Raises
    ------
    ValueError
        When a number is not finite or negative, or they are not there at all; says which.
    """
    with unpacking("measure of prepared rows"):
        metrics, name = content.metric_records["metrics"], content.config_records["config"]["name"]
        max_norm, beta = float(metrics["max-norm"]), float(metrics["beta"])  # type: ignore[arg-type]
        for what, value in (("largest row norm", max_norm), ("smoothness", beta)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"its {what} is {value}, not a finite number >= 0")
        return str(name), max_norm, beta
