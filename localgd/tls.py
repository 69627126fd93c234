"""Credentials for mutual TLS, read from a directory of PEM files."""

from pathlib import Path

import grpc

from common.errors import UserError


def server_credentials(directory: Path) -> grpc.ServerCredentials:
    """Read ``ca.crt``, ``server.crt`` and ``server.key``; clients must show a certificate of that CA.

    Raises
    ------
    UserError
        When a file is missing or unreadable.
    """
    ca, certificate, key = (_read(directory, name) for name in ("ca.crt", "server.crt", "server.key"))
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=ca, require_client_auth=True)


def client_credentials(directory: Path, name: str | None) -> tuple[str, grpc.ChannelCredentials]:
    """Read ``ca.crt`` and a client's ``<name>.crt`` and ``<name>.key``; without a name the only such pair.

    Raises
    ------
    UserError
        When a file is missing or unreadable, or it is not clear which client this is.
    """
    if name is None:
        found = sorted(path.stem for path in directory.glob("*.crt") if path.stem not in ("ca", "server"))
        if len(found) != 1:
            told = f"has the certificates of {', '.join(found)}" if found else "has no client certificate"
            raise UserError(f"--tls {directory} {told}; say which client this is with --name")
        name = found[0]
    ca, certificate, key = (_read(directory, file) for file in ("ca.crt", f"{name}.crt", f"{name}.key"))
    return name, grpc.ssl_channel_credentials(ca, private_key=key, certificate_chain=certificate)


def _read(directory: Path, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except OSError as error:
        raise UserError(f"--tls {directory}: cannot read {name}: {error.strerror}") from None
