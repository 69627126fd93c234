"""Why a server and this client cannot talk: gRPC tells little, so the standard library's TLS is asked."""

import socket
import ssl
import time

from common.stream import split_address

SECONDS = 5.0  # for one connection
PAUSE = 0.5  # before a server that hung up is asked again: it may just be ending
EXPIRED, NOT_YET_VALID, WRONG_HOST, WRONG_ADDRESS = 10, 9, 62, 64  # OpenSSL's X509_V_ERR_…
NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")


def what_is_wrong(address: str, context: ssl.SSLContext | None) -> str | None:
    """Return what keeps the server at HOST:PORT and this client apart for good, or None if nothing is seen.

    Parameters
    ----------
    context
        The certificates that gRPC failed with, or None if it was to do without.
    """
    try:
        return _what_is_wrong(address, context)
    except OSError:  # ssl.SSLError is one too
        return None


def _what_is_wrong(address: str, context: ssl.SSLContext | None) -> str | None:
    if context is None:
        _shake(address, _trusting())
        return "it speaks TLS: join with --tls DIR"
    try:
        if _hangs_up(address, context):
            time.sleep(PAUSE)
            if _hangs_up(address, context):
                return "it refuses this client's certificate; the server's log says why"
    except ssl.SSLCertVerificationError as error:
        return _what_is_wrong_with_its_certificate(address, error)
    except ssl.SSLError as error:
        if error.reason in NO_TLS:
            return "it speaks no TLS: start it with --tls DIR, or join with --insecure"
        raise
    return None


def _hangs_up(address: str, context: ssl.SSLContext) -> bool:
    """Whether the server, to which nothing is wrong, ends the connection once it has our certificate."""
    return _shake(address, context)[1] == b""


def _shake(address: str, context: ssl.SSLContext) -> tuple[bytes, bytes]:
    """Return the server's certificate and the first that it says."""
    host, port = split_address(address)
    host = host.strip("[]")
    with (
        socket.create_connection((host, port), SECONDS) as bare,
        context.wrap_socket(bare, server_hostname=host) as connection,
    ):
        certificate = connection.getpeercert(binary_form=True) or b""
        if context.verify_mode == ssl.CERT_NONE:
            return certificate, b""
        try:
            return certificate, connection.recv(1)
        except ConnectionResetError:
            return certificate, b""


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _what_is_wrong_with_its_certificate(address: str, error: ssl.SSLCertVerificationError) -> str:
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(_shake(address, _trusting())[0])
    now = f"the clock of this machine says {_utc(time.time())}"
    if error.verify_code == EXPIRED:
        return f"its certificate expired on {_utc(certificate.not_valid_after_utc.timestamp())}; {now}"
    if error.verify_code == NOT_YET_VALID:
        begin = certificate.not_valid_before_utc.timestamp()
        return f"its certificate is not valid before {_utc(begin)}; {now}: is it right?"
    if error.verify_code in (WRONG_HOST, WRONG_ADDRESS):
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return "its certificate names no host: it needs a subjectAltName"
        known = ", ".join(str(name.value) for name in names)
        return f"its certificate is for {known}: join it by such a name, or add this one with localgd pki"
    return f"its certificate is not one of the CA in this client's ca.crt ({error.verify_message})"


def _utc(timestamp: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(timestamp))
