"""Certificates: what is written, what is checked before gRPC sees it, and who is revoked."""

import datetime
import ipaddress
import os
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import UserError
from common.stream import is_loopback
from localgd import pki
from localgd.tls import client_tls, fingerprint, revoked, server_credentials, why_revoked

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
BEGIN, END = NOW - timedelta(hours=1), NOW + timedelta(days=1)
CLIENTS = ("clinic-0", "klinik-ä")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that no test changes."""
    directory = tmp_path_factory.mktemp("made") / "new" / "pki"
    pki.write(directory, ("fl.example.org", "10.1.2.3", "::1", "server_1"), CLIENTS, days=30)
    return directory


def put(directory: Path, stem: str, pair: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]) -> Path:
    """Write a certificate and its key over whatever is there."""
    directory.mkdir(exist_ok=True)
    for file, content in pki.pair(stem, *pair).items():
        (directory / file).write_bytes(content)
    return directory


def loaded(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.fixture
def authority(tmp_path: Path) -> pki.Authority:
    """A CA in tmp_path with a good server and a good client "c", for tests to spoil."""
    authority = pki.Authority.make(BEGIN, END)
    put(tmp_path, "ca", (authority.certificate, authority.key))
    put(tmp_path, "server", authority.server(["localhost"], BEGIN, END))
    put(tmp_path, "c", authority.client("c", BEGIN, END))
    return authority


def test_everything_is_in_one_directory_and_private_keys_are_their_owners(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    kinds = ("crt", "key", "supernode", "supernode.pub")
    expected = {"ca.crt", "ca.key", "server.crt", "server.key"}
    expected |= {f"{name}.{kind}" for name in CLIENTS for kind in kinds}
    assert {path.name for path in made.iterdir()} == expected
    for path in made.iterdir():
        private = path.suffix in (".key", ".supernode")
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == (0 if private else 0o044 & ~umask()), path
        assert (b"PRIVATE KEY" in path.read_bytes()) == private


def umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_the_chains_verify_by_the_rules_of_the_web(made: Path) -> None:
    store = verification.Store([loaded(made / "ca.crt")])
    builder = verification.PolicyBuilder().store(store)
    for name in ("fl.example.org", "localhost"):
        builder.build_server_verifier(x509.DNSName(name)).verify(loaded(made / "server.crt"), [])
    for address in ("10.1.2.3", "::1", "127.0.0.1"):
        subject = x509.IPAddress(ipaddress.ip_address(address))
        builder.build_server_verifier(subject).verify(loaded(made / "server.crt"), [])
    with pytest.raises(verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("example.org")).verify(loaded(made / "server.crt"), [])

    nameless = verification.ExtensionPolicy.webpki_defaults_ee().may_be_present(
        x509.SubjectAlternativeName, verification.Criticality.AGNOSTIC, None
    )
    any_ca = verification.ExtensionPolicy.webpki_defaults_ca()
    client = builder.extension_policies(ca_policy=any_ca, ee_policy=nameless).build_client_verifier()
    for name in CLIENTS:
        client.verify(loaded(made / f"{name}.crt"), [])
    with pytest.raises(verification.VerificationError):
        client.verify(loaded(made / "server.crt"), [])


def test_what_the_certificates_say(made: Path) -> None:
    ca, server, client = (loaded(made / f"{stem}.crt") for stem in ("ca", "server", "klinik-ä"))
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fl.example.org", "server_1", "localhost"]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["10.1.2.3", "::1", "127.0.0.1"]
    assert client.subject.rfc4514_string() == "CN=klinik-ä"
    for certificate, usage in ((server, "SERVER_AUTH"), (client, "CLIENT_AUTH")):
        extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(extended) == [getattr(ExtendedKeyUsageOID, usage)]
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        key = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        assert issuer.key_identifier == key.digest
        assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(
            days=30, hours=1
        )
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(
        True, 0
    )
    assert ca.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_supernode_keys_are_as_flower_reads_them(made: Path) -> None:
    for name in CLIENTS:
        key = load_ssh_private_key((made / f"{name}.supernode").read_bytes(), None)
        public = load_ssh_public_key((made / f"{name}.supernode.pub").read_bytes())
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert isinstance(public.curve, ec.SECP384R1)
        assert key.public_key() == public


def test_clients_and_a_server_are_added_later_by_the_same_ca(tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    pki.write(directory, clients=["a"])
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    written = pki.write(directory, servers=["fl.example.org"], clients=["b"])
    assert sorted(path.name for path in written) == [
        *("b.crt", "b.key", "b.supernode", "b.supernode.pub", "server.crt", "server.key")
    ]
    assert {name: (directory / name).read_bytes() for name in before} == before
    server_credentials(directory)
    assert [client_tls(directory, name).name for name in ("a", "b")] == ["a", "b"]


def test_a_renewed_client_keeps_its_supernode_key(tmp_path: Path) -> None:
    pki.write(tmp_path, clients=["a"])
    for kind in ("crt", "key"):
        (tmp_path / f"a.{kind}").unlink()
    assert [path.name for path in pki.write(tmp_path, clients=["a"])] == ["a.crt", "a.key"]


@pytest.mark.parametrize(
    ("servers", "clients", "days", "text"),
    [
        ([], [], 1, "nothing to write: say --server NAME, --client NAME or --revoke NAME"),
        (["a"], [], 0, "--days 0: must be 1 to 3650"),
        (["a", "a"], [], 1, "--server a is said twice"),
        ([], ["a", "a"], 1, "--client a is said twice"),
        ([], [""], 1, "client name '': must have 1 to 64 characters, all printable"),
        ([], ["x" * 65], 1, "must have 1 to 64 characters"),
        ([], ["a\nb"], 1, r"client name 'a\nb'"),
        ([], ["../a"], 1, "no slash and no backslash"),
        ([], ["a\\b"], 1, "no slash and no backslash"),
        ([], ["ca"], 1, "client name 'ca': taken by the files of the ca"),
        ([], ["Server"], 1, "client name 'Server': taken by the files of the server"),
        (["fl.example.org:8080"], [], 1, "'fl.example.org:8080': expected a host name or an IP address"),
        (["10.0.0.256"], [], 1, "expected a host name"),
        (["klinik-ä"], [], 1, "in its xn-- form"),
        (["a..b"], [], 1, "expected a host name"),
        (["-a"], [], 1, "expected a host name"),
        ([""], [], 1, "expected a host name"),
    ],
)
def test_what_is_not_allowed_is_named_and_nothing_is_written(
    tmp_path: Path, servers: list[str], clients: list[str], days: int, text: str
) -> None:
    with pytest.raises(UserError) as error:
        pki.write(tmp_path / "pki", servers, clients, days)
    assert text in str(error.value)
    assert not (tmp_path / "pki").exists()


def test_names_that_are_taken_a_ca_without_key_and_a_ca_that_ends_first_are_refused(tmp_path: Path) -> None:
    pki.write(tmp_path, ["a"], ["a"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"has a\.crt or a\.key already: to renew them, move both away"):
        pki.write(tmp_path, clients=["b", "a"])
    with pytest.raises(UserError, match=r"has server\.crt or server\.key already"):
        pki.write(tmp_path, servers=["b"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "ca.key").unlink()
    with pytest.raises(UserError, match=r"has a ca\.crt but no ca\.key: put the key there"):
        pki.write(tmp_path, clients=["b"])
    authority = pki.Authority.make(BEGIN, NOW + timedelta(days=10, hours=12))
    put(tmp_path, "ca", (authority.certificate, authority.key))
    with pytest.raises(UserError, match=r"--days 365: the CA in .* is valid for 10 days more"):
        pki.write(tmp_path, clients=["b"])
    pki.write(tmp_path, clients=["b"], days=10)


def test_a_write_that_fails_leaves_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "b.supernode.pub").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*b\.supernode\.pub: File exists"):
        pki.write(tmp_path, clients=["a", "b"])
    assert [path.name for path in tmp_path.iterdir()] == ["b.supernode.pub"]


def test_a_revoked_certificate_is_told_from_its_successor(tmp_path: Path) -> None:
    pki.write(tmp_path, ["a"], CLIENTS)
    assert revoked(tmp_path) == frozenset()
    old = (tmp_path / "clinic-0.crt").read_bytes()
    assert why_revoked(tmp_path, old) is None
    assert pki.revoke(tmp_path, "clinic-0")
    assert not pki.revoke(tmp_path, "clinic-0")
    assert why_revoked(tmp_path, old) == "its certificate is revoked"
    assert why_revoked(tmp_path, (tmp_path / "klinik-ä.crt").read_bytes()) is None
    for kind in ("crt", "key"):
        (tmp_path / f"clinic-0.{kind}").unlink()
    pki.write(tmp_path, clients=["clinic-0"])
    assert why_revoked(tmp_path, (tmp_path / "clinic-0.crt").read_bytes()) is None
    assert pki.revoke(tmp_path, "klinik-ä")
    [first, second] = (tmp_path / "revoked.txt").read_text(encoding="utf-8").splitlines()
    assert "  # clinic-0, revoked on 20" in first
    assert second.startswith(fingerprint(loaded(tmp_path / "klinik-ä.crt")) + "  # klinik-ä")
    with pytest.raises(UserError, match=r"cannot read .*nobody\.crt: No such file"):
        pki.revoke(tmp_path, "nobody")
    with pytest.raises(UserError, match="taken by the files of the ca"):
        pki.revoke(tmp_path, "ca")


def test_the_list_of_the_revoked_may_be_written_by_hand_but_not_garbled(
    tmp_path: Path, authority: pki.Authority
) -> None:
    mark = fingerprint(authority.certificate)
    colons = ":".join(mark[k : k + 2] for k in range(0, 64, 2)).upper()
    (tmp_path / "revoked.txt").write_text(f"# by hand\n\n  {colons} # why")  # as openssl prints it
    assert revoked(tmp_path) == {mark}
    assert pki.revoke(tmp_path, "c")
    assert len(revoked(tmp_path)) == 2
    (tmp_path / "revoked.txt").write_text(f"{mark}\nc\n")
    for read in (revoked, server_credentials, lambda directory: why_revoked(directory, pem(authority))):
        with pytest.raises(UserError, match=r"revoked\.txt, line 2: expected the SHA-256 fingerprint"):
            read(tmp_path)


def pem(authority: pki.Authority) -> bytes:
    return authority.certificate.public_bytes(serialization.Encoding.PEM)


def _missing(directory: Path, authority: pki.Authority) -> None:
    (directory / "c.key").unlink()


def _garbled_certificate(directory: Path, authority: pki.Authority) -> None:
    (directory / "c.crt").write_bytes((directory / "c.crt").read_bytes()[:200])


def _garbled_key(directory: Path, authority: pki.Authority) -> None:
    (directory / "c.key").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def _garbled_ca(directory: Path, authority: pki.Authority) -> None:
    (directory / "ca.crt").write_bytes(b"")


def _passphrase(directory: Path, authority: pki.Authority) -> None:
    _, key = authority.client("c", BEGIN, END)
    encryption = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    (directory / "c.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))


def _mismatched(directory: Path, authority: pki.Authority) -> None:
    (directory / "c.key").write_bytes((directory / "server.key").read_bytes())


def _early(directory: Path, authority: pki.Authority) -> None:
    put(directory, "c", authority.client("c", NOW + timedelta(hours=1), END))


def _expired_ca(directory: Path, authority: pki.Authority) -> None:
    old = pki.Authority.make(NOW - timedelta(days=2), NOW - timedelta(days=1))
    put(directory, "ca", (old.certificate, old.key))


def _other_ca(directory: Path, authority: pki.Authority) -> None:
    put(directory, "c", pki.Authority.make(BEGIN, END).client("c", BEGIN, END))


def _no_ca(directory: Path, authority: pki.Authority) -> None:
    (directory / "ca.crt").write_bytes((directory / "server.crt").read_bytes())


def _servers(directory: Path, authority: pki.Authority) -> None:
    for kind in ("crt", "key"):
        (directory / f"c.{kind}").write_bytes((directory / f"server.{kind}").read_bytes())


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (_missing, r"cannot read {}/c.key: No such file or directory"),
        (_garbled_certificate, r"{}/c.crt is no certificate in PEM form"),
        (_garbled_key, r"{}/c.key is no private key in PEM form"),
        (_garbled_ca, r"{}/ca.crt is no certificate in PEM form"),
        (_passphrase, r"{}/c.key is protected by a passphrase: localgd needs one without"),
        (_mismatched, r"{}/c.key does not belong to c.crt: it is the key of another certificate"),
        (
            _early,
            r"{}/c.crt is not valid before 20.* UTC, and the clock of this machine says 20.* UTC",
        ),
        (_expired_ca, r"{}/ca.crt expired on 20.* UTC: renew it with localgd pki"),
        (
            _other_ca,
            r"{}/c.crt was not issued by the CA in ca.crt \(localgd CA \w+\), but by another one",
        ),
        (_no_ca, r"{}/ca.crt is not the certificate of a CA, but of server"),
        (_servers, r"{}/c.crt is not the certificate of a client"),
    ],
)
def test_files_that_do_not_do_are_named_before_grpc_sees_them(
    tmp_path: Path, authority: pki.Authority, spoil: Callable[[Path, pki.Authority], None], text: str
) -> None:
    assert client_tls(tmp_path, None).name == "c"
    spoil(tmp_path, authority)
    with pytest.raises(UserError, match=text.format(tmp_path)) as error:
        client_tls(tmp_path, "c")
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


def test_an_expired_certificate_says_since_when(tmp_path: Path) -> None:
    authority = pki.Authority.make(NOW - timedelta(days=3), END)
    put(tmp_path, "ca", (authority.certificate, authority.key))
    end = NOW - timedelta(days=1)
    put(tmp_path, "server", authority.server(["localhost"], NOW - timedelta(days=2), end))
    with pytest.raises(UserError, match=f"server.crt expired on {end:%Y-%m-%d %H:%M} UTC: renew it"):
        server_credentials(tmp_path)


def test_a_client_or_server_is_not_taken_for_the_other(tmp_path: Path, authority: pki.Authority) -> None:
    for kind in ("crt", "key"):
        (tmp_path / f"server.{kind}").write_bytes((tmp_path / f"c.{kind}").read_bytes())
    with pytest.raises(UserError, match=r"server\.crt is not the certificate of a server"):
        server_credentials(tmp_path)


def test_one_ca_of_a_bundle_or_a_chain_up_to_the_ca_will_do(tmp_path: Path, authority: pki.Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "middle")])
    root = authority.certificate.subject
    builder = pki._builder(name, root, key, authority.key, BEGIN, END, ca=True)
    middle = pki.Authority(builder.sign(authority.key, hashes.SHA256()), key)
    put(tmp_path, "c", middle.client("c", BEGIN, END))
    with pytest.raises(UserError, match=r"was not issued by the CA .* but by another one \(middle\)"):
        client_tls(tmp_path, "c")
    own = (tmp_path / "c.crt").read_bytes()
    (tmp_path / "c.crt").write_bytes(own + pem(middle))
    assert client_tls(tmp_path, "c").name == "c"
    (tmp_path / "c.crt").write_bytes(own)
    (tmp_path / "ca.crt").write_bytes(pem(authority) + pem(middle))
    assert client_tls(tmp_path, "c").name == "c"


def test_it_is_said_which_client_when_there_are_several_or_none(tmp_path: Path, made: Path) -> None:
    with pytest.raises(UserError, match=r"has the certificates of clinic-0, klinik-ä; say which .* --name"):
        client_tls(made, None)
    with pytest.raises(UserError, match="has no client certificate"):
        client_tls(tmp_path, None)
    with pytest.raises(UserError, match="nowhere is no directory"):
        client_tls(tmp_path / "nowhere", "c")


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.8.7:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example.org:1", False),
        ("dns:///127.0.0.1:1", False),
    ],
)
def test_loopback_is_what_is_surely_this_machine(address: str, loopback: bool) -> None:
    assert is_loopback(address) == loopback
