"""`localgd doctor`: what is well, what is not, and what to do; never a traceback."""

import datetime
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localgd import pki
from localgd.doctor import Finding, examine, installation
from tests.e2e.data import blobs, write_csv, write_federation, write_npz
from tests.processes import ROOT, Finished, Processes, free_port

Command = Callable[..., Finished]


@pytest.fixture
def doctor(
    localgd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, str]]:
    """Run the command; return each line's state and text under what it is about, and the exit code."""
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flower"))
    for name in installation.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> dict[str, str]:
        finished = localgd("doctor", *arguments)
        assert "Traceback" not in finished.stdout + finished.stderr
        assert finished.stderr == ""
        *lines, last = finished.stdout.splitlines()
        told: dict[str, str] = {"code": str(finished.code), "verdict": last}
        for line in lines:
            state, what, text = re.fullmatch(r"(\w+) +(.{18,}?)  ?(\S.*)", line).groups()  # type: ignore[union-attr]
            what = what.strip()
            told[what] = "; ".join(filter(None, (told.get(what), f"{state}: {text}")))
        assert finished.code == any(line.startswith("problem") for line in lines)
        return told

    return run


def test_everything_is_well(doctor: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    data = write_federation(tmp_path / "data", blobs(0), blobs(1))
    (tmp_path / "config.toml").write_text(f'dataset = "file"\ndata-dir = "{data}"\nreference = "none"\n')
    pki.write(tmp_path / "pki", ["fl.example.org"], ["north"])
    (tmp_path / "pki" / "ca.key").unlink()
    told = doctor(
        "config.toml", "--tls", "pki", "--data", "data/client-0.npz", "--address", f"127.0.0.1:{free_port()}"
    )
    assert (told["code"], told["verdict"]) == ("0", "nothing to mend")
    assert re.match(r"ok: flwr 1\.3\d\.\d+, numpy .* as needed", told["packages"])
    assert told["data"] == "ok: file: 2 clients with 12 to 12 rows, 3 feature columns"
    assert told["client-0.npz"] == "ok: 12 rows, 3 feature columns; labels: 0 6, 1 6"
    assert "ok: for fl.example.org, localhost, 127.0.0.1" in told["server.crt"]
    assert "a client, north, valid until" in told["north.crt"]


def test_what_is_wrong_with_certificates(
    doctor: Callable[..., dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(pki, "CLOCK_SKEW", datetime.timedelta(days=40))
        pki.write(tmp_path / "pki", ["fl.example.org"], ["north", "south"], days=10)
    pki.write(tmp_path / "other", ["fl.example.org"], ["east"])
    pki.write(tmp_path / "pki", clients=["west"])
    pki.revoke(tmp_path / "pki", "west")
    for name in ("south.key", "east.crt"):
        (tmp_path / "pki" / name).write_bytes(
            (tmp_path / "other" / name.replace("south", "east")).read_bytes()
        )
    (tmp_path / "pki" / "north.key").chmod(0o644)
    (tmp_path / "pki" / "garbled.crt").write_text("no certificate")
    told = doctor("--tls", "pki", "--address", f"127.0.0.1:{free_port()}")
    assert told["code"] == "1"
    assert re.search("warning: .*9 days from now", told["server.crt"])
    assert re.search("problem: .*south.key does not belong to south.crt", told["south.crt"])
    assert re.search("problem: cannot read .*east.key", told["east.crt"])
    assert re.search("problem: .*PEM", told["garbled.crt"])
    assert "chmod 600" in told["north.key"]
    assert "keep it where neither" in told["ca.key"]
    assert told["revoked.txt"] == "ok: 1 revoked, here: west"
    named = doctor("--tls", "pki", "--address", f"127.0.0.2:{free_port()}")
    assert re.search(r"problem: for fl\.example\.org, .*not for 127\.0\.0\.2", named["server.crt"])
    assert doctor("--tls", "nowhere")["--tls nowhere"] == "problem: --tls nowhere is no directory"


def test_what_is_wrong_with_data(doctor: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    X = blobs(0).X
    X[:, 2] = 1.0
    X[5] = X[2]
    write_npz(tmp_path / "odd.npz", replace(blobs(0), X=X))
    write_npz(tmp_path / "one.npz", blobs(0, labels=("yes",)))
    write_csv(tmp_path / "table.csv", blobs(0))
    write_npz(tmp_path / "numbers.npz", replace(blobs(0, rows=30), y=np.arange(30).astype(str)))
    files = ("odd.npz", "one.npz", "table.csv", "numbers.npz", "none.npz")
    told = doctor(*(part for name in files for part in ("--data", name)), "--label", "diagnosis")
    assert "warning: 1 of 3 columns are constant" in told["odd.npz"]
    assert "warning: rows 3 and 6 differ in nothing but the label" in told["odd.npz"]
    assert "other clients must have others" in told["one.npz"]
    assert "problem: table.csv: no label column 'diagnosis'" in told["table.csv"]
    assert "numbers to predict" in told["numbers.npz"]
    assert told["none.npz"] == "problem: none.npz: no such file"
    assert (told["code"], told["verdict"]) == ("1", "2 problems, 3 warnings")


@pytest.mark.parametrize(
    ("text", "what", "said"),
    [
        ("clinets = 3", "config.toml", "unknown key 'clinets'"),
        ('dataset = "file"\ndata-dir = "nowhere"', "config.toml", "data-dir = 'nowhere' is not a directory"),
        ('dataset = "file"\ntest = "none.npz"', "config.toml", "none.npz: no such file"),
        ('dataset = "file"\ninit = "none.npz"', "config.toml", "init = 'none.npz' cannot be read"),
        ('dataset = "file"\nout = "config.toml"', "config.toml", "out = 'config.toml'"),
        ('dataset = "tisue"', "config.toml", "did you mean 'tissue'"),
    ],
)
def test_what_is_wrong_with_a_configuration(
    text: str, what: str, said: str, doctor: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(text)
    told = doctor("config.toml")
    assert said in told[what]
    assert told["code"] == "1"


def test_addresses(doctor: Callable[..., dict[str, str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "ok: taken: something listens here" in doctor("--address", address)[f"address {address}"]
    for address, said in (
        ("127.0.0.1", "HOST:PORT"),
        ("bad..name:8080", "the host is not known"),
    ):
        assert f"problem: {said}" in re.sub(
            "address '.*': expected ", "", doctor("--address", address)[f"address {address}"]
        )


def test_flower_s_connections(doctor: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    (tmp_path / "flower").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as link:
        (tmp_path / "flower" / "config.toml").write_text(
            '[superlink]\ndefault = "gone"\n[superlink.local]\naddress = ":local:"\n'
            f'[superlink.here]\naddress = "127.0.0.1:{link.getsockname()[1]}"\ninsecure = true\n'
            '[superlink.typo]\naddress = "127.0.0.1"\n'
            f'[superlink.away]\naddress = "127.0.0.1:{free_port()}"\ninsecure = true\n'
        )
        told = doctor()
    assert "the default connection 'gone' is not in it" in told["flower"]
    assert told["connection here"].startswith("ok: something listens")
    assert "expected HOST:PORT" in told["connection typo"]
    assert "warning: no SuperLink answers" in told["connection away"]
    (tmp_path / "flower" / "config.toml").write_text("[superlink")
    assert "problem" in doctor()["flower"]


def test_packages_that_are_missing_or_of_another_version() -> None:
    needed = [
        "numpy<1",
        "nothing-like-it>=2",
        "rich>=1",
        'nor-this>=1; extra == "fast"',
        'numpy>9; extra == "torch"',
    ]
    found = {(finding.state, finding.what): finding.text for finding in installation.packages(needed)}
    assert found["absent", "extra fast"].endswith("needs nor-this: pip install 'localgd[fast]'")
    assert "but >9 is needed" in found["problem", "extra torch"]
    faults = [f.text for f in installation.packages(needed) if f.what == "packages"]
    assert re.search("numpy .* is installed, but <1 is needed: pip install 'numpy<1'", faults[0])
    assert faults[1] == "nothing-like-it is not installed: pip install 'nothing-like-it>=2'"


def test_packages_that_are_broken(processes: Processes, tmp_path: Path) -> None:
    """What needs them cannot be examined; everything else still is."""
    broken = "import sys; sys.modules['flwr'] = sys.modules['grpc'] = None"
    environment = {"FLWR_HOME": str(tmp_path)}
    finished = processes.localgd("doctor", before=broken, environment=environment).wait()
    assert (finished.code, finished.stderr) == (1, "")
    assert re.search("problem +flower +cannot be examined: .*flwr", finished.stdout)
    assert "ok      threads" in finished.stdout


def test_threads_that_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    [finding] = installation.threads()
    assert finding.state == "warning"
    assert "unset OPENBLAS_NUM_THREADS" in finding.text


def test_a_check_that_falls_over_is_a_finding() -> None:
    def falls():
        yield Finding("ok", "first", "fine")
        raise RuntimeError("two\nlines")

    told = list(examine([("second", falls)]))
    assert told == [
        Finding("ok", "first", "fine"),
        Finding("problem", "second", "cannot be examined: RuntimeError: two lines"),
    ]


def test_every_extra_has_a_purpose() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) - set(installation.BUNDLES) <= set(installation.PURPOSES)
