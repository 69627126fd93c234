"""What stays in memory from one message to the next."""

import os
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from client.problem import Problem

Value = TypeVar("Value")

LEAST_SHARE = 2**30


class Kept(Generic[Value]):
    """Values in memory, the ones used last, up to a number of bytes; the newest is kept in any case.

    A process that plays many virtual clients is given any client's message, so it may come to hold all of
    them.

    Parameters
    ----------
    most_bytes
        The sum of the sizes that is not exceeded, unless by a single value.
    bytes_of
        The size of a value.
    """

    def __init__(self, most_bytes: int, bytes_of: Callable[[Value], int]) -> None:
        self.most_bytes = most_bytes
        self._bytes_of = bytes_of
        self._values: dict[Hashable, Value] = {}
        self._bytes = 0

    def find(self, key: Hashable) -> Value | None:
        """Return a value, if it is still here; it is the one used last then."""
        value = self._values.pop(key, None)
        if value is not None:
            self._values[key] = value
        return value

    def keep(self, key: Hashable, value: Value) -> None:
        """Keep a new value, as the one used last, and drop the others that there is no room for any more."""
        self.drop(key)
        self._values[key] = value
        self._bytes += self._bytes_of(value)
        while self._bytes > self.most_bytes and len(self._values) > 1:
            self.drop(next(iter(self._values)))

    def drop(self, key: Hashable) -> None:
        """Forget a value, if it is here."""
        if (old := self._values.pop(key, None)) is not None:
            self._bytes -= self._bytes_of(old)


def memory_share() -> int:
    """Return how many bytes a process may keep: a quarter of the machine's memory, at least 1 GiB."""
    try:
        return max(LEAST_SHARE, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)
    except (AttributeError, ValueError, OSError):  # where the system does not say
        return LEAST_SHARE


def problem_bytes(problem: Problem) -> int:
    """Return the size of a problem's rows and of the Gram matrices that it may come to hold."""
    rivals = problem.shape[0] - 1 if len(problem.shape) == 2 else 0
    return int(8 * (problem.size + problem.count**2 * (1 + rivals**2)))
