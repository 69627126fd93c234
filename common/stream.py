"""The words of the gRPC stream that server and client share. Nothing here opens a socket.

One bidirectional stream per client, for the whole run; what it carries are the frames of `common.frames`. The
client says who it is in the call's metadata; the server takes it in with a first frame, the size in bytes of
the largest message that it takes, in decimal, or refuses it with a status. The server has at most one message
on its way to a client at a time, and a client sends nothing but the reply to it.

How a stream ends: OK, the run is done; ABORTED, the run failed and the text says why; a code in `REFUSALS`,
trying again is of no use; anything else, the connection was lost.
"""

import ipaddress
from importlib import metadata
from logging import ERROR

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common import log
from flwr.common.constant import ErrorCode

from common.errors import UserError

PROTOCOL_VERSION = 4
SERVICE = "localgd.Stream"
METHOD = "Join"
REFUSALS = {
    "FAILED_PRECONDITION",
    "INVALID_ARGUMENT",
    "ALREADY_EXISTS",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
}

# Metadata from the client (a key that ends in -bin carries bytes: a name need not be ASCII).
PROTOCOL_KEY = "localgd-protocol"
VERSION_KEY = "localgd-version"
NAME_KEY = "localgd-name-bin"
SESSION_KEY = (
    "localgd-session"  # one per `join`: tells a client that comes back from a second one of its name
)

MAX_MESSAGE_BYTES = 2**30
MAX_NAME_LENGTH = 128


def options(keepalive: float, patience: float) -> list[tuple[str, int]]:
    """Options of gRPC for either end.

    Parameters
    ----------
    keepalive, patience
        Seconds of silence after which the other end is asked whether it is there, and that it has to answer.
    """
    return [
        ("grpc.keepalive_time_ms", int(1000 * keepalive)),
        ("grpc.keepalive_timeout_ms", int(1000 * patience)),
        ("grpc.http2.ping_timeout_ms", int(1000 * patience)),  # a minute otherwise, whatever the line above
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # Beyond the frame that is being read take in no more than this. So who does not read holds up the
        # sender, and the answer to a question does not wait behind megabytes on a slow network.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 2**16),
    ]


def answer(client_app: ClientApp, message: Message, context: Context) -> Message:
    """The client app's reply, or an error reply as Flower's own runtime makes it if the app raises."""
    try:
        reply = client_app(message, context)
        if reply.metadata.reply_to_message_id != message.metadata.message_id:
            raise ValueError("the ClientApp must build its reply with Message(..., reply_to=message)")
        return reply
    except Exception as error:
        log(ERROR, "ClientApp raised an exception", exc_info=error)
        reason = f"{type(error)}:<'{error}'>"
        return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason), reply_to=message)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` (an IPv6 host keeps its brackets); UserError for anything else."""
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UserError(
            f"address {address!r}: expected HOST:PORT, such as 127.0.0.1:8080, port at most 65535"
        )
    return host, int(port)


def is_loopback(address: str) -> bool:
    """Whether `HOST:PORT` is surely on this machine: localhost or a loopback IP address, as written."""
    host, _ = split_address(address)
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def package_version() -> str:
    """The installed version of localgd, for the message that asks to install the same one."""
    try:
        return metadata.version("localgd")
    except metadata.PackageNotFoundError:
        return "unknown"
