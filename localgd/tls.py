"""Credentials for mutual TLS, read from a directory of PEM files and checked: gRPC would fail obscurely."""

import datetime
import hashlib
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import UserError

REVOKED = "revoked.txt"


@dataclass(frozen=True)
class ClientTls:
    """What a client shows and trusts: for gRPC, and for the standard library to ask why gRPC failed."""

    name: str
    credentials: grpc.ChannelCredentials
    context: ssl.SSLContext


def server_credentials(directory: Path) -> grpc.ServerCredentials:
    """Read ``ca.crt``, ``server.crt`` and ``server.key``; clients must show a certificate of that CA.

    Raises
    ------
    UserError
        When a file is missing, garbled, out of date, or does not go with the others.
    """
    ca, certificate, key = _read_pair(directory, "server", ExtendedKeyUsageOID.SERVER_AUTH)
    revoked(directory)  # a mistake in it shows now
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=ca, require_client_auth=True)


def client_tls(directory: Path, name: str | None) -> ClientTls:
    """Read ``ca.crt`` and a client's ``<name>.crt`` and ``<name>.key``; without a name the only such pair.

    The client's name is then the one in the certificate, since that is what the server goes by.

    Raises
    ------
    UserError
        When a file is missing, garbled, out of date, or does not go with the others, or it is not clear which
        client this is.
    """
    if name is None:
        found = sorted(path.stem for path in directory.glob("*.crt") if path.stem not in ("ca", "server"))
        if len(found) != 1:
            if not found:
                raise UserError(
                    f"--tls {directory} has no client certificate: localgd pki --client NAME makes one"
                )
            told = f"has the certificates of {', '.join(found)}"
            raise UserError(f"--tls {directory} {told}; say which client this is with --name")
        name = found[0]
    ca, certificate, key = _read_pair(directory, name, ExtendedKeyUsageOID.CLIENT_AUTH)
    common_names = _common_names(x509.load_pem_x509_certificate(certificate))
    if not common_names:
        raise UserError(f"{directory / name}.crt has no common name: the server would not know this client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])  # as gRPC does
    try:
        context.load_verify_locations(directory / "ca.crt")
        context.load_cert_chain(directory / f"{name}.crt", directory / f"{name}.key")
    except (OSError, ssl.SSLError) as error:
        raise UserError(f"--tls {directory}: cannot use {name}.crt and {name}.key: {error}") from None
    credentials = grpc.ssl_channel_credentials(ca, private_key=key, certificate_chain=certificate)
    return ClientTls(common_names[0], credentials, context)


def revoked(directory: Path) -> frozenset[str]:
    """Read the SHA-256 fingerprints in ``revoked.txt``, one a line; none if there is no such file.

    Raises
    ------
    UserError
        When a line is no fingerprint: whom it means is unknown, so nobody can be let in.
    """
    path, found = directory / REVOKED, set()
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].replace(":", "").strip().lower()
        if entry and not re.fullmatch(r"[0-9a-f]{64}", entry):
            raise UserError(
                f"{path}, line {number}: expected the SHA-256 fingerprint of a certificate (64 hexadecimal "
                "digits), then # and a comment"
            )
        found.add(entry)
    return frozenset(found - {""})


def why_revoked(directory: Path, certificate: bytes) -> str | None:
    """Say so if a client's PEM certificate is on the list, as it is at this moment."""
    der = ssl.PEM_cert_to_DER_cert(certificate.decode())
    return "its certificate is revoked" if _sha256(der) in revoked(directory) else None


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the certificate in hexadecimal digits."""
    return _sha256(certificate.public_bytes(serialization.Encoding.DER))


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Read the one or more certificates of a PEM file."""
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError:
        raise UserError(f"{path} is no certificate in PEM form") from None


def read_key(path: Path) -> PrivateKeyTypes:
    """Read a private key that needs no passphrase."""
    try:
        return serialization.load_pem_private_key(_read(path), password=None)
    except TypeError:
        raise UserError(f"{path} is protected by a passphrase: localgd needs one without") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UserError(f"{path} is no private key in PEM form") from None


def check_pair(path: Path, certificate: x509.Certificate, key: PrivateKeyTypes) -> None:
    """Raise UserError unless the key is that of the certificate in `path`."""
    if certificate.public_key() != key.public_key():
        raise UserError(
            f"{path.with_suffix('.key')} does not belong to {path.name}: it is the key of another certificate"
        )


def check_dates(path: Path, certificate: x509.Certificate) -> None:
    """Raise UserError unless the certificate in `path` is valid by this machine's clock."""
    now = datetime.datetime.now(datetime.UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        raise UserError(f"{path} expired on {_utc(end)}: renew it with localgd pki")
    if now < begin:
        raise UserError(
            f"{path} is not valid before {_utc(begin)}, and the clock of this machine says {_utc(now)}: "
            "is it right?"
        )


def _read_pair(directory: Path, stem: str, usage: x509.ObjectIdentifier) -> tuple[bytes, bytes, bytes]:
    """Return the bytes of ``ca.crt``, ``<stem>.crt`` and ``<stem>.key``, which go together."""
    if not directory.is_dir():
        raise UserError(f"--tls {directory} is no directory")
    ca_path, path, key_path = (directory / file for file in ("ca.crt", f"{stem}.crt", f"{stem}.key"))
    authorities, chain, key = read_certificates(ca_path), read_certificates(path), read_key(key_path)
    for ca in authorities:
        check_dates(ca_path, ca)
        if not _is_ca(ca):
            raise UserError(f"{ca_path} is not the certificate of a CA, but of {_who(ca)}")
    for certificate in chain:
        check_dates(path, certificate)
    check_pair(path, chain[0], key)
    if not _is_for(chain[0], usage):
        asked = "server" if usage == ExtendedKeyUsageOID.SERVER_AUTH else "client"
        raise UserError(f"{path} is not the certificate of a {asked}")
    if not _issued(chain, authorities):
        issuer = ", ".join(_common_names(chain[-1], issuer=True)) or "without a name"
        raise UserError(
            f"{path} was not issued by the CA in ca.crt ({', '.join(map(_who, authorities))}), "
            f"but by another one ({issuer})"
        )
    return _read(ca_path), _read(path), _read(key_path)


def _issued(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> bool:
    return all(_issued_by(*two) for two in pairwise(chain)) and any(
        _issued_by(chain[-1], ca) or chain[-1] == ca for ca in authorities
    )


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _is_for(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> bool:
    try:
        return usage in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    except ValueError:
        return False


def _who(certificate: x509.Certificate) -> str:
    return ", ".join(_common_names(certificate)) or "one without a name"


def _common_names(certificate: x509.Certificate, issuer: bool = False) -> list[str]:
    name = certificate.issuer if issuer else certificate.subject
    return [str(attribute.value) for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _utc(time: datetime.datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
