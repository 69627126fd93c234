"""Flower's records, to protobuf and back, as Flower makes them but without its look at every single value.

What this project packs, and what protobuf hands out, has the types that Flower's records allow: to check that
takes most of the time that a small message costs.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

_RECORDS: dict[str, Any] = {
    "array_record": ArrayRecord,
    "metric_record": MetricRecord,
    "config_record": ConfigRecord,
}
_FIELDS: dict[type, str] = {float: "double", int: "sint64", str: "string", bool: "bool"}
_LISTS: dict[type, str] = {float: "double_list", int: "sint_list", str: "string_list"}

Record = TypeVar("Record", ArrayRecord, MetricRecord, ConfigRecord, RecordDict)


def record_of(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Make what ``kind(values)`` makes of values that are known to be right."""
    made = kind()
    made.__dict__["_data"].update(values)
    return made


def array_of(dtype: str, shape: tuple[int, ...], stype: str, data: bytes) -> Array:
    """Make what ``Array(…)`` makes of values that are known to be right."""
    made = Array.__new__(Array)
    made.__dict__.update(dtype=dtype, shape=shape, stype=stype, data=data)
    return made


def fill(proto: ProtoRecordDict, content: RecordDict, with_data: bool) -> None:
    """Make what `recorddict_to_proto` makes; arrays with their data, copied once, or without."""
    proto.SetInParent()
    for key, record in content.items():
        if isinstance(record, ArrayRecord):
            item = proto.items.add(key=key)
            item.array_record.SetInParent()
            for name, array in record.items():
                value = item.array_record.items.add(key=name).value
                value.dtype, value.stype = array.dtype, array.stype
                value.shape.extend(array.shape)
                if with_data:
                    value.data = array.data
        else:
            item = proto.items.add(key=key)
            own = item.metric_record if isinstance(record, MetricRecord) else item.config_record
            own.SetInParent()
            try:
                _fill_values(own.items, record)
            except (LookupError, TypeError, ValueError):  # other kinds of values are left to Flower
                del proto.items[-1]
                proto.items.extend(recorddict_to_proto(RecordDict({key: record})).items)


def records(proto: ProtoRecordDict) -> RecordDict:
    """Make what `recorddict_from_proto` makes.

    Raises
    ------
    ValueError
        If something has no value.
    """
    content = {}
    for item in proto.items:
        kind = item.WhichOneof("value")
        if kind is None:
            raise ValueError(f"record {item.key!r} is of no kind")
        take = _array if kind == "array_record" else _value
        values = {entry.key: take(entry.value) for entry in getattr(item, kind).items}
        content[item.key] = record_of(_RECORDS[kind], values)
    return record_of(RecordDict, content)


def _fill_values(items: Any, record: Any) -> None:
    for name, value in record.items():
        entry = items.add()
        entry.key = name
        if type(value) is list:
            getattr(entry.value, _LISTS[type(value[0])]).vals.extend(value)
        else:
            setattr(entry.value, _FIELDS[type(value)], value)


def _array(proto: Any) -> Array:
    return array_of(proto.dtype, tuple(proto.shape), proto.stype, proto.data)


def _value(proto: Any) -> Any:
    field = proto.WhichOneof("value")
    if field is None:
        raise ValueError("a value is missing")
    value = getattr(proto, field)
    return list(value.vals) if field.endswith("list") else value
