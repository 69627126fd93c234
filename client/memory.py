"""What stays in memory from one message to the next."""

from collections.abc import Hashable

from client.problem import Problem


class Problems:
    """Problems in memory, the ones used last, up to a number of bytes; the newest is kept in any case.

    A simulation's worker is given any virtual client's message, so it may come to hold all of them.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._problems: dict[Hashable, Problem] = {}
        self._bytes = 0

    def find(self, key: Hashable) -> Problem | None:
        """Return a problem, if it is still here."""
        return self._problems.get(key)

    def keep(self, key: Hashable, problem: Problem) -> None:
        """Keep a problem as the one used last, and drop the others that there is no room for any more."""
        if old := self._problems.pop(key, None):
            self._bytes -= _bytes(old)
        self._problems[key] = problem
        self._bytes += _bytes(problem)
        while self._bytes > self.most_bytes and len(self._problems) > 1:
            oldest = next(iter(self._problems))
            self._bytes -= _bytes(self._problems.pop(oldest))


def _bytes(problem: Problem) -> int:
    """Return the size of a problem's rows and of the Gram matrices that it may come to hold."""
    rivals = problem.shape[0] - 1 if len(problem.shape) == 2 else 0
    return int(8 * (problem.size + problem.count**2 * (1 + rivals**2)))
