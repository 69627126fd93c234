"""The ClientApp: a message in, one local solve, a reply out."""

import functools
from collections.abc import Callable

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from client.dataset import Source, called, describe, forget, load, source
from client.engine import to_engine
from client.memory import Kept, memory_share, problem_bytes
from client.multiclass import MultiClass
from client.problem import Problem
from client.solvers import solve
from common.datafiles import Dataset
from common.errors import UserError
from common.handshake import (
    Preparation,
    pack_description,
    pack_prepared,
    unpack_describe,
    unpack_preparation,
)
from common.labels import encoded, signed, targets
from common.losses import LOSSES
from common.messages import UNPREPARED, USER_ERROR, pack_answer, unpack_question
from common.scaling import Scaling
from common.solution import Answer, SolverSettings

app = ClientApp()


class Unprepared(Exception):
    """The client does not hold the preparation that the server's message builds on."""


def replying(handler: Callable[[Message, Context], RecordDict]) -> Callable[[Message, Context], Message]:
    """Turn a handler's records into a reply, and what a person can fix into an error reply of one line.

    The line says whose it is: over some transports only the client knows its name before the handshake.
    """

    @functools.wraps(handler)
    def reply(message: Message, context: Context) -> Message:
        """Answer a message as Flower's ClientApp is to: with a message."""
        try:
            return Message(handler(message, context), reply_to=message)
        except UserError as error:
            return Message(Error(USER_ERROR, f"{called(context)}: {error}"), reply_to=message)
        except Unprepared:
            return Message(Error(UNPREPARED, "not prepared"), reply_to=message)

    return reply


@app.query("describe")
@replying
def query_describe(message: Message, context: Context) -> RecordDict:
    """Handshake, first message: what are your data like?"""
    salt, statistics, loss = unpack_describe(message.content)
    where = source(context)
    return pack_description(describe(where.name, load(where), salt, statistics, loss))


@app.query("prepare")
@replying
def query_prepare(message: Message, context: Context) -> RecordDict:
    """Handshake, second message: scale your data like this; how large and how smooth are they then?"""
    for key, record in message.content.items():
        context.state[key] = record
    where, preparation = source(context), unpack_preparation(message.content)
    settings = SolverSettings(
        loss=preparation.loss,
        engine=preparation.engine,
        device=preparation.device,
        preparation=preparation.fingerprint,
    )
    problem = find_problem(where, context, settings)
    return pack_prepared(where.name, problem.max_norm, problem.smoothness())


@app.train()
@replying
def train(message: Message, context: Context) -> RecordDict:
    """One round: a local solve from each centre, and the measures of the weights received."""
    return answer(message, context, solving=True)


@app.evaluate()
@replying
def evaluate(message: Message, context: Context) -> RecordDict:
    """After the last round: only the measures."""
    return answer(message, context, solving=False)


def answer(message: Message, context: Context, solving: bool) -> RecordDict:
    """Measure the weights, and solve from the centres if asked to."""
    question = unpack_question(message.content)
    where, settings = source(context), question.settings
    problem = find_problem(where, context, settings)
    if question.weights.shape != problem.shape:
        raise UserError(f"the model has shape {question.weights.shape}, the data need {problem.shape}")
    move = functools.partial(to_engine, engine=settings.engine, device=settings.device)
    solutions = tuple(
        solve(problem, move(centre), settings, where.name, question.number, k)
        for k, centre in enumerate(question.centres if solving else ())
    )
    return pack_answer(
        Answer(where.name, solutions, problem.measure(move(question.weights)), question.number)
    )


def find_problem(where: Source, context: Context, settings: SolverSettings) -> Problem:
    """Return the client's problem: made once per process and preparation, then kept in memory."""
    key = (where, settings.preparation, settings.loss, settings.engine, settings.device)
    kept = problem = _problems.find(key)
    if problem is None or problem.norm not in (1.0, settings.norm):
        problem = _make_problem(where, context, settings)
    if problem.norm != settings.norm:
        problem = problem.divided(settings.norm)
    if problem is not kept:
        _problems.keep(key, problem)
    return problem


def _make_problem(where: Source, context: Context, settings: SolverSettings) -> Problem:
    preparation = _preparation(where, context, settings)
    problem = problem_of(load(where), preparation, settings)
    forget(where)  # the problem is made of rows of its own
    return problem


def problem_of(data: Dataset, preparation: Preparation, settings: SolverSettings) -> Problem:
    """Return the problem that the data are to a loss, in the array namespace of the settings' engine."""
    loss, classes = LOSSES[settings.loss], preparation.classes
    move = functools.partial(to_engine, engine=settings.engine, device=settings.device)
    rows = preparation.scaling.rows(data.X)
    if loss.labels == "numbers":
        return Problem(move(rows), loss, offset=move(targets(data.y)))
    if loss.labels == "many":
        return MultiClass(move(rows), loss, move(encoded(data.y, classes)), len(classes))
    return Problem(move(signed(rows, data.y, classes)), loss)


def _preparation(where: Source, context: Context, settings: SolverSettings) -> Preparation:
    """Return the preparation the settings ask for: the handshake's, or one that leaves rows as they are."""
    if settings.preparation:
        held = context.state.config_records.get("config")
        if held is None or held.get("fingerprint") != settings.preparation:
            raise Unprepared
        return unpack_preparation(context.state)
    data, labels = load(where), LOSSES[settings.loss].labels
    scaling = Scaling.identity(data.X.shape[1], intercept=False)
    if labels == "numbers":
        return Preparation(scaling, (), settings.loss)
    for classes in (("-1", "1"), ("0", "1")):
        if labels == "two" and set(data.y.tolist()) <= set(classes):
            return Preparation(scaling, classes, settings.loss)
    raise UserError(
        "without a handshake labels must be -1 and 1, or 0 and 1"
        + ("; several classes need one" if labels == "many" else "")
    )


_problems = Kept(memory_share(), problem_bytes)
