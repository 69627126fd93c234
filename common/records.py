"""Flower's records without its look at every single value, and as plain lists and dicts for JSON.

To check the types of the values takes most of the time that a small record costs.  What this project packs is
known to be right; what comes from elsewhere is checked here, once.
"""

import base64
from collections.abc import Mapping
from typing import Any, TypeVar

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    Metadata,
    MetricRecord,
    RecordDict,
)

KINDS: dict[str, tuple[Any, frozenset[type]]] = {
    "metrics": (MetricRecord, frozenset((int, float))),
    "config": (ConfigRecord, frozenset((int, float, str, bool, bytes))),
}
"""The records besides those of arrays, and what their values may be, or lists of one of these."""

Record = TypeVar("Record", ArrayRecord, MetricRecord, ConfigRecord, RecordDict)


def record_of(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Make what ``kind(values)`` makes of values that are known to be right."""
    made = kind.__new__(kind)
    made.__dict__.update(_EMPTY[kind], _data=dict(values))
    return made


_EMPTY: dict[type, dict[str, Any]] = {
    kind: vars(kind()) for kind in (ArrayRecord, MetricRecord, ConfigRecord, RecordDict)
}


def array_of(dtype: str, shape: tuple[int, ...], stype: str, data: bytes) -> Array:
    """Make what ``Array(…)`` makes of values that are known to be right."""
    made = Array.__new__(Array)
    made.__dict__.update(dtype=dtype, shape=shape, stype=stype, data=data)
    return made


def message_of(metadata: Metadata, content: RecordDict | None, error: Error | None = None) -> Message:
    """Make the message that has these metadata, which Flower has no public way to."""
    metadata.delivered_at = ""  # as Flower has it
    made = Message.__new__(Message)
    made.__dict__.update(_metadata=metadata, _content=content, _error=error)
    return made


def plain(content: RecordDict) -> dict[str, Any]:
    """Return what JSON takes: of arrays what they are, without data; `as_json` is for what is left."""
    return {
        key: ["arrays", {name: (a.dtype, a.shape, a.stype) for name, a in record.items()}]
        if isinstance(record, ArrayRecord)
        else ["metrics" if isinstance(record, MetricRecord) else "config", dict(record.items())]
        for key, record in content.items()
    }


def as_json(value: object) -> object:
    """Return what stands for bytes, the only values that JSON has no form of."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    raise TypeError(f"a record cannot hold a {type(value).__name__}")


def records(told: dict[str, Any]) -> tuple[RecordDict, list[Array]]:
    """Return the records that `plain` told of, and all their arrays, in order and without data.

    Raises
    ------
    ValueError, TypeError, LookupError, AttributeError
        If it told of none.
    """
    content: dict[str, Any] = {}
    arrays: list[Array] = []
    for key, (name, values) in told.items():
        if name == "arrays":
            made = {own: _array(*what) for own, what in values.items()}
            content[key] = record_of(ArrayRecord, made)
            arrays += made.values()
        else:
            kind, scalars = KINDS[name]
            content[key] = record_of(kind, {own: _value(value, scalars) for own, value in values.items()})
    return record_of(RecordDict, content), arrays


def _array(dtype: object, shape: list[object], stype: object) -> Array:
    if not (type(dtype) is str and type(stype) is str and set(map(type, shape)) <= {int}):
        raise TypeError(f"no array is {dtype!r} of shape {shape!r} as {stype!r}")
    return array_of(dtype, tuple(shape), stype, b"")  # type: ignore[arg-type]


def _value(value: Any, scalars: frozenset[type]) -> Any:
    if type(value) in scalars:
        return value
    if type(value) is dict:
        return _value(_bytes(value), scalars)
    kinds = set(map(type, value)) if type(value) is list else {None}
    if kinds == {dict}:
        return _value([*map(_bytes, value)], scalars)
    if len(kinds) > 1 or not kinds <= scalars:
        raise TypeError(f"a record cannot hold {value!r}")
    return value


def _bytes(value: dict[str, str]) -> bytes:
    return base64.b64decode(value["base64"], validate=True)
