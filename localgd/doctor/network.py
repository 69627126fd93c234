"""The address of a federation, and the connections that Flower's own command knows."""

import os
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError
from common.stream import split_address
from localgd.doctor import Finding
from localgd.tls import check_dates, read_certificates

SECONDS = 3.0
"""How long a connection may take."""


def address(text: str, asked: bool) -> Iterator[Finding]:
    """Say whether a server could listen on an address, or else whether one answers there.

    ``asked`` says that the user has named it: what is in the way of the default only is no problem.
    """
    host, port = split_address(text)
    what = f"address {text}"
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        yield Finding("problem", what, f"the host is not known: {getattr(error, 'strerror', error)}")
        return
    with socket.socket(*found[:3]) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does
        try:
            probe.bind(found[4])
            probe.listen()
        except PermissionError:
            yield Finding("problem", what, "ports below 1024 are for root: take a higher one")
            return
        except OSError:
            pass
        else:
            yield Finding("ok", what, "free: a server can listen here")
            return
    if reason := _unreachable(host, port):
        yield Finding("problem", what, f"no server can listen here, and none answers: {reason}")
    elif asked:
        yield Finding("ok", what, "taken: something listens here, perhaps the server to join")
    else:
        yield Finding("warning", what, "taken, and the default of localgd serve: give it another --address")


def connections() -> Iterator[Finding]:
    """Look at the connections in Flower's configuration, if there is one."""
    home = Path(os.environ.get("FLWR_HOME") or Path.home() / ".flwr")
    path = home / "config.toml"
    if not path.exists():
        yield Finding("absent", "flower", f"no {path}: needed for localgd submit only")
        return
    try:
        links = tomllib.loads(path.read_text(encoding="utf-8")).get("superlink", {})
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    default = links.get("default")
    if default is not None and default not in links:
        yield Finding("problem", "flower", f"{path}: the default connection '{default}' is not in it")
    for name, link in links.items():
        if isinstance(link, dict):
            try:
                yield _connection(name, link)
            except UserError as error:
                yield Finding("problem", f"connection {name}", str(error))


def _connection(name: str, link: dict[str, object]) -> Finding:
    what, where = f"connection {name}", str(link.get("address", ""))
    if not where or where.startswith(":"):
        return Finding("ok", what, "Flower's simulation on this machine" if where else "Flower's own")
    host, port = split_address(where)
    if not link.get("insecure") and (certificates := link.get("root-certificates")):
        for certificate in read_certificates(Path(str(certificates))):
            check_dates(Path(str(certificates)), certificate)
    if reason := _unreachable(host, port):
        return Finding("warning", what, f"no SuperLink answers at {where}: {reason}")
    return Finding("ok", what, f"something listens at {where}")


def _unreachable(host: str, port: int) -> str:
    """Say why nothing can be reached there, if so."""
    try:
        socket.create_connection((host.strip("[]"), port), SECONDS).close()
    except TimeoutError:
        return f"no answer within {SECONDS:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return ""
