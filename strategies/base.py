"""The one round loop, as a Flower strategy: send, gather, check, combine."""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from logging import INFO
from typing import Any, Generic, TypeVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from numpy.typing import NDArray

from common.arrays import pack_array
from common.errors import NotSeparable, RunError, UserError, last_line
from common.federation import Federation
from common.messages import (
    EVALUATE,
    PREPARE,
    TRAIN,
    UNPREPARED,
    USER_ERROR,
    count_bytes,
    pack_preparation,
    pack_question,
    unpack_answer,
)
from common.solution import DEFAULTS, Answer, SolverSettings

Vector = NDArray[np.float64]
State = TypeVar("State")


@dataclass(frozen=True)
class Costs:
    """Seconds and bytes of one round; ``clients`` runs from the first message sent to the last reply."""

    total: float
    clients: float
    combine: float
    sent: int
    received: int


class Callback:
    """Something that watches a run: the monitor, a checkpoint, a stop rule."""

    def measured(self, number: int, weights: Vector, answers: Sequence[Answer]) -> str | None:
        """Take the answers that measured the model of round ``number`` (0: the initial one).

        Returning a word ends the run with that model; the word says why.
        """
        return None

    def combined(
        self, number: int, weights: Vector, dual_mass: float, answers: Sequence[Answer], costs: Costs
    ) -> None:
        """Take the new model of round ``number``, its dual mass, and the answers it was combined from."""


class LocalSolveStrategy(Strategy, Generic[State]):
    """A strategy that chooses centres and combines the clients' local solutions.

    Subclasses are pure: `init`, `centres`, `combine` and `weights` take and return immutable states.
    All clients take part in every round; their answers are sorted by name and weigh the same.

    Parameters
    ----------
    settings
        How the clients solve.
    federation
        What the handshake agreed on.  Without one, every connected node takes part, on its rows as
        they are, with labels −1 and 1 or 0 and 1, and with its own automatic step size.
    """

    def __init__(self, settings: SolverSettings = DEFAULTS, federation: Federation | None = None) -> None:
        self.settings = federation.settings(settings) if federation else settings
        self.federation = federation
        self.stopped_by = "rounds"
        self._state: State | None = None
        self._asked: dict[int, tuple[Vector, ...]] = {}  # node id -> centres, of the messages now out
        self._most_parts = 1  # of a solution, in the answers to those messages

    @abstractmethod
    def init(self, weights: Vector) -> State:
        """Return the state before round 1, from the initial model."""

    def centres(self, state: State, client: str) -> tuple[Vector, ...]:
        """Return where a client's local solves start: at the model, unless a strategy says otherwise."""
        return (self.weights(state),)

    @abstractmethod
    def combine(self, state: State, answers: Sequence[Answer]) -> State:
        """Return the next state from the clients' local solutions."""

    @abstractmethod
    def weights(self, state: State) -> Vector:
        """Return the global model."""

    def dual_mass(self, state: State) -> float:
        """Return ``1ᵀa`` where the model is known as ``Zᵀa`` with ``a ≥ 0`` over all clients, else 0.

        It is then a proof of its own: ``γ* ≤ ‖w‖ / 1ᵀa``.
        """
        return 0.0

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
        callbacks: Sequence[Callback] = (),
        since: tuple[int, State] | None = None,
    ) -> Result:
        """Run the rounds; one message per client and round.

        The clients' answers to round ``r + 1`` also measure the model of round ``r``; after the last
        round one evaluation measures the last model.

        Parameters
        ----------
        initial_arrays
            The initial model under the key ``weights``.
        train_config, evaluate_config
            Solver settings that replace the strategy's own.
        callbacks
            Called in order in every round.
        since
            The round after which an earlier run had this state: go on from there.

        Raises
        ------
        UserError, RunError, NotSeparable
            When a client cannot do its part; names it.
        """
        result = Result(arrays=initial_arrays)
        train_config, evaluate_config = train_config or ConfigRecord(), evaluate_config or ConfigRecord()
        arrays, self._state, self.stopped_by = initial_arrays, None, "rounds"
        done = 0
        if since is not None:
            done, self._state = since
            result.arrays = arrays = ArrayRecord({"weights": pack_array(self.weights(self._now))})
        self._evaluate_here(done, result, evaluate_fn)
        for number in range(done + 1, num_rounds + 1):
            began = time.perf_counter()
            messages = list(self.configure_train(number, arrays, train_config, grid))
            sent = time.perf_counter()
            replies = self._exchange(grid, messages, timeout)
            received = time.perf_counter()
            answers = self._gather(replies, number)
            result.train_metrics_clientapp[number] = summarise(answers)
            if stop := self._measured(callbacks, number - 1, answers):
                self.stopped_by = stop
                return result
            combining = time.perf_counter()
            arrays = self._combine(answers)
            ended = time.perf_counter()
            result.arrays = arrays
            costs = Costs(
                total=ended - began,
                clients=received - sent,
                combine=ended - combining,
                sent=sum(count_bytes(message.content) for message in messages),
                received=sum(count_bytes(reply.content) for reply in replies),
            )
            for callback in callbacks:
                callback.combined(number, self.weights(self._now), self.dual_mass(self._now), answers, costs)
            self._evaluate_here(number, result, evaluate_fn)
        last = max(done, num_rounds)
        messages = list(self.configure_evaluate(last, arrays, evaluate_config, grid))
        answers = self._gather(self._exchange(grid, messages, timeout), last)
        result.evaluate_metrics_clientapp[last] = summarise(answers)
        self._measured(callbacks, last, answers)
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every client for its local solves, each from its own centres."""
        if self._state is None or server_round == 1:
            self._state = self.init(arrays["weights"].numpy())
        names = self._names(grid)
        centres = {node: self.centres(self._now, name) for node, name in names.items()}
        return self._messages(TRAIN, server_round, arrays, config, centres)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Combine the clients' answers."""
        answers = self._gather(replies, server_round)
        return self._combine(answers), summarise(answers)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every client to measure the model."""
        return self._messages(EVALUATE, server_round, arrays, config, dict.fromkeys(self._names(grid), ()))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Summarise what the clients measured."""
        return summarise(self._gather(replies, server_round))

    def summary(self) -> None:
        """Log the solver's settings."""
        log(INFO, "%s: %s", type(self).__name__, self.settings)

    @property
    def state(self) -> State:
        """The state after the last combine."""
        return self._now

    @property
    def _now(self) -> State:
        assert self._state is not None
        return self._state

    def _combine(self, answers: Sequence[Answer]) -> ArrayRecord:
        self._state = self.combine(self._now, answers)
        return ArrayRecord({"weights": pack_array(self.weights(self._state))})

    def _measured(self, callbacks: Sequence[Callback], number: int, answers: Sequence[Answer]) -> str | None:
        stops = [callback.measured(number, self.weights(self._now), answers) for callback in callbacks]
        return next((stop for stop in stops if stop), None)

    def _names(self, grid: Grid) -> dict[int, str]:
        if self.federation:
            return self.federation.names
        return {node: f"node {node}" for node in sorted(grid.get_node_ids())}

    def _messages(
        self,
        kind: str,
        number: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        centres: dict[int, tuple[Vector, ...]],
    ) -> list[Message]:
        settings = replace(self.settings, **config) if config else self.settings  # type: ignore[arg-type]
        self._asked, self._most_parts = centres, settings.cuts
        packed: dict[tuple[int, ...], RecordDict] = {}  # one object for all clients with the same centres
        messages = []
        for node, starts in centres.items():
            same = tuple(map(id, starts))
            if same not in packed:
                packed[same] = pack_question(number, arrays, starts, settings)
            messages.append(Message(packed[same], node, kind, group_id=str(number)))
        return messages

    def _exchange(self, grid: Grid, messages: list[Message], timeout: float) -> list[Message]:
        """Send and receive; a client that lost its preparation, by a restart, is prepared and asked again."""
        replies = list(grid.send_and_receive(messages, timeout=timeout))
        lost = {r.metadata.src_node_id for r in replies if r.has_error() and r.error.code == UNPREPARED}
        if not lost or self.federation is None:
            return replies
        content = pack_preparation(self.federation.preparation)
        prepare = [Message(content, node, PREPARE) for node in sorted(lost)]
        prepared = {r.metadata.src_node_id: r for r in grid.send_and_receive(prepare, timeout=timeout)}
        again = [
            Message(m.content, m.metadata.dst_node_id, m.metadata.message_type, group_id=m.metadata.group_id)
            for m in messages
            if m.metadata.dst_node_id in prepared
        ]
        kept = [reply for reply in replies if reply.metadata.src_node_id not in lost]
        failed = [reply for reply in prepared.values() if reply.has_error()]
        return kept + (failed or list(grid.send_and_receive(again, timeout=timeout)))

    def _gather(self, replies: Iterable[Message], number: int) -> list[Answer]:
        """Check the replies to the messages now out, one from each client, and sort them by client."""
        shape, owed = self.weights(self._now).shape, dict(self._asked)
        answers = []
        for reply in replies:
            node = reply.metadata.src_node_id
            name = self._name(node)
            if reply.has_error():
                if reply.error.code == USER_ERROR:
                    raise UserError(reply.error.reason)  # it says whose it is
                reason = last_line(str(reply.error.reason))
                raise RunError(f"round {number}: {name} failed: {reason}; its own log says more")
            try:
                answer = unpack_answer(reply.content, shape)
                centres = owed.pop(node)
                if len(answer.solutions) != len(centres):
                    raise ValueError(f"it holds {len(answer.solutions)} solutions, not one for each centre")
                if (parts := max((len(s.parts) for s in answer.solutions), default=0)) > self._most_parts:
                    raise ValueError(
                        f"a solution of {parts} parts, where at most {self._most_parts} were asked"
                    )
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(f"round {number}: the answer of {name} was refused: {error}") from None
            for solution in answer.solutions:
                if solution.result == "infeasible":
                    bound = float(np.linalg.norm(solution.displacement)) / solution.dual_mass
                    raise NotSeparable(
                        f"round {number}: the data of {answer.client} alone are not linearly separable "
                        f"(no margin above {bound:.1g}), so there is nothing to project on; "
                        "solver = 'gradient' or 'proximal' goes on without"
                    )
            # the name by which the strategy chose its centres
            own = replace(answer, client=name, centres=centres)
            answers.append((answer.client, own))
        if owed:
            raise RunError(
                f"round {number}: no answer in time from {', '.join(map(self._name, sorted(owed)))}"
            )
        return [own for _, own in sorted(answers, key=lambda pair: pair[0])]

    def _name(self, node: int) -> str:
        names = self.federation.names if self.federation else {}
        return names.get(node, f"node {node}")

    @staticmethod
    def _evaluate_here(number: int, result: Result, evaluate: Callable[..., Any] | None) -> None:
        record = evaluate(number, result.arrays) if evaluate else None
        if record is not None:
            result.evaluate_metrics_serverapp[number] = record


def summarise(answers: Sequence[Answer]) -> MetricRecord:
    """Return the federation's loss, smallest margin ``z·w``, errors and number of examples."""
    measures = [answer.measures for answer in answers]
    return MetricRecord(
        {
            "loss": sum(m.loss for m in measures) / len(measures),
            "margin": min(m.margin for m in measures),
            "errors": sum(m.errors for m in measures),
            "num-examples": sum(m.count for m in measures),
        }
    )
