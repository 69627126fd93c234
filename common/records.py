"""Flower's records to protobuf and back as Flower does it, without its second look at every single value.

What protobuf hands out has the types that Flower's records allow: to check them again takes most of the time
that a small message costs.
"""

from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

_RECORDS = {"array_record": ArrayRecord, "metric_record": MetricRecord, "config_record": ConfigRecord}
_FIELDS: dict[type, str] = {float: "double", int: "sint64", str: "string", bool: "bool"}
_LISTS: dict[type, str] = {float: "double_list", int: "sint_list", str: "string_list"}


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
        elif all(map(_plain, record.values())):
            item = proto.items.add(key=key)
            own = item.metric_record if isinstance(record, MetricRecord) else item.config_record
            own.SetInParent()
            _fill_values(own.items, record)
        else:
            proto.items.extend(recorddict_to_proto(RecordDict({key: record})).items)


def records(proto: ProtoRecordDict) -> RecordDict:
    """Make what `recorddict_from_proto` makes.

    Raises
    ------
    ValueError
        If something has no value.
    """
    content = RecordDict()
    for item in proto.items:
        kind = item.WhichOneof("value")
        if kind is None:
            raise ValueError(f"record {item.key!r} is of no kind")
        record = _RECORDS[kind]()
        take = _array if kind == "array_record" else _value
        values = {entry.key: take(entry.value) for entry in getattr(item, kind).items}
        record.__dict__["_data"].update(values)
        content.__dict__["_data"][item.key] = record
    return content


def _plain(value: object) -> bool:
    """Whether a value is of the kinds that are filled in here; others are left to Flower."""
    if type(value) is list:
        return len(kinds := set(map(type, value))) == 1 and kinds <= _LISTS.keys() and all(map(_plain, value))
    return type(value) in _FIELDS and (type(value) is not int or -(2**63) <= value < 2**63)


def _fill_values(items: Any, record: Any) -> None:
    for name, value in record.items():
        entry = items.add(key=name).value
        if type(value) is list:
            getattr(entry, _LISTS[type(value[0])]).vals.extend(value)
        else:
            setattr(entry, _FIELDS[type(value)], value)


def _array(proto: Any) -> Array:
    return Array(proto.dtype, tuple(proto.shape), proto.stype, proto.data)


def _value(proto: Any) -> Any:
    field = proto.WhichOneof("value")
    if field is None:
        raise ValueError("a value is missing")
    value = getattr(proto, field)
    return list(value.vals) if field.endswith("list") else value
