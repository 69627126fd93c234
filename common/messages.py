"""The messages of a round as typed objects, and how they travel in Flower's records."""

import dataclasses
import math
from functools import lru_cache
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from common.arrays import finite, natural, pack_array, unpack_array, unpacking
from common.records import record_of
from common.solution import DEFAULTS, Answer, LocalSolution, Measures, Part, Question, SolverSettings

Vector = NDArray[np.float64]

USER_ERROR = 1000
"""The code of a Flower ``Error`` whose reason is one line for the person who can fix it."""

UNPREPARED = 1001
"""The code of a Flower ``Error`` of a client that has not got the run's preparation: send it again."""

DESCRIBE, PREPARE, TRAIN, EVALUATE = "query.describe", "query.prepare", "train", "evaluate"
"""The four kinds of message: two of the handshake, one per round, one closing evaluation."""


def pack_question(
    number: int, arrays: ArrayRecord, centres: tuple[Vector, ...], settings: SolverSettings
) -> RecordDict:
    """Ask for a local solve from each centre; a centre that is the weights themselves is not sent twice."""
    points, weights = dict(arrays), unpack_array(arrays["weights"])
    keys = []
    for k, centre in enumerate(centres):
        keys.append("weights" if np.array_equal(centre, weights) else f"centre-{k}")
        if keys[-1] != "weights":
            points[keys[-1]] = pack_array(centre)
    records = {
        "arrays": record_of(ArrayRecord, points),
        "config": _pack_settings(settings),
        "centres": record_of(ConfigRecord, {"keys": keys, "round": number}),
    }
    return record_of(RecordDict, records)


@lru_cache(maxsize=8)
def _pack_settings(settings: SolverSettings) -> ConfigRecord:
    """Return what is not the default as a record: one object for all rounds, which nobody changes."""
    given, defaults = dataclasses.asdict(settings), dataclasses.asdict(DEFAULTS)
    return ConfigRecord({key: value for key, value in given.items() if value != defaults[key]})


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
        settings=_unpack_settings(tuple(settings.items())),
    )


@lru_cache(maxsize=8)
def _unpack_settings(given: tuple[tuple[str, Any], ...]) -> SolverSettings:
    """Return the settings that were packed: one object for all rounds."""
    return SolverSettings(**dict(given))


def pack_answer(answer: Answer) -> RecordDict:
    """Pack a client's solutions and what it measured of the weights it received."""
    measures, solutions = answer.measures, answer.solutions
    parts = [part for solution in solutions for part in solution.parts]
    arrays = {f"displacement-{k}": pack_array(part.displacement) for k, part in enumerate(parts)}
    metrics = {
        "loss": measures.loss,
        "margin": measures.margin,
        "errors": measures.errors,
        "num-examples": measures.count,
        "dual-mass": [part.dual_mass for part in parts],
        "parts": [len(s.parts) for s in solutions],
        "active": [s.active for s in solutions],
        "steps": [s.steps for s in solutions],
    }
    config = {"name": answer.client, "round": answer.number, "result": [s.result for s in solutions]}
    records = {
        "arrays": record_of(ArrayRecord, arrays),
        "metrics": record_of(MetricRecord, metrics),
        "config": record_of(ConfigRecord, config),
    }
    return record_of(RecordDict, records)


def unpack_answer(content: RecordDict, shape: tuple[int, ...]) -> Answer:
    """Unpack a client's answer for a model of this shape.

    Raises
    ------
    ValueError
        When a number is not finite, a dual mass is negative, an array has the wrong shape, or it is no answer
        at all; says which.
    """
    with unpacking("answer"):
        return _unpack_answer(content, shape)


def _unpack_answer(content: RecordDict, shape: tuple[int, ...]) -> Answer:
    records: list[Any] = [content["arrays"], content["metrics"], content["config"]]
    if [*map(type, records)] != [ArrayRecord, MetricRecord, ConfigRecord]:
        raise TypeError("it is not made of arrays, metrics and a config")
    arrays, metrics, config = (dict(record.items()) for record in records)
    parts = []
    for k, mass in enumerate(metrics["dual-mass"]):
        if not (math.isfinite(mass) and mass >= 0):
            raise ValueError(f"its dual mass is {mass}, not a finite number >= 0")
        parts.append(Part(finite(arrays[f"displacement-{k}"], shape, "its displacement"), float(mass)))
    columns = (metrics["parts"], metrics["active"], metrics["steps"], config["result"])
    solutions, taken = [], 0
    for said, active, steps, result in zip(*columns, strict=True):
        count = int(said)
        own = tuple(parts[taken : taken + count])
        if not (count >= 1 and len(own) == count):
            raise ValueError(f"a solution of {count} parts, where {len(parts)} were sent in all")
        solutions.append(
            LocalSolution(
                own,
                natural(active, "its number of active examples"),
                natural(steps, "its number of steps"),
                str(result),
            )
        )
        taken += count
    if taken != len(parts):
        raise ValueError(f"{taken} parts in its solutions, where {len(parts)} were sent in all")
    measures = Measures(
        loss=float(metrics["loss"]),
        margin=float(metrics["margin"]),
        errors=natural(metrics["errors"], "its number of errors"),
        count=natural(metrics["num-examples"], "its number of examples"),
    )
    if not (math.isfinite(measures.loss) and math.isfinite(measures.margin)):
        raise ValueError(f"its loss {measures.loss} or margin {measures.margin} is not finite")
    return Answer(str(config["name"]), tuple(solutions), measures, natural(config["round"], "its round"))


def count_bytes(content: RecordDict) -> int:
    """Return the payload of a message: arrays, numbers and texts, without the transport's framing."""
    records: Any = content
    count = 0
    for record in records.values():
        for value in record.values():
            for one in value if type(value) is list else (value,):
                kind = type(one)
                count += len(one.data) if kind is Array else len(one) if kind in _TEXTS else 8
    return count


_TEXTS = str, bytes
