"""Who is not let in, and what it and the server are told: real clients, real TLS, over 127.0.0.1."""

import datetime
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest

from common import stream as words
from localgd import pki
from localgd.cli.federation import _check_security
from localgd.tls import client_tls
from server.grids.stream import StreamGrid
from tests.processes import Finished, Process, Processes, free_port

pytestmark = pytest.mark.xdist_group("trust")  # they share a server

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
LONG_AGO, YESTERDAY, TOMORROW, NEXT_WEEK = (NOW + timedelta(days=days) for days in (-9, -1, 1, 7))
WAIT = 30.0


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with Processes(tmp_path_factory.mktemp("trust")) as processes:
        yield processes


@pytest.fixture(scope="module")
def authority() -> pki.Authority:
    return pki.Authority.make(LONG_AGO, NEXT_WEEK)


@pytest.fixture(scope="module")
def stranger() -> pki.Authority:
    return pki.Authority.make(LONG_AGO, NEXT_WEEK)


Shelf = Callable[..., Path]


@pytest.fixture(scope="module")
def shelf(processes: Processes, authority: pki.Authority) -> Shelf:
    """Makes a directory for --tls of a client: the CA it trusts and, perhaps, its certificate and key."""

    def make(name: str, of: pki.Authority | None, *, trusts: pki.Authority = authority, end=TOMORROW) -> Path:
        directory = processes.folder / f"tls-{len(list(processes.folder.iterdir()))}"
        directory.mkdir()
        files = pki.pair("ca", trusts.certificate, trusts.key)
        del files["ca.key"]
        if of is not None:
            files |= pki.pair(name, *of.client(name, LONG_AGO, end))
        for file, content in files.items():
            (directory / file).write_bytes(content)
        return directory

    return make


@pytest.fixture(scope="module")
def data(processes: Processes) -> Path:
    """A client's file."""
    rows = np.random.default_rng(0).normal(size=(20, 50))
    classes = np.where(rows[:, 0] > 0, 1, -1)
    rows[:, 0] += classes
    np.savez(processes.folder / "data.npz", X=rows, y=classes)
    return processes.folder / "data.npz"


@pytest.fixture(scope="module")
def join(processes: Processes, data: Path) -> Callable[..., Process]:
    def start(address: str, tls: Path | None, *more: object) -> Process:
        security = ["--tls", tls] if tls else ["--insecure"]
        return processes.localgd("join", address, "--data", data, "--retry-for", 20, *security, *more)

    return start


def credentials(
    server: pki.Authority, clients: pki.Authority, names: list[str], end: datetime.datetime = TOMORROW
) -> grpc.ServerCredentials:
    """A server's, without the checks that `localgd serve` makes."""
    files = pki.pair("server", *server.server(names, LONG_AGO, end))
    root = pki.pair("ca", clients.certificate, clients.key)["ca.crt"]
    return grpc.ssl_server_credentials([(files["server.key"], files["server.crt"])], root, True)


def config(folder: Path, clients: int) -> Path:
    path = folder / f"config-{clients}.toml"
    path.write_text(f"clients = {clients}\nmin-clients = {clients}\nnum-server-rounds = 3\n")
    return path


def refused(done: Finished) -> str:
    """The one line that a refused client leaves."""
    assert done.code == 2, done
    [line] = done.stderr.splitlines()
    assert line.startswith("localgd: ")
    return line.removeprefix("localgd: ")


def test_a_server_lets_in_its_own_and_tells_the_others_why_not(
    processes: Processes,
    authority: pki.Authority,
    stranger: pki.Authority,
    shelf: Shelf,
    join,
    tmp_path: Path,
) -> None:
    made = tmp_path / "pki"
    for file, content in pki.pair("ca", authority.certificate, authority.key).items():
        made.mkdir(exist_ok=True)
        (made / file).write_bytes(content)
    pki.write(made, ["fl.example.org"], ["klinik-ä", "b", "revoked"], days=1)
    address = f"127.0.0.1:{free_port()}"
    arguments = ("--tls", made, "--address", address, "--out", tmp_path / "run")
    server = processes.localgd("serve", config(tmp_path, 2), *arguments)
    first = join(address, made, "--name", "klinik-ä")
    server.wait_for("1 of 2 are here")
    pki.revoke(made, "revoked")  # while the server runs

    expired = shelf("b", authority, end=YESTERDAY)
    attempts = {
        join(address, None): "server {}: it speaks TLS: join with --tls DIR",
        join(address, shelf("b", stranger, trusts=stranger)): (
            "server {}: its certificate is not one of the CA in this client's ca.crt (unable to get local "
            "issuer certificate)"
        ),
        join(address, made, "--name", "revoked"): "server {}: client 'revoked': its certificate is revoked",
        join(address, expired): (
            f"{expired}/b.crt expired on {YESTERDAY:%Y-%m-%d %H:%M} UTC: renew it with localgd pki"
        ),
        join(address, bare := shelf("b", None)): (
            f"--tls {bare} has no client certificate: localgd pki --client NAME makes one"
        ),
    }
    for process, text in attempts.items():
        assert refused(process.wait()) == text.format(address)

    server_as_client = shelf("b", None)
    for kind in ("crt", "key"):
        shutil.copy(made / f"server.{kind}", server_as_client / f"b.{kind}")
    for directory in (shelf("b", None), shelf("b", stranger), expired, server_as_client):
        assert dial(address, directory) == grpc.StatusCode.UNAVAILABLE  # without the checks of localgd join

    second = join(address, made, "--name", "b")
    assert [process.wait().code for process in (first, second, server)] == [0, 0, 0]
    log = server.stdout()
    for line in (
        "refused a connection: it speaks no TLS",
        "refused a connection: it shows no client certificate",
        "refused a connection: its certificate is of another CA",
        "refused a connection: its certificate has expired",
        "refused a connection: its certificate is not the certificate of a client",
    ):
        assert line in log.splitlines()
    assert ": client 'revoked': its certificate is revoked\n" in log
    assert server.stderr() == ""


def test_a_name_that_is_taken_stays_taken(authority: pki.Authority, shelf: Shelf, join) -> None:
    own = shelf("klinik-ä", authority)
    secured = credentials(authority, authority, ["127.0.0.1"])
    with StreamGrid("127.0.0.1:0", credentials=secured, keepalive=(0.5, 0.5)) as grid:
        first = join(grid.address, own)
        first.wait_for("joined")
        assert refused(join(grid.address, own).wait()) == (
            f"server {grid.address}: a client named 'klinik-ä' is already connected: choose another name"
        )
    assert first.wait().code == 0


def dial(address: str, directory: Path) -> grpc.StatusCode:
    """How a bare gRPC client with these certificates fares."""
    read = {kind: (directory / f"b.{kind}") for kind in ("key", "crt")}
    own = {kind: path.read_bytes() if path.exists() else None for kind, path in read.items()}
    shown = grpc.ssl_channel_credentials((directory / "ca.crt").read_bytes(), own["key"], own["crt"])
    with grpc.secure_channel(address, shown) as channel:
        call = channel.stream_stream(f"/{words.SERVICE}/{words.METHOD}")(iter([]), timeout=WAIT)
        return call.code()


def test_a_client_does_not_join_a_server_that_is_not_the_one(
    authority: pki.Authority, stranger: pki.Authority, shelf: Shelf, join: Callable[..., Process]
) -> None:
    own = shelf("b", authority)
    wrong_host = credentials(authority, authority, ["fl.example.org", "10.1.2.3"])
    expired = credentials(authority, authority, ["127.0.0.1"], YESTERDAY)
    others = credentials(authority, stranger, ["127.0.0.1"])
    client_as_server = pki.pair("x", *authority.client("127.0.0.1", LONG_AGO, TOMORROW))
    pretender = grpc.ssl_server_credentials([(client_as_server["x.key"], client_as_server["x.crt"])])
    with (
        StreamGrid("127.0.0.1:0", credentials=wrong_host) as wrong_host_grid,
        StreamGrid("127.0.0.1:0", credentials=expired) as expired_grid,
        StreamGrid("127.0.0.1:0", credentials=others) as others_grid,
        StreamGrid("127.0.0.1:0", credentials=pretender) as pretender_grid,
        StreamGrid("127.0.0.1:0", credentials=None) as plain_grid,
    ):
        attempts = {
            wrong_host_grid: (
                "its certificate is for fl.example.org, 10.1.2.3: join it by such a name, or add this one "
                "with localgd pki"
            ),
            expired_grid: f"its certificate expired on {YESTERDAY:%Y-%m-%d %H:%M} UTC; the clock of this",
            others_grid: "it refuses this client's certificate; the server's log says why",
            pretender_grid: "its certificate is not one of the CA in this client's ca.crt (unsuitable",
            plain_grid: "it speaks no TLS: start it with --tls DIR, or join with --insecure",
        }
        started = {grid: join(grid.address, own) for grid in attempts}
        for grid, text in attempts.items():
            assert refused(started[grid].wait()).startswith(f"server {grid.address}: {text}")
            assert grid.names() == {}


def test_a_message_over_the_size_limit_ends_the_run_and_says_so(
    processes: Processes,
    authority: pki.Authority,
    shelf: Shelf,
    join: Callable[..., Process],
    tmp_path: Path,
) -> None:
    made = shelf("b", authority)
    for file, content in pki.pair("server", *authority.server(["127.0.0.1"], LONG_AGO, TOMORROW)).items():
        (made / file).write_bytes(content)
    address = f"127.0.0.1:{free_port()}"
    arguments = ("--tls", made, "--address", address, "--out", tmp_path / "run")
    server = processes.localgd("serve", config(tmp_path, 1), *arguments, "-c", "max-message-bytes=1000")
    client = join(address, made)
    for done in (server.wait(), client.wait()):
        assert done.code == 1
        assert "bytes, max-message-bytes = 1000 of the server" in done.stderr.splitlines()[-1]


def test_a_client_that_sends_too_large_a_message_all_the_same_is_cut_off(
    authority: pki.Authority, shelf: Shelf
) -> None:
    own = client_tls(shelf("b", authority), "b")
    secured = credentials(authority, authority, ["127.0.0.1"])
    metadata = ((words.PROTOCOL_KEY, str(words.PROTOCOL_VERSION)), (words.SESSION_KEY, "s"))
    with (
        StreamGrid("127.0.0.1:0", credentials=secured, max_message_bytes=1000) as grid,
        grpc.secure_channel(grid.address, own.credentials) as channel,
    ):
        stream = channel.stream_stream(f"/{words.SERVICE}/{words.METHOD}")
        call = stream(iter([bytes(1001)]), metadata=metadata, timeout=WAIT)
        with pytest.raises(grpc.RpcError):
            list(call)
        assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_certificate_is_asked_for_even_if_the_credentials_do_not(authority: pki.Authority) -> None:
    files = pki.pair("server", *authority.server(["127.0.0.1"], LONG_AGO, TOMORROW))
    careless = grpc.ssl_server_credentials([(files["server.key"], files["server.crt"])])
    trusts = grpc.ssl_channel_credentials(pki.pair("ca", authority.certificate, authority.key)["ca.crt"])
    metadata = ((words.PROTOCOL_KEY, str(words.PROTOCOL_VERSION)), (words.NAME_KEY, b"b"))
    with (
        StreamGrid("127.0.0.1:0", credentials=careless) as grid,
        grpc.secure_channel(grid.address, trusts) as channel,
    ):
        stream = channel.stream_stream(f"/{words.SERVICE}/{words.METHOD}")
        call = stream(iter([]), metadata=metadata, timeout=WAIT)
        assert (call.code(), call.details()) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "a client needs a certificate",
        )


def test_nobody_comes_in_while_certificates_cannot_be_checked(authority: pki.Authority, shelf: Shelf) -> None:
    def check(certificate: bytes) -> str | None:
        raise OSError("no disk")

    own = client_tls(shelf("b", authority), "b")
    secured = credentials(authority, authority, ["127.0.0.1"])
    metadata = ((words.PROTOCOL_KEY, str(words.PROTOCOL_VERSION)),)
    with (
        StreamGrid("127.0.0.1:0", credentials=secured, why_refused=check) as grid,
        grpc.secure_channel(grid.address, own.credentials) as channel,
    ):
        stream = channel.stream_stream(f"/{words.SERVICE}/{words.METHOD}")
        assert stream(iter([]), metadata=metadata, timeout=WAIT).code() is grpc.StatusCode.UNAVAILABLE
        assert grid.names() == {}


def test_doing_without_tls_has_to_be_said_and_beyond_this_machine_twice(
    processes: Processes, data: Path, tmp_path: Path
) -> None:
    settings, join = config(tmp_path, 1), ("join", "0.0.0.0:9", "--data", data)
    either = "say either --tls DIR (certificates) or --insecure (no encryption: for trying out)"
    beyond = (
        "--insecure is for localhost and 127.0.0.1, not for {}: use --tls DIR (localgd pki makes one), or "
        "say --insecure-network too if whoever is on that network may join, read and change everything"
    )
    attempts = {
        ("serve", settings): either,
        join: either,
        ("serve", settings, "--insecure", "--address", "0.0.0.0:0"): beyond.format("0.0.0.0:0"),
        (*join, "--insecure"): beyond.format("0.0.0.0:9"),
        (*join, "--insecure-network", "--tls", tmp_path): (
            "--insecure-network goes with --insecure only, not with --tls"
        ),
        ("serve", settings, "--tls", tmp_path): f"cannot read {tmp_path}/ca.crt: No such file or directory",
    }
    started = {processes.localgd(*arguments): text for arguments, text in attempts.items()}
    for process, text in started.items():
        assert refused(process.wait()) == text
    _check_security(None, True, True, "0.0.0.0:9")
