"""Make and revoke the certificates of a federation: a CA of its own, a server, clients, SuperNode keys."""

import datetime
import ipaddress
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import UserError
from localgd.tls import REVOKED, check_dates, check_pair, fingerprint, read_certificates, read_key, revoked

DAYS = 365
CA_DAYS = 3650
MAX_NAME_LENGTH = 64  # X.509's limit for a common name
CLOCK_SKEW = datetime.timedelta(hours=1)  # how far another machine's clock may be behind ours
ALWAYS_NAMED = ("localhost", "127.0.0.1")  # so that the server's machine can look at itself

_Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Authority:
    """A CA: what signs certificates."""

    certificate: x509.Certificate
    key: _Key

    @classmethod
    def make(cls, begin: datetime.datetime, end: datetime.datetime) -> Self:
        """Make a new CA. Its name is random, so that two are told apart by name."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _common_name(f"localgd CA {secrets.token_hex(4)}")
        builder = _builder(name, name, key, key, begin, end, ca=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read ``ca.crt`` and ``ca.key``."""
        certificate, key = read_certificates(directory / "ca.crt")[0], read_key(directory / "ca.key")
        check_pair(directory / "ca.crt", certificate, key)
        check_dates(directory / "ca.crt", certificate)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise UserError(f"{directory / 'ca.key'} is no elliptic-curve key, so not one of localgd pki")
        return cls(certificate, key)

    def server(
        self, names: Iterable[str], begin: datetime.datetime, end: datetime.datetime
    ) -> tuple[x509.Certificate, _Key]:
        """Issue a certificate for a server with these host names and IP addresses."""
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        return self._issue("server", ExtendedKeyUsageOID.SERVER_AUTH, alternatives, begin, end)

    def client(
        self, name: str, begin: datetime.datetime, end: datetime.datetime
    ) -> tuple[x509.Certificate, _Key]:
        """Issue a certificate for the client of this name. It cannot pass for a server's."""
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, None, begin, end)

    def _issue(
        self,
        name: str,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
        begin: datetime.datetime,
        end: datetime.datetime,
    ) -> tuple[x509.Certificate, _Key]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(
            _common_name(name), self.certificate.subject, key, self.key, begin, end, ca=False
        ).add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self.key, hashes.SHA256()), key


def write(
    directory: Path, servers: Sequence[str] = (), clients: Sequence[str] = (), days: int = DAYS
) -> list[Path]:
    """Write certificates and keys into a directory, signed by its CA, which is made if there is none.

    Parameters
    ----------
    servers
        Host names and IP addresses of the server; `ALWAYS_NAMED` are added.
    clients
        Names of clients; each gets a certificate and, if it has none yet, a SuperNode key.
    days
        How long the certificates are valid. A new CA is for `CA_DAYS`.

    Returns
    -------
    The files written.

    Raises
    ------
    UserError
        When a name is not allowed or taken, or a file cannot be read or written. Nothing is written then.
    """
    if not servers and not clients:
        raise UserError("nothing to write: say --server NAME, --client NAME or --revoke NAME")
    if not 1 <= days <= CA_DAYS:
        raise UserError(f"--days {days}: must be 1 to {CA_DAYS}")
    for option, names in (("server", servers), ("client", clients)):
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"--{option} {name} is said twice")
    for name in clients:
        check_client_name(name)
    server_names = list(dict.fromkeys([*map(_server_name, servers), *ALWAYS_NAMED]))
    for stem in ["server"] * bool(servers) + list(clients):
        _check_free(directory, stem)

    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    begin, end = now - CLOCK_SKEW, now + datetime.timedelta(days=days)
    files: dict[str, bytes] = {}
    if (directory / "ca.key").exists():
        authority = Authority.read(directory)
        if end > authority.certificate.not_valid_after_utc:
            left = (authority.certificate.not_valid_after_utc - now).days
            raise UserError(f"--days {days}: the CA in {directory} is valid for {left} days more")
    elif (directory / "ca.crt").exists():
        raise UserError(
            f"{directory} has a ca.crt but no ca.key: put the key there to add to this CA, "
            "or name a new directory for a new CA"
        )
    else:
        authority = Authority.make(begin, now + datetime.timedelta(days=CA_DAYS))
        files |= pair("ca", authority.certificate, authority.key)
    if servers:
        files |= pair("server", *authority.server(server_names, begin, end))
    for name in clients:
        files |= pair(name, *authority.client(name, begin, end))
        if not (directory / f"{name}.supernode").exists():
            files |= _supernode(name)
    _write(directory, files)
    return [directory / file for file in files]


def revoke(directory: Path, name: str) -> bool:
    """Add a client's certificate to the directory's ``revoked.txt``; False if it is there already.

    Raises
    ------
    UserError
        When there is no such certificate, or a file cannot be read or written.
    """
    check_client_name(name)
    mark = fingerprint(read_certificates(directory / f"{name}.crt")[0])
    if mark in revoked(directory):
        return False
    path = directory / REVOKED
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        today = datetime.datetime.now(datetime.UTC).date()
        lines = [*old.splitlines(), f"{mark}  # {name}, revoked on {today}"]
        unfinished = directory / f".{REVOKED}.{secrets.token_hex(4)}"
        unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
        unfinished.replace(path)  # a server that reads it now sees the old one or the new one
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    return True


def check_client_name(name: str) -> None:
    """Raise UserError unless the name can be a common name and a file name, and is not taken by us."""
    if not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable() or re.search(r"[/\\]", name):
        raise UserError(
            f"client name {name[:200]!r}: must have 1 to {MAX_NAME_LENGTH} characters, all printable, "
            "no slash and no backslash"
        )
    if name.casefold() in ("ca", "server"):
        raise UserError(f"client name {name!r}: taken by the files of the {name.casefold()}; choose another")


def pair(stem: str, certificate: x509.Certificate, key: _Key) -> dict[str, bytes]:
    """Return the contents of ``<stem>.crt`` and ``<stem>.key``."""
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {f"{stem}.crt": certificate.public_bytes(serialization.Encoding.PEM), f"{stem}.key": private}


def _supernode(name: str) -> dict[str, bytes]:
    """Return a SuperNode's key as Flower takes it: EC P-384 in OpenSSH's form."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return {f"{name}.supernode": private, f"{name}.supernode.pub": public + f" {name}\n".encode()}


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: _Key,
    issuer_key: _Key,
    begin: datetime.datetime,
    end: datetime.datetime,
    *,
    ca: bool,
) -> x509.CertificateBuilder:
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _server_name(name: str) -> str:
    """Return the name as certificates have it; refuse what is neither a host name nor an IP address."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    *domain, last = name.split(".")
    labels = [*domain[domain[:1] == ["*"] :], last]
    if (
        len(name) > 253
        or last.isdigit()
        or not all(re.fullmatch(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)", label) for label in labels)
    ):
        raise UserError(
            f"--server {name!r}: expected a host name or an IP address, without port, a name with other "
            "letters than a to z in its xn-- form"
        )
    return name.lower()


def _check_free(directory: Path, stem: str) -> None:
    certificate = directory / f"{stem}.crt"
    if certificate.exists() or certificate.with_name(f"{stem}.key").exists():
        raise UserError(
            f"{directory} has {stem}.crt or {stem}.key already: to renew them, move both away first"
        )


def _write(directory: Path, files: dict[str, bytes]) -> None:
    """Write new files, all or none; whatever is private for the owner only."""
    written: list[Path] = []
    path = directory
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, content in files.items():
            path = directory / file
            mode = 0o644 if path.suffix in (".crt", ".pub") else 0o600
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as opened:
                written.append(path)
                opened.write(content)
    except OSError as error:
        for one in written:
            one.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from None
