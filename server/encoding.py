"""Frozen dataclasses of numbers, texts and arrays as bytes that tell whether they are whole; no pickle."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

MAGIC = b"localgd checkpoint 1\n"
DIGEST = hashlib.sha256().digest_size

FORMS = "<f8", ">f8"
"""What the numbers of an array may be, as numpy writes it."""


def dump(value: object, classes: Iterable[type[Any]]) -> bytes:
    """Return a value as bytes: what it is, a checksum, its structure in JSON, its arrays as they are.

    Parameters
    ----------
    value
        None, numbers, texts, float64 arrays, tuples, lists, mappings with keys of text, and dataclasses of
        these.
    classes
        The dataclasses that may occur.

    Raises
    ------
    TypeError
        For anything else in it.
    """
    arrays: list[bytes] = []
    tree = json.dumps(_encode(value, {c.__name__: c for c in classes}, arrays)).encode()
    body = b"".join((len(tree).to_bytes(8), tree, *arrays))
    return MAGIC + hashlib.sha256(body).digest() + body


def load(data: bytes, classes: Iterable[type[Any]]) -> Any:
    """Return the value that `dump` made the bytes of.

    Raises
    ------
    ValueError
        When they are not whole, something else, or from another version; says which.
    """
    if not data.startswith(MAGIC):
        raise ValueError("it is no checkpoint of this version")
    checksum, body = data[len(MAGIC) : len(MAGIC) + DIGEST], data[len(MAGIC) + DIGEST :]
    if hashlib.sha256(body).digest() != checksum:
        raise ValueError("it is damaged: its checksum is wrong")
    end = 8 + int.from_bytes(body[:8])
    try:
        return _decode(json.loads(body[8:end]), {c.__name__: c for c in classes}, memoryview(body)[end:])
    except (
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:  # whole, so another version wrote it
        raise ValueError(f"it is no checkpoint of this version: {error}") from None


def _encode(value: Any, classes: Mapping[str, type[Any]], arrays: list[bytes]) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return float(value) if isinstance(value, float) else value  # JSON keeps every bit of it, and inf
    if isinstance(value, list):
        return [_encode(one, classes, arrays) for one in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(one, classes, arrays) for one in value]}
    if isinstance(value, Mapping):
        return {"dict": {_text(key): _encode(one, classes, arrays) for key, one in value.items()}}
    if isinstance(value, np.ndarray) and value.dtype.str in FORMS:
        place = sum(map(len, arrays))
        arrays.append(value.tobytes())
        return {"array": [value.dtype.str, list(value.shape), place]}
    name = type(value).__name__
    if classes.get(name) is type(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {name: {key: _encode(one, classes, arrays) for key, one in fields.items()}}
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


def _decode(tree: Any, classes: Mapping[str, type[Any]], arrays: memoryview) -> Any:
    if isinstance(tree, list):
        return [_decode(one, classes, arrays) for one in tree]
    if not isinstance(tree, dict):
        return tree
    [(kind, content)] = tree.items()
    if kind == "array":
        form, shape, place = content
        if form not in FORMS:
            raise TypeError(f"an array of {form!r}")
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(arrays, form, count, place).reshape(shape).copy()
    if kind == "tuple":
        return tuple(_decode(one, classes, arrays) for one in content)
    parts = {key: _decode(one, classes, arrays) for key, one in content.items()}
    return parts if kind == "dict" else classes[kind](**parts)


def _text(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a checkpoint cannot hold {key!r} as a key")
    return key
