"""The one round loop, as a Flower strategy: send, gather, check, combine."""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from logging import INFO
from typing import Any, Generic, TypeVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from numpy.typing import NDArray

from common.arrays import pack_array
from common.errors import LocalGDError, NotSeparable
from common.federation import Federation
from common.messages import EVALUATE, TRAIN, count_bytes, pack_question
from common.records import record_of
from common.solution import DEFAULTS, Answer, SolverSettings
from strategies.callbacks import Callback, Costs, Turnout, summarise
from strategies.gathering import Asked, Gathering, Once, consume
from strategies.replies import exchange, in_order
from strategies.roster import DataChanged, Policy, Roster

Vector = NDArray[np.float64]
State = TypeVar("State")
Outcome = TypeVar("Outcome")

PATIENT = Policy()
"""Wait for everybody."""


class LocalSolveStrategy(Strategy, Generic[State]):
    """A strategy that chooses centres and combines the clients' local solutions.

    Subclasses are pure: `init`, `centres`, `combine` and `weights` take and return immutable states.
    All clients take part in every round; their answers come in the order of names and weigh the same.

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
        self._last: dict[str, Answer] = {}
        self._asked: list[Asked] = []  # what the clients were last asked
        self._as_asked = self.settings
        self._roster: Roster | None = None
        self._callbacks: Sequence[Callback] = ()
        self._timeout = 3600.0

    @abstractmethod
    def init(self, weights: Vector) -> State:
        """Return the state before round 1, from the initial model."""

    def centres(self, state: State, client: str) -> tuple[Vector, ...]:
        """Return where a client's local solves start: at the model, unless a strategy says otherwise."""
        return (self.weights(state),)

    @abstractmethod
    def combine(self, state: State, answers: Iterable[Answer]) -> State:
        """Return the next state from the clients' local solutions.

        The answers come one by one, in the order of names, and only once: a strategy that needs them again
        begins with ``answers = list(answers)``, others keep none.  Where the last answers of missing clients
        count again, they come at the end and are ``stale``.
        """

    @abstractmethod
    def weights(self, state: State) -> Vector:
        """Return the global model."""

    def dual_mass(self, state: State) -> float:
        """Return ``1ᵀa`` where the model is known as ``Zᵀa`` with ``a ≥ 0`` over all clients, else 0.

        It is then a proof of its own: ``γ* ≤ ‖w‖ / 1ᵀa``.
        """
        return 0.0

    def forget(self, state: State, client: str) -> State:
        """Return the state without what rests on a client's data, which have changed."""
        return state

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
        last: Mapping[str, Answer] | None = None,
        policy: Policy = PATIENT,
    ) -> Result:
        """Run the rounds; one message per client and round.

        The clients' answers to round ``r + 1`` also measure the model of round ``r``; after the last
        round one evaluation measures the last model.

        Parameters
        ----------
        initial_arrays
            The initial model under the key ``weights``.
        timeout
            Seconds that a round waits for its clients.
        train_config, evaluate_config
            Solver settings that replace the strategy's own.
        callbacks
            Called in order in every round.
        since
            The round after which an earlier run had this state: go on from there.
        last
            The clients' last answers by then, as `last` had them.
        policy
            What happens when a client does not answer, or badly.

        Raises
        ------
        UserError, RunError, NotSeparable
            When a client cannot do its part; names it.
        """
        result = Result(arrays=initial_arrays)
        train_config, evaluate_config = train_config or ConfigRecord(), evaluate_config or ConfigRecord()
        arrays, self._state, self.stopped_by = initial_arrays, None, "rounds"
        self._roster, self._last = Roster(grid, self.federation, policy), dict(last or {})
        self._callbacks, self._timeout = callbacks, timeout
        done = 0
        if since is not None:
            done, self._state = since
            result.arrays = arrays = self._packed()
        self._evaluate_here(done, result, evaluate_fn)
        for number in range(done + 1, num_rounds + 1):
            train = partial(self._round, number, arrays, train_config)
            turnout, stop = self._until_all_is_as_known(train)
            result.train_metrics_clientapp[number] = summarise(turnout)
            if stop:
                self.stopped_by = stop
                return result
            result.arrays = arrays = self._packed()
            self._evaluate_here(number, result, evaluate_fn)
        end = max(done, num_rounds)
        evaluate = partial(self._evaluation, end, arrays, evaluate_config)
        turnout, _ = self._until_all_is_as_known(evaluate)
        result.evaluate_metrics_clientapp[end] = summarise(turnout)
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every client for its local solves, each from its own centres."""
        if self._state is None or server_round == 1:
            self._state = self.init(arrays["weights"].numpy())
        centres = {name: self.centres(self._now, name) for name in self._nodes(grid)}
        return self._ask(TRAIN, server_round, arrays, config, centres)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Combine the clients' answers."""
        gathering = self._gathering(server_round)
        answers = gathering.answers(in_order(self._messages, replies))
        self._state = self.combine(self._now, Once(answers))
        consume(answers)
        return self._packed(), summarise(gathering.turnout)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every client to measure the model."""
        return self._ask(EVALUATE, server_round, arrays, config, dict.fromkeys(self._nodes(grid), ()))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Summarise what the clients measured."""
        gathering = self._gathering(server_round)
        consume(gathering.answers(in_order(self._messages, replies)))
        return summarise(gathering.turnout)

    def summary(self) -> None:
        """Log the solver's settings."""
        log(INFO, "%s: %s", type(self).__name__, self.settings)

    @property
    def state(self) -> State:
        """The state after the last combine."""
        return self._now

    @property
    def last(self) -> Mapping[str, Answer]:
        """Each client's last answer, where they count again of those that are missing."""
        return dict(self._last)

    @property
    def refused(self) -> Mapping[str, int]:
        """How many answers of each client were refused, of those of whom any was."""
        return dict(self._roster.refused) if self._roster else {}

    @property
    def _now(self) -> State:
        assert self._state is not None
        return self._state

    @property
    def _messages(self) -> list[Message]:
        return [asked.message for asked in self._asked]

    def _packed(self) -> ArrayRecord:
        return record_of(ArrayRecord, {"weights": pack_array(self.weights(self._now))})

    def _round(self, number: int, arrays: ArrayRecord, config: ConfigRecord) -> tuple[Turnout, str | None]:
        """Train: ask, combine as the answers come, and take the new model unless a callback says stop."""
        began = time.perf_counter()
        self.configure_train(number, arrays, config, self._known.grid)
        sent = time.perf_counter()
        gathering = self._gathering(number)
        answers = self._passing(gathering, number - 1)
        try:
            state = self.combine(self._now, Once(answers))
            consume(answers)  # a strategy may not have wanted all
        except LocalGDError as error:
            if not gathering.complete:
                raise
            if disproved := isinstance(error, NotSeparable):
                for callback in self._callbacks:
                    callback.disproved()
            # What the clients have measured counts, whatever came of their solutions.
            stop = self._measured(number - 1, gathering.turnout)
            if disproved or not stop:
                raise
            return gathering.turnout, stop
        combined = time.perf_counter()
        if stop := self._measured(number - 1, gathering.turnout):
            return gathering.turnout, stop
        self._state = state
        costs = Costs(
            total=time.perf_counter() - began,
            clients=gathering.heard - sent,
            combine=combined - gathering.heard,
            sent=_bytes_of(self._messages),
            received=gathering.received,
        )
        weights, mass = self.weights(state), self.dual_mass(state)
        for callback in self._callbacks:
            callback.combined(number, weights, mass, gathering.turnout, costs)
        return gathering.turnout, None

    def _evaluation(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord
    ) -> tuple[Turnout, str | None]:
        """Have the last model measured."""
        self.configure_evaluate(number, arrays, config, self._known.grid)
        gathering = self._gathering(number)
        consume(self._passing(gathering, number))
        return gathering.turnout, self._measured(number, gathering.turnout)

    def _until_all_is_as_known(self, work: Callable[[], Outcome]) -> Outcome:
        """Do a round's work, after having looked who is back, and anew if a client's data have changed."""
        while True:
            self._known.look(self._timeout)
            for client in self._known.changes():
                self.federation = self._known.federation
                assert self.federation is not None
                self.settings = self.federation.settings(self.settings)
                self._last.pop(client, None)
                if self._state is not None:
                    self._state = self.forget(self._state, client)
                for callback in self._callbacks:
                    callback.changed(client, self.federation)
            try:
                return work()
            except DataChanged:
                continue

    def _passing(self, gathering: Gathering, number: int) -> Iterator[Answer]:
        """Yield the answers as they come, having shown them to the callbacks."""
        weights = self.weights(self._now)
        for answer in gathering.answers(exchange(self._known.grid, self._messages, gathering.timeout)):
            if not answer.stale:
                for callback in self._callbacks:
                    callback.answered(number, weights, answer)
                if answer.solutions and self._known.policy.on_missing == "reuse":
                    self._last[answer.client] = answer
            yield answer
            del answer  # before the next one is here

    def _measured(self, number: int, turnout: Turnout) -> str | None:
        stops = [callback.measured(number, self.weights(self._now), turnout) for callback in self._callbacks]
        return next((stop for stop in stops if stop), None)

    @property
    def _known(self) -> Roster:
        assert self._roster is not None
        return self._roster

    def _nodes(self, grid: Grid) -> Mapping[str, int]:
        if self._roster is None or self._roster.grid is not grid:  # in Flower's own loop
            self._roster = Roster(grid, self.federation, PATIENT)
        return self._roster.here()

    def _ask(
        self,
        kind: str,
        number: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        centres: Mapping[str, tuple[Vector, ...]],
    ) -> list[Message]:
        settings = replace(self.settings, **config) if config else self.settings  # type: ignore[arg-type]
        packed: dict[tuple[int, ...], RecordDict] = {}  # one object for all clients with the same centres
        self._asked, self._as_asked = [], settings
        for name, starts in centres.items():
            same = tuple(map(id, starts))
            if same not in packed:
                packed[same] = pack_question(number, arrays, starts, settings)
            message = Message(packed[same], self._known.node(name), kind, group_id=str(number))
            self._asked.append(Asked(name, message, starts))
        return self._messages

    def _gathering(self, number: int) -> Gathering:
        weights, mass = self.weights(self._now), self.dual_mass(self._now)
        return Gathering(
            self._known, number, self._asked, weights, mass, self._as_asked, self._last, self._timeout
        )

    @staticmethod
    def _evaluate_here(number: int, result: Result, evaluate: Callable[..., Any] | None) -> None:
        record = evaluate(number, result.arrays) if evaluate else None
        if record is not None:
            result.evaluate_metrics_serverapp[number] = record


def _bytes_of(messages: Sequence[Message]) -> int:
    """Return the payload of messages, many of which carry the same content."""
    known: dict[int, int] = {}
    for message in messages:
        if id(message.content) not in known:
            known[id(message.content)] = count_bytes(message.content)
    return sum(known[id(message.content)] for message in messages)
