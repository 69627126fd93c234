"""A ClientApp whose local models pass through Flower's mods for differential privacy, and nothing else."""

from flwr.app import ArrayRecord, Context, Error, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable, Mod

from client.app import evaluate, train
from common.arrays import pack_array, unpack_array
from common.messages import USER_ERROR, pack_answer, unpack_answer, unpack_question
from common.solution import Answer, LocalSolution, Measures, Part

UNKNOWN = Measures(loss=0.0, margin=0.0, errors=0, count=1)
"""What such a client says of a model: nothing."""


def private_app(*mods: Mod) -> ClientApp:
    """Return a ClientApp for strategies that ask for one local solve from the model, without a handshake.

    The mods, such as Flower's `LocalDpMod`, see what they expect: the model comes in under ``weights``, and
    the local model goes out under the same.  The server gets the displacement that they make of it, and no
    measures of its models, no dual mass, no description of the data; so nothing is certified.

    Parameters
    ----------
    mods
        In Flower's order: the first is the outermost.
    """
    app = ClientApp(mods=[_tell_displacement_only, *mods, _tell_model])
    app.train()(train)
    app.evaluate()(evaluate)
    return app


def _tell_displacement_only(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """The outermost: make an answer of the model that the mods let out, and measure nothing."""
    question = unpack_question(message.content)
    solutions: tuple[LocalSolution, ...] = ()
    if message.metadata.message_type == MessageType.TRAIN:
        if [centre.tolist() for centre in question.centres] != [question.weights.tolist()]:
            reason = "this client solves from the model only: use local-gd or modified-local-gd"
            return Message(Error(USER_ERROR, reason), reply_to=message)
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        [arrays] = reply.content.array_records.values()
        part = Part(unpack_array(arrays["weights"]) - question.weights, dual_mass=0.0)
        solutions = (LocalSolution((part,), active=0, steps=0),)
    answer = Answer(f"node {context.node_id}", solutions, UNKNOWN, question.number)
    return Message(pack_answer(answer), reply_to=message)


def _tell_model(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """The innermost: make a model of the answer, for the mods."""
    reply = call_next(message, context)
    if reply.has_error():
        return reply
    weights = unpack_question(message.content).weights
    [solution] = unpack_answer(reply.content, weights.shape).solutions
    model = ArrayRecord({"weights": pack_array(weights + solution.displacement)})
    return Message(RecordDict({"arrays": model}), reply_to=message)
