"""The directory of --tls: do its files go together, whom are they for, and how long yet?"""

import datetime
import fnmatch
import ipaddress
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from cryptography import x509

from common.errors import UserError
from common.stream import split_address
from localgd.doctor import Finding
from localgd.tls import (
    REVOKED,
    check_dates,
    client_tls,
    fingerprint,
    read_certificates,
    revoked,
    server_credentials,
)

SOON = 30
"""Days before its end at which a certificate is worth a warning."""


def certificates(directory: Path, address: str | None) -> Iterator[Finding]:
    """Examine every certificate and key of a directory; ``address`` is what clients call the server."""
    if not directory.is_dir():
        raise UserError(f"--tls {directory} is no directory")
    ca = directory / "ca.crt"
    yield _certificate(ca, "the CA", partial(_check_ca, ca))
    for path in sorted(directory.glob("*.crt")):
        if path.stem == "server":
            found = _certificate(path, "the server", partial(server_credentials, directory))
            yield found
            if found.state != "problem":
                yield _server_names(path, address)
        elif path.stem != "ca":
            yield _certificate(path, "a client", partial(client_tls, directory, path.stem))
    yield from _revoked(directory)
    yield from _private(directory)


def _check_ca(path: Path) -> None:
    for certificate in read_certificates(path):
        check_dates(path, certificate)


def _certificate(path: Path, role: str, check: Callable[[], object]) -> Finding:
    """Examine one certificate, with what belongs to it."""
    try:
        check()
        certificate = read_certificates(path)[0]
    except UserError as error:
        return Finding("problem", path.name, str(error))
    end = certificate.not_valid_after_utc
    days = (end - datetime.datetime.now(datetime.UTC)).days
    name = ", ".join(str(part.value) for part in certificate.subject) or "without a name"
    told = f"{role}, {name}, valid until {end:%Y-%m-%d}"
    if days < SOON:
        return Finding(
            "warning",
            path.name,
            f"{told}, {days} days from now: move it and its key away, and localgd pki makes new ones",
        )
    return Finding("ok", path.name, told)


def _server_names(path: Path, address: str | None) -> Finding:
    """Say which names a server's certificate is for, and whether the address is among them."""
    try:
        extension = read_certificates(path)[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return Finding("problem", path.name, "names no host: no client would trust it; localgd pki makes one")
    known = [*extension.value.get_values_for_type(x509.DNSName)]
    known += map(str, extension.value.get_values_for_type(x509.IPAddress))
    told = f"for {', '.join(known)}"
    host = split_address(address)[0].strip("[]") if address else ""
    if not host or any(_is_named(host, name) for name in known):
        return Finding("ok", path.name, told)
    return Finding(
        "problem",
        path.name,
        f"{told}, not for {host}: clients that call the server so refuse it; move it and its key away, then "
        f"localgd pki --out {path.parent} --server {host}",
    )


def _is_named(host: str, name: str) -> bool:
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(name)
    except ValueError:
        return fnmatch.fnmatch(host.lower(), name.lower()) and host.count(".") == name.count(".")


def _revoked(directory: Path) -> Iterator[Finding]:
    """Say how many certificates are revoked, and which of those that are here."""
    listed = revoked(directory)
    if not listed:
        return
    here = [
        path.stem
        for path in sorted(directory.glob("*.crt"))
        if any(fingerprint(one) in listed for one in _readable(path))
    ]
    named = f", here: {', '.join(here)}" if here else ""
    yield Finding("ok", REVOKED, f"{len(listed)} revoked{named}")


def _readable(path: Path) -> list[x509.Certificate]:
    try:
        return read_certificates(path)
    except UserError:
        return []  # it has been told already


def _private(directory: Path) -> Iterator[Finding]:
    """Look for keys that others can read, and for that of the CA."""
    for path in sorted(directory.iterdir()):
        if path.suffix in (".key", ".supernode") and path.stat().st_mode & 0o077:
            yield Finding("warning", path.name, f"others than its owner may read it: chmod 600 {path}")
    if (directory / "ca.key").exists():
        yield Finding(
            "warning",
            "ca.key",
            "whoever has it can let anyone in: keep it where neither the server nor a client runs",
        )
