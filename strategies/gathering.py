"""One round's replies become answers: checked, in the order of names, one in memory at a time."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from logging import WARNING

import numpy as np
from flwr.app import Message
from flwr.common.logger import log
from numpy.typing import NDArray

from common.errors import NotSeparable, RunError
from common.messages import count_bytes, unpack_answer
from common.solution import Answer, Measures, SolverSettings
from strategies.callbacks import Turnout
from strategies.checks import check_measures, check_question, check_solution
from strategies.replies import Absent, Refused, Unprepared, content_of, exchange, is_reply_to
from strategies.roster import DataChanged, Roster

Vector = NDArray[np.float64]

SHARE_LEFT = 0.1
"""A client that has answered when time is nearly up still has this share of it to answer once more."""


@dataclass(frozen=True)
class Asked:
    """What a client was asked: the message, and the centres that its solves start from."""

    client: str
    message: Message
    centres: tuple[Vector, ...] = ()


class Gathering:
    """The answers to one round's questions.

    Parameters
    ----------
    roster
        The clients, and what to do about those that do not answer, or badly.
    number
        The round.
    asked
        Who was asked what, in the order of names.
    weights, mass
        The model that came with the questions, and its dual mass where that is known, else 0.
    settings
        How the clients were to solve.
    last
        Each client's last answer, where those count that are missing.
    timeout
        Seconds that the round waits for its clients, from now on.

    Attributes
    ----------
    complete
        Whether all answers have passed.
    heard
        When the last reply came, on the clock of `time.perf_counter`.
    received
        Bytes of the replies.
    """

    def __init__(
        self,
        roster: Roster,
        number: int,
        asked: Sequence[Asked],
        weights: Vector,
        mass: float,
        settings: SolverSettings,
        last: Mapping[str, Answer],
        timeout: float,
    ) -> None:
        self.roster, self.number, self.asked = roster, number, asked
        self.weights, self.mass, self.settings, self.last = weights, mass, settings, last
        self.timeout, self.deadline = timeout, time.monotonic() + timeout
        self.complete, self.heard, self.received = False, time.perf_counter(), 0
        self._length = float(np.linalg.norm(weights))
        self._measures: dict[str, Measures] = {}
        self._why: dict[str, str] = {}  # the missing, of those that were asked
        self._inseparable: NotSeparable | None = None

    @property
    def turnout(self) -> Turnout:
        """Who has answered, and who is missing."""
        missing = tuple(name for name in self.roster.names if name not in self._measures)
        return Turnout(self._measures, missing)

    def answers(self, replies: Iterable[Message]) -> Iterator[Answer]:
        """Yield the answers, one of each client, in the order of names; then those that count again.

        Parameters
        ----------
        replies
            In the order of the questions.

        Raises
        ------
        UserError, RunError
            When the round cannot go on without somebody; says who and why.
        NotSeparable
            At the end, when a client has proved that its own data are not linearly separable.
        DataChanged
            When the round must begin anew.
        """
        owed = {asked.client: asked for asked in self.asked}
        for reply in replies:
            self.heard = time.perf_counter()
            asked = _asked_for(reply, owed)
            if asked is None:
                self.roster.stray(reply.metadata.src_node_id, self.number)
            elif (answer := self._settled(asked, reply)) is not None:
                self._measures[answer.client] = answer.measures
                yield answer
                del answer  # before the next reply is here
            del reply
        for name in owed:
            self._why[name] = f"did not answer within {self.timeout:g} s"
            self.roster.lose(name)
        self._check_turnout()
        self.complete = True
        if self._inseparable is not None:
            raise self._inseparable
        for name in self.turnout.missing:
            if name in self.last and name not in self.roster.left_out:
                yield replace(self.last[name], stale=True)

    def _settled(self, asked: Asked, reply: Message | None) -> Answer | None:
        """Return a client's answer, asked again where that can help; None if the round is without."""
        name = asked.client
        for _ in range(max(self.roster.policy.max_bad_replies, 2)):
            try:
                try:
                    return self._accepted(asked, reply)
                except Unprepared:
                    self._why[name] = "forgets how its data are prepared"
                    self.roster.prepare(name, self._left())
            except Refused as refused:
                self._why[name] = str(refused)
                if not self.roster.refuse(name, self.number, refused):
                    return None
            except (Absent, Unprepared) as absent:
                self._why[name] = str(absent) or self._why[name]
                if not (self.roster.waits and self.roster.find(name, self.deadline)):
                    self.roster.lose(name)
                    return None
            if self.roster.stale:
                raise DataChanged(f"{name} has come back with other data")
            reply = self._ask_again(asked)
        return None

    def _accepted(self, asked: Asked, reply: Message | None) -> Answer:
        """Return the answer that a reply is, or raise what it is instead."""
        content, roster, name = content_of(reply), self.roster, asked.client
        self.received += count_bytes(content)
        client = roster.clients.get(name)
        try:
            answer = unpack_answer(content, self.weights.shape)
            check_question(answer, self.number, len(asked.centres), self.settings, name if client else None)
            if client is not None and roster.federation is not None:
                check_measures(answer, client, roster.federation, self._length)
                for solution in answer.solutions:
                    check_solution(solution, client, roster.federation, self.settings)
        except ValueError as error:
            raise Refused(f"answered badly: {error}") from None
        for solution in answer.solutions:
            if solution.result == "infeasible" and self._inseparable is None:
                bound = float(np.linalg.norm(solution.displacement)) / solution.dual_mass
                self._inseparable = NotSeparable(
                    f"round {self.number}: the data of {answer.client} alone are not linearly separable "
                    f"(no margin above {bound:.1g}), so there is nothing to project on; "
                    "solver = 'gradient' or 'proximal' goes on without"
                )
        # the name by which the strategy chose its centres
        return replace(answer, client=name, centres=asked.centres, centre_mass=self.mass)

    def _ask_again(self, asked: Asked) -> Message | None:
        question = asked.message
        node, kind = self.roster.node(asked.client), question.metadata.message_type
        message = Message(question.content, node, kind, group_id=question.metadata.group_id)
        return next(iter(list(exchange(self.roster.grid, [message], self._left()))), None)

    def _left(self) -> float:
        return max(self.deadline - time.monotonic(), SHARE_LEFT * self.timeout)

    def _check_turnout(self) -> None:
        """Say who is missing, and end the run where it does not go on without them."""
        policy, missing = self.roster.policy, self.turnout.missing
        if not missing:
            return
        together: dict[str, list[str]] = {}
        for name in missing:
            if name in self._why:
                together.setdefault(self._why[name], []).append(name)
        told = "; ".join(f"{', '.join(names)} {why}" for why, names in together.items())
        if self.roster.waits:
            who = told or ", ".join(missing)
            raise RunError(f"round {self.number}: {who}; with on-missing = 'wait' that ends the run")
        if told:
            how = "their last answers count again" if policy.on_missing == "reuse" else "it goes on without"
            log(WARNING, "round %d: %s; on-missing = %s: %s", self.number, told, policy.on_missing, how)
        here, least = len(self._measures), min(policy.min_clients, len(self.roster.names))
        if here < max(least, 1):
            raise RunError(
                f"round {self.number}: {here} of {len(self.roster.names)} clients answered, and at least "
                f"min-clients = {policy.min_clients} are needed; missing: {', '.join(missing)}"
            )


class Once:
    """Answers that pass one by one; who wants them a second time is told so, rather than given none."""

    def __init__(self, answers: Iterator[Answer]) -> None:
        self._answers = answers
        self._taken = False

    def __iter__(self) -> Iterator[Answer]:
        if self._taken:
            raise TypeError("the answers of a round pass once: a strategy that needs them again keeps a list")
        self._taken = True
        return self._answers


def consume(answers: Iterable[Answer]) -> None:
    """Let all answers pass."""
    for _ in answers:
        pass


def _asked_for(reply: Message, owed: dict[str, Asked]) -> Asked | None:
    """Take from what is owed what this is the reply to: as a rule, the first."""
    for sure in (True, False):
        for name, asked in owed.items():
            if is_reply_to(reply, asked.message, sure):
                return owed.pop(name)
    return None
