"""Who opens a stream: protocol, session, and the name of its certificate or, without, the one it says."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from logging import WARNING
from typing import Any

import grpc
from flwr.common import log

from common import stream as words


@dataclass
class Refusal(Exception):
    """Why a stream ends: a gRPC status and, for the person at the client, a line."""

    code: grpc.StatusCode
    reason: str


async def identify(context: Any, mutual: bool, why_refused: Callable[[bytes], str | None]) -> tuple[str, str]:
    """The name and the session of the client that has opened a stream.

    Parameters
    ----------
    mutual
        Whether its certificate says the name, whatever the client says.
    why_refused
        Given that certificate, says why it may not join, or None. Runs in another thread: it may read files.

    Raises
    ------
    Refusal
        If it may not come in.
    """
    said = dict(context.invocation_metadata())
    protocol = said.get(words.PROTOCOL_KEY, "unknown")
    if protocol != str(words.PROTOCOL_VERSION):
        ours, theirs = words.package_version(), said.get(words.VERSION_KEY, "unknown")
        raise Refusal(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"the server speaks stream protocol {words.PROTOCOL_VERSION} (localgd {ours}), this client "
            f"{protocol} (localgd {theirs}): install localgd {ours} on the client",
        )
    if mutual:
        name = await _certified_name(context, why_refused)
    else:
        name = _name(said.get(words.NAME_KEY, b""))
    return name, str(said.get(words.SESSION_KEY, ""))


async def _certified_name(context: Any, why_refused: Callable[[bytes], str | None]) -> str:
    peer = context.auth_context()
    certificate = peer.get("x509_pem_cert", [b""])[0]
    if not certificate:
        raise Refusal(grpc.StatusCode.UNAUTHENTICATED, "a client needs a certificate")
    name = _name(peer.get("x509_common_name", [b""])[0])
    try:
        reason = await asyncio.to_thread(why_refused, certificate)
    except Exception as error:  # as long as that is so, nobody comes in
        log(WARNING, "cannot check the certificate of client %s: %s", name, error)
        raise Refusal(
            grpc.StatusCode.UNAVAILABLE, "the server cannot check certificates at the moment"
        ) from None
    if reason is not None:
        raise Refusal(grpc.StatusCode.PERMISSION_DENIED, f"client {name!r}: {reason}")
    return name


def _name(given: str | bytes) -> str:
    try:
        name = given.decode() if isinstance(given, bytes) else given
    except UnicodeDecodeError:
        name = ""
    if not 1 <= len(name) <= words.MAX_NAME_LENGTH or not name.isprintable():
        raise Refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"client name {given[:200]!r}: must have 1 to {words.MAX_NAME_LENGTH} characters, all printable",
        )
    return name
