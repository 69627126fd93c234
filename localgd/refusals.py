"""Log the TLS handshakes that gRPC refuses: it tells nobody of them but its own log on stderr."""

import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator

VERBOSITY = "INFO"  # of gRPC, at which it tells
_TOLD = re.compile(r"Handshake failed with error SSL_ERROR_SSL: error:\w+:[^:]*:[^:]*:(\w+): (.*)")
_CHATTER = re.compile(r"[IWE]\d{4} \d\d:\d\d:\d\d")  # how a line of gRPC's begins
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no client certificate",
    "WRONG_VERSION_NUMBER": "it speaks no TLS",
    "HTTP_REQUEST": "it speaks no TLS",
    "unable to get local issuer certificate": "its certificate is of another CA",
    "certificate has expired": "its certificate has expired",
    "certificate is not yet valid": "its certificate is not valid yet by this machine's clock",
    "unsupported certificate purpose": "its certificate is not the certificate of a client",
}


@contextlib.contextmanager
def told(report: Callable[[str], None]) -> Iterator[None]:
    """Call `report` with one line for each handshake refused, while gRPC's verbosity is `VERBOSITY`.

    File descriptor 2 leads through this process meanwhile; Python's own `sys.stderr` does not.
    """
    inner, outer = os.pipe()
    with open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace") as stderr:
        pump = threading.Thread(target=_pump, args=(inner, stderr.write, report), daemon=True)
        pump.start()
        os.dup2(outer, 2)
        os.close(outer)
        before, sys.stderr = sys.stderr, stderr
        try:
            yield
        finally:
            sys.stderr = before
            os.dup2(stderr.fileno(), 2)  # ends the pipe, unless a child process holds it too
            pump.join(1)


def _pump(pipe: int, write: Callable[[str], object], report: Callable[[str], None]) -> None:
    with open(pipe, encoding="utf-8", errors="backslashreplace") as lines:
        for line in lines:
            found = _TOLD.search(line)
            if found:
                kind, detail = found.groups()
                cause = detail if kind == "CERTIFICATE_VERIFY_FAILED" else kind
                report(f"refused a connection: {_REASONS.get(cause, cause)}")
            elif not _CHATTER.match(line):
                write(line)
