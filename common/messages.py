"""The messages of a federation as typed objects, and how they travel in Flower's records."""

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from common.arrays import pack_array, unpack_array
from common.errors import UserError
from common.scaling import ColumnStatistics, Scaling
from common.solution import Answer, LocalSolution, Measures, Part, Question, SolverSettings

Vector = NDArray[np.float64]

PROTOCOL = 3
"""Rises when messages change in a way that an older peer would misread."""

USER_ERROR = 1000
"""The code of a Flower ``Error`` whose reason is one line for the person who can fix it."""

UNPREPARED = 1001
"""The code of a Flower ``Error`` of a client that has not got the run's preparation: send it again."""

DESCRIBE, PREPARE, TRAIN, EVALUATE = "query.describe", "query.prepare", "train", "evaluate"
"""The four kinds of message: two of the handshake, one per round, one closing evaluation."""


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
    with _unpacking("description"):
        return _unpack_description(content)


def _unpack_description(content: RecordDict) -> Description:
    config = content.config_records["config"]
    if config["protocol"] != PROTOCOL:
        raise UserError(
            f"client {config.get('name')!s} speaks protocol {config['protocol']!r}, this server {PROTOCOL}: "
            "install the same version of localgd on both"
        )
    count, dimension = int(config["count"]), int(config["dimension"])  # type: ignore[arg-type]
    if count < 1 or dimension < 1:
        raise ValueError(f"it has {count} examples of {dimension} columns")
    statistics = None
    if (arrays := content.array_records.get("arrays")) is not None:
        mean, m2 = (_finite(arrays[key], (dimension,), f"its {key}") for key in ("mean", "m2"))
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
    with _unpacking("measure of prepared rows"):
        metrics, name = content.metric_records["metrics"], content.config_records["config"]["name"]
        max_norm, beta = float(metrics["max-norm"]), float(metrics["beta"])  # type: ignore[arg-type]
        for what, value in (("largest row norm", max_norm), ("smoothness", beta)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"its {what} is {value}, not a finite number >= 0")
        return str(name), max_norm, beta


@contextlib.contextmanager
def _unpacking(what: str) -> Iterator[None]:
    """Turn whatever a stranger's records and bytes can raise into a `ValueError`."""
    try:
        yield
    except (ValueError, UserError):
        raise
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from None
    except Exception as error:
        raise ValueError(f"it is no {what}: {error}") from None


def _finite(array: Array, shape: tuple[int, ...], what: str) -> Vector:
    """Read float64 numbers of this shape; what they say of it is looked at before their bytes are."""
    if tuple(array.shape) != shape:
        raise ValueError(f"{what} has shape {tuple(array.shape)}, not {shape}")
    vector = unpack_array(array)
    if vector.shape != shape or vector.dtype != np.float64:
        raise ValueError(f"{what} is {vector.dtype} of shape {vector.shape}, not float64 of shape {shape}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{what} is not finite")
    return vector


def pack_question(
    number: int, arrays: ArrayRecord, centres: tuple[Vector, ...], settings: SolverSettings
) -> RecordDict:
    """Ask for a local solve from each centre; a centre that is the weights themselves is not sent twice."""
    record, weights = ArrayRecord(dict(arrays)), unpack_array(arrays["weights"])
    keys = []
    for k, centre in enumerate(centres):
        keys.append("weights" if np.array_equal(centre, weights) else f"centre-{k}")
        if keys[-1] != "weights":
            record[keys[-1]] = pack_array(centre)
    return RecordDict(
        {
            "arrays": record,
            "config": _pack_settings(settings),
            "centres": ConfigRecord({"keys": keys, "round": number}),
        }
    )


@lru_cache(maxsize=8)
def _pack_settings(settings: SolverSettings) -> ConfigRecord:
    """Return the settings as a record: one object for all rounds, which nobody changes."""
    return ConfigRecord(dataclasses.asdict(settings))


def unpack_question(content: RecordDict) -> Question:
    """Return what is asked."""
    # not by content.array_records and the like, which build all their views anew each time
    arrays, centres, settings = content["arrays"], content["centres"], content["config"]
    if not (
        isinstance(arrays, ArrayRecord)
        and isinstance(centres, ConfigRecord)
        and isinstance(settings, ConfigRecord)
    ):
        raise TypeError("a question is made of arrays and two configs")
    points = {key: unpack_array(array) for key, array in arrays.items()}
    return Question(
        number=int(centres["round"]),  # type: ignore[arg-type]
        weights=points["weights"],
        centres=tuple(points[str(key)] for key in centres["keys"]),  # type: ignore[union-attr]
        settings=SolverSettings(**settings),  # type: ignore[arg-type]
    )


def pack_answer(answer: Answer) -> RecordDict:
    """Pack a client's solutions and what it measured of the weights it received."""
    measures, solutions = answer.measures, answer.solutions
    parts = [part for solution in solutions for part in solution.parts]
    arrays = ArrayRecord()
    for k, part in enumerate(parts):
        arrays[f"displacement-{k}"] = pack_array(part.displacement)
    metrics = MetricRecord(
        {
            "loss": measures.loss,
            "margin": measures.margin,
            "errors": measures.errors,
            "num-examples": measures.count,
            "dual-mass": [part.dual_mass for part in parts],
            "parts": [len(s.parts) for s in solutions],
            "active": [s.active for s in solutions],
            "steps": [s.steps for s in solutions],
        }
    )
    config = ConfigRecord(
        {"name": answer.client, "round": answer.number, "result": [s.result for s in solutions]}
    )
    return RecordDict({"arrays": arrays, "metrics": metrics, "config": config})


def unpack_answer(content: RecordDict, shape: tuple[int, ...]) -> Answer:
    """Unpack a client's answer for a model of this shape.

    Raises
    ------
    ValueError
        When a number is not finite, a dual mass is negative, an array has the wrong shape, or it is no answer
        at all; says which.
    """
    try:
        return _unpack_answer(content, shape)
    except ValueError:
        raise
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from None
    except Exception as error:  # whatever a stranger's records and bytes can raise
        raise ValueError(f"it is no answer: {error}") from None


def _unpack_answer(content: RecordDict, shape: tuple[int, ...]) -> Answer:
    arrays, metrics, config = content["arrays"], content["metrics"], content["config"]
    if not (
        isinstance(arrays, ArrayRecord)
        and isinstance(metrics, MetricRecord)
        and isinstance(config, ConfigRecord)
    ):
        raise TypeError("it is not made of arrays, metrics and a config")
    parts = []
    for k, mass in enumerate(metrics["dual-mass"]):  # type: ignore[arg-type]
        if not (math.isfinite(mass) and mass >= 0):
            raise ValueError(f"its dual mass is {mass}, not a finite number >= 0")
        parts.append(Part(_displacement(arrays[f"displacement-{k}"], shape), float(mass)))
    columns = (metrics["parts"], metrics["active"], metrics["steps"], config["result"])
    solutions, taken = [], 0
    for said, active, steps, result in zip(*columns, strict=True):  # type: ignore[arg-type]
        count = int(said)
        own = tuple(parts[taken : taken + count])
        if not (count >= 1 and len(own) == count):
            raise ValueError(f"a solution of {count} parts, where {len(parts)} were sent in all")
        solutions.append(LocalSolution(own, int(active), int(steps), str(result)))
        taken += count
    if taken != len(parts):
        raise ValueError(f"{taken} parts in its solutions, where {len(parts)} were sent in all")
    measures = Measures(
        loss=float(metrics["loss"]),  # type: ignore[arg-type]
        margin=float(metrics["margin"]),  # type: ignore[arg-type]
        errors=int(metrics["errors"]),  # type: ignore[arg-type]
        count=int(metrics["num-examples"]),  # type: ignore[arg-type]
    )
    if not (math.isfinite(measures.loss) and math.isfinite(measures.margin)):
        raise ValueError(f"its loss {measures.loss} or margin {measures.margin} is not finite")
    return Answer(str(config["name"]), tuple(solutions), measures, int(config["round"]))  # type: ignore[arg-type]


def _displacement(array: Array, shape: tuple[int, ...]) -> Vector:
    """Read a displacement; what it says of its shape is looked at before its bytes are."""
    if tuple(array.shape) != shape:
        raise ValueError(f"its displacement has shape {tuple(array.shape)}, the model {shape}")
    displacement = unpack_array(array)
    if displacement.shape != shape or displacement.dtype != np.float64:
        raise ValueError(
            f"its displacement is {displacement.dtype} of shape {displacement.shape}, "
            f"where the model is float64 of shape {shape}"
        )
    if not np.isfinite(displacement).all():
        raise ValueError("its displacement is not finite")
    return displacement


def count_bytes(content: RecordDict) -> int:
    """Return the payload of a message: arrays, numbers and texts, without the transport's framing."""
    return sum(_size(value) for record in content.values() for value in record.values())


def _size(value: object) -> int:
    if isinstance(value, Array):
        return len(value.data)
    if isinstance(value, list):
        return sum(map(_size, value))
    return len(value) if isinstance(value, str | bytes) else 8
