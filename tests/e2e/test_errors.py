"""A person's mistakes: exit code 2, one line that says what and where, and nothing left behind."""

import contextlib
import datetime
import os
import re
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from flwr.app import Context, Message

from client import stream
from client.app import app as client_app
from client.dataset import node_config
from common.datafiles import Dataset
from common.errors import LocalGDError
from common.messages import TRAIN
from localgd import pki
from localgd.tls import why_revoked
from server.grids.stream import StreamGrid
from tests.e2e.data import RunFiles, blobs, write_csv, write_federation, write_npz
from tests.processes import ROOT, Finished, Processes, free_port

pytestmark = pytest.mark.xdist_group("e2e-errors")

Command = Callable[..., Finished]
RUN = ("run", "config.toml")
JOIN = ("join", "127.0.0.1:8080", "--insecure", "--data", "data/client-0.npz")
NO_TORCH = "import sys; sys.modules['torch'] = None"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good clients in data/, and a configuration that runs them.

    The path is whole, as a process reads every file only once.
    """
    data = write_federation(tmp_path / "data", blobs(0), blobs(1))
    (tmp_path / "config.toml").write_text(
        f'dataset = "file"\ndata-dir = "{data}"\nnum-server-rounds = 2\nreference = "none"\nout = "run"\n'
    )
    return tmp_path


PAGE = ROOT / "docs" / "reference" / "errors.md"
RENEW = "LOCALGD_RENEW=1 .venv/bin/pytest -n 0 tests/e2e/test_errors.py"
RENEWING = bool(os.environ.get("LOCALGD_RENEW"))
TOLD: dict[tuple[str, str, str, int], None] = {}
"""What was typed, what was given, what was said and the exit code, in all cases so far: the table."""


@pytest.fixture
def refused(localgd: Command, folder: Path) -> Callable[..., str]:
    """Run a command that must end with code 2, one line and no new file; return the line.

    ``given`` says in the table what is wrong where what was typed does not.
    """

    def run(*arguments: object, given: str = "") -> str:
        before = set(folder.rglob("*"))
        finished = localgd(*arguments)
        assert finished.code == 2, finished
        assert set(folder.rglob("*")) == before, "something was left behind"
        return remembered(folder, finished, *arguments, given=given)

    return run


@pytest.fixture
def failed(localgd: Command, folder: Path) -> Callable[..., str]:
    """Run a command that must end with code 1 and one line; return the line."""

    def run(*arguments: object, given: str = "") -> str:
        finished = localgd(*arguments)
        assert finished.code == 1, finished
        return remembered(folder, finished, *arguments, given=given)

    return run


def remembered(folder: Path, finished: Finished, *arguments: object, given: str) -> str:
    """Remember for the table what was typed, what was given and how it ended; return what was said."""
    typed, line = shlex.join(["localgd", *map(str, arguments)]), one_line(finished)
    case = plain(typed, folder), given, plain(line, folder), finished.code
    TOLD.setdefault(case)
    if not RENEWING:
        assert escaped(row(*case)) in PAGE.read_text(encoding="utf-8").splitlines(), f"renew it: {RENEW}"
    return line


def plain(text: str, folder: Path) -> str:
    """Leave out what differs from one time to the next."""
    text = re.sub(r"127\.0\.0\.1:(?!70000)\d{4,5}(?!\d)", "127.0.0.1:8080", text.replace(f"{folder}/", ""))
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "YYYY-MM-DD hh:mm UTC", text)
    text = re.sub(r"localgd CA [0-9a-f]{8}", "localgd CA …", text)
    text = re.sub(r"reply has \d+ bytes", "reply has 650 bytes", text)
    text = re.sub(r"no margin above \S+\)", "no margin above 1e-17)", text)
    return re.sub(r"0{20,}", "0…", text)


def one_line(finished: Finished) -> str:
    """Return the line that the command ended with, the only one on stderr."""
    assert "Traceback" not in finished.stdout + finished.stderr
    [line] = finished.stderr.splitlines()
    assert line.startswith("localgd: ")
    return line


def with_nan(data: Dataset, row: int) -> Dataset:
    X = data.X.copy()
    X[row - 1, 1] = np.nan
    return replace(data, X=X)


# ── Configuration ────────────────────────────────────────────────────────────────────────────────


def test_the_folder_is_good(localgd: Command, folder: Path) -> None:
    """What the cases below spoil works as it is."""
    assert localgd(*RUN).code == 0
    assert RunFiles(folder / "run").json("summary.json")["rounds"] == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("local-step=3", r"unknown key 'local-step'.*'local-steps'"),
        ("local-steps=0", r"local-steps = 0 .*whole number >= 1"),
        ("local-steps=2.5", r"local-steps = 2.5 .*whole number >= 1"),
        ("num-server-rounds=true", r"num-server-rounds = true .*whole number >= 1"),
        ("learning-rate=-0.1", r"learning-rate = -0.1 .*auto, 1/beta, a number > 0"),
        ("learning-rate=fast", r"learning-rate = 'fast' .*auto, 1/beta, a number > 0"),
        ("learning-rate=nan", r"learning-rate = nan .*a number > 0"),
        ("learning-rate=1" + 400 * "0", r"learning-rate = .*a number > 0"),
        ("regularization=0", r"regularization = 0 .*a number > 0"),
        ("strategy=fedavg", r"strategy = 'fedavg' .*local-gd, modified-local-gd"),
        ("solver=gradient", r"solver = 'gradient' .*'modified-local-gd'.*proximal, projection"),
        ("stop-at-certified-angle=90", r"stop-at-certified-angle = 90 .*degrees"),
        ("intercept=1", r"intercept = 1 .*true, false"),
        ("out=[1]", r"'out' is a list"),
        ("local-steps", r"-c .*KEY=VALUE.*'local-steps'"),
        ("=3", r"-c .*KEY=VALUE.*'=3'"),
        ("dataset=tisue", r"unknown data set 'tisue'; did you mean 'tissue'\?"),
        ("data-dir=", r"needs data-dir"),
    ],
)
def test_bad_override(override: str, said: str, refused: Callable[..., str]) -> None:
    assert re.search(said, refused("run", "config.toml", "-c", override))


def test_too_few_rows_for_the_clients(refused: Callable[..., str]) -> None:
    line = refused(*RUN, "-c", "dataset=tissue", "-c", "clients=100")
    assert re.search("clients = 100 .*need 400 rows, but 'tissue' has 151", line)


def test_bad_configuration_files(refused: Callable[..., str], folder: Path) -> None:
    assert re.search(r"nowhere\.toml.*No such file", refused("run", "nowhere.toml"))
    assert re.search(r"data.*Is a directory", refused("run", "data"))
    for text, said in (
        ("clients = = 3", r"bad\.toml is not valid TOML.*line 1"),
        ("clients = 3\nclients = 4", r"bad\.toml is not valid TOML.*overwrite"),
        ("[run]\nclients = 3", r"bad\.toml: 'run' is a table"),
        ("clinets = 3", r"unknown key 'clinets'.*'clients'"),
    ):
        (folder / "bad.toml").write_text(text)
        assert re.search(said, refused("run", "bad.toml", given=text)), text
    (folder / "bad.toml").write_bytes(b'dataset = "tiss\xfce"')
    assert re.search(r"bad\.toml.*UTF-8", refused("run", "bad.toml", given="a letter in Latin-1"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run",), "CONFIG.toml"),
        (("run", "config.toml", "--fast"), "--fast"),
        (("run", "config.toml", "more"), "more"),
        (("walk",), "walk"),
        (("join", "127.0.0.1:1"), "--data"),
        (("shard", "tissue", "--out", "o", "--clients", "six"), "six"),
    ],
)
def test_bad_usage(arguments: tuple[str, ...], said: str, refused: Callable[..., str]) -> None:
    assert said in refused(*arguments)


@pytest.mark.parametrize("role", ["init", "reference"])
def test_bad_weight_files(role: str, refused: Callable[..., str], folder: Path) -> None:
    np.savez(folder / "short.npz", weights=np.ones(3))
    np.savez(folder / "nan.npz", weights=np.array([1, 2, np.nan, 4]))
    np.savez(folder / "other.npz", other=np.ones(4))
    np.savez(folder / "words.npz", weights=np.array(["a", "b", "c", "d"]))
    np.save(folder / "plain.npy", np.ones(4))
    whole = (folder / "short.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "text.npz").write_text("weights")
    for name, said in (
        ("missing.npz", "No such file"),
        ("short.npz", r"\(3,\).*4 finite numbers"),
        ("nan.npz", "its weights are not finite"),
        ("other.npz", "lacks weights; it has other"),
        ("words.npz", ""),
        ("plain.npy", ""),
        ("cut.npz", ""),
        ("text.npz", ""),
    ):
        assert re.search(f"{role} = '{name}'.*{said}", refused(*RUN, "-c", f"{role}={name}")), name


def test_an_out_that_cannot_be_used(localgd: Command, refused: Callable[..., str], folder: Path) -> None:
    (folder / "file").write_text("")
    assert re.search("out = 'file/run'.*[Nn]ot a directory", refused(*RUN, "--out", "file/run"))
    assert re.search("out = 'file'", refused(*RUN, "--out", "file"))
    assert localgd(*RUN).code == 0
    rows = (folder / "run" / "rounds.jsonl").read_bytes()
    assert re.search("out = 'run' already holds a run", refused(*RUN, given="once more"))
    assert (folder / "run" / "rounds.jsonl").read_bytes() == rows


def test_torch_is_asked_for_and_not_there(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert re.search(r"engine = 'torch' .*pip install", refused(*RUN, "-c", "engine=torch"))
    assert re.search(
        r"'numpy'.*device = 'cpu'.*'cuda'", refused(*RUN, "-c", "engine=numpy", "-c", "device=cuda")
    )


# ── Data in one process ──────────────────────────────────────────────────────────────────────────


def test_bad_data_dir(refused: Callable[..., str], folder: Path) -> None:
    assert re.search("data-dir = 'nowhere' is not a directory", refused(*RUN, "-c", "data-dir=nowhere"))
    (folder / "empty").mkdir()
    line = refused(*RUN, "-c", f"data-dir={folder / 'empty'}")
    assert re.search(r"data-dir = '.*empty' has no data files.*\.npz", line)
    write_csv(folder / "data" / "client-1.csv", blobs(1))
    assert re.search(
        "data-dir = '.*data' has two files for the client 'client-1'",
        refused(*RUN, given="client-1.npz, client-1.csv"),
    )


def test_nan_names_the_file_and_the_row(refused: Callable[..., str], folder: Path) -> None:
    write_npz(folder / "data" / "client-1.npz", with_nan(blobs(1), row=7))
    assert re.search(
        r"data/client-1\.npz: row 7, column 2: nan", refused(*RUN, given="a NaN in client-1.npz")
    )
    (folder / "data" / "client-1.npz").unlink()
    write_csv(folder / "data" / "client-1.csv", with_nan(blobs(1), row=7))
    assert re.search(
        r"data/client-1\.csv: row 7 \(line 8\), column 'gene 1'", refused(*RUN, given="a NaN in client-1.csv")
    )


def test_one_label_in_the_whole_federation(refused: Callable[..., str], folder: Path) -> None:
    write_federation(folder / "data", *(blobs(seed, labels=("yes",)) for seed in range(2)))
    assert re.search(
        "every client has the label 'yes'; two labels are needed", refused(*RUN, given="the label yes only")
    )


def test_three_labels_with_a_binary_loss(refused: Callable[..., str], folder: Path) -> None:
    write_federation(folder / "data", blobs(0, labels=("a", "b", "c")), blobs(1, labels=("a", "b")))
    assert re.search(
        r"client-0 has 3 labels \(a, b, c\).*'logistic' takes two", refused(*RUN, given="the labels a, b, c")
    )


def test_labels_that_disagree(refused: Callable[..., str], folder: Path) -> None:
    write_federation(folder / "data", blobs(0, labels=("ill", "well")), blobs(1, labels=("1", "2")))
    assert re.search(
        "disagree.*client-0: ill, well; client-1: 1, 2", refused(*RUN, given="the labels ill, well and 1, 2")
    )


def test_different_dimensions(refused: Callable[..., str], folder: Path) -> None:
    write_federation(folder / "data", blobs(0, columns=3), blobs(1, columns=3), blobs(2, columns=4))
    assert re.search(
        "numbers of feature columns: client-0, client-1: 3; client-2: 4",
        refused(*RUN, given="files of 3, 3 and 4 columns"),
    )


def test_columns_in_another_order(refused: Callable[..., str], folder: Path) -> None:
    write_csv(folder / "csv" / "north.csv", blobs(0), ("age", "height", "weight"))
    write_csv(folder / "csv" / "south.csv", blobs(1), ("age", "weight", "height"))
    line = refused(*RUN, "-c", f"data-dir={folder / 'csv'}")
    assert re.search("another order: north against south", line)


def test_bad_test_files(refused: Callable[..., str], folder: Path) -> None:
    write_npz(folder / "wide.npz", blobs(2, columns=4))
    assert re.search(
        r"test = '.*wide\.npz'.*4 feature columns, the clients 3",
        refused(*RUN, "-c", f"test={folder / 'wide.npz'}"),
    )
    write_npz(folder / "words.npz", blobs(2, labels=("0", "2")))
    assert re.search(r"test = '.*words\.npz'.*'2'.*0, 1", refused(*RUN, "-c", f"test={folder / 'words.npz'}"))
    write_npz(folder / "nan.npz", with_nan(blobs(2), row=3))
    assert re.search(r"nan\.npz: row 3, column 2", refused(*RUN, "-c", f"test={folder / 'nan.npz'}"))
    assert re.search(r"none\.npz: no such file", refused(*RUN, "-c", f"test={folder / 'none.npz'}"))


def test_a_test_file_with_columns_in_another_order(refused: Callable[..., str], folder: Path) -> None:
    write_csv(folder / "csv" / "north.csv", blobs(0), ("age", "height", "weight"))
    write_csv(folder / "csv" / "south.csv", blobs(1), ("age", "height", "weight"))
    write_csv(folder / "test.csv", blobs(2), ("age", "weight", "height"))
    line = refused(*RUN, "-c", f"data-dir={folder / 'csv'}", "-c", f"test={folder / 'test.csv'}")
    assert re.search(r"test = '.*test\.csv'.*order", line)


# ── Data files ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file is empty"),
        ("a,b,label\n", "no examples"),
        ("label\nx\n", "no features"),
        ("a;label\n1;x\n", "no commas"),
        ("1,2,0\n3,4,1\n", "no header"),
        ("a,b,a,label\n1,2,3,x\n", "columns 1 and 3 are both named 'a'"),
        (",a,label\n0,2,x\n", "column 1 has no name"),
        ("a,b,diagnosis\n1,2,x\n", "no label column 'label'"),
        ("a,b,label\n1,2,x\n1,x\n", r"row 2 \(line 3\): 2 cells"),
        ("a,b,label\n1,2,x\n1,two,x\n", "column 'b': 'two' is not a number"),
        ("a,b,label\n1,2,x\n1,,x\n", "column 'b': the value is missing"),
        ("a,b,label\n1,inf,x\n", "column 'b': inf is not allowed"),
        ("a,label\n1,x\n2,\n", "the label is empty"),
        ("a,label\n1,nan\n", "the label is nan"),
        ('a,label\n1,x\n2,"y\n', "not a csv file"),
        (b"a,label\n1,caf\xe9\n", "not UTF-8"),
    ],
)
def test_bad_csv(content: str | bytes, said: str, refused: Callable[..., str], folder: Path) -> None:
    (folder / "own.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    line = refused(
        "join", "127.0.0.1:8080", "--insecure", "--data", "own.csv",
        given=content if isinstance(content, str) else "a letter in Latin-1",
    )  # fmt: skip
    assert re.search(rf"^localgd: own\.csv: .*{said}", line)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"X": np.ones((3, 2))}, "no y in it"),
        ({"X": np.ones(3), "y": np.ones(3)}, "X must be 2-d"),
        ({"X": np.ones((3, 2)), "y": np.ones(2)}, "3 rows but y has 2 labels"),
        ({"X": np.ones((3, 2)).astype(str), "y": np.ones(3)}, "X must hold real numbers"),
        ({"X": np.ones((3, 2)), "y": np.array(["a", None, "b"])}, "Python objects, which are never loaded"),
        ({"X": np.ones((3, 2)), "y": np.ones(3), "columns": np.array(["a"])}, "columns has 1 names"),
    ],
)
def test_bad_npz(arrays: dict[str, Any], said: str, refused: Callable[..., str], folder: Path) -> None:
    np.savez(folder / "own.npz", **arrays)
    given = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in arrays.items())
    line = refused("join", "127.0.0.1:8080", "--insecure", "--data", "own.npz", given=given)
    assert re.search(rf"^localgd: own\.npz: .*{said}", line)


def test_files_that_are_something_else(refused: Callable[..., str], folder: Path) -> None:
    whole = (folder / "data" / "client-0.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "text.npz").write_text("X")
    for name in ("cut.npz", "text.npz"):
        line = refused("join", "127.0.0.1:8080", "--insecure", "--data", name)
        assert "write it with numpy.savez(file, X=X, y=y)" in line


# ── Other commands ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("shard", "tisue", "--out", "o"), "unknown data set 'tisue'; did you mean 'tissue'"),
        (("shard", "file", "--out", "o"), "a named data set, not 'file'"),
        (("shard", "digits", "--out", "data"), "--out data exists already; name a new directory"),
        (("shard", "digits", "--out", "o", "--alpha", "0"), "alpha = 0.0 is not allowed"),
        (("shard", "nci60", "--out", "o"), "'nci60' has numbers to predict; allowed with this loss"),
        (("compare", "config.toml", "--strategies", "fedavg"), "strategy = 'fedavg'"),
        (("compare", "config.toml", "--strategies", "local-gd,,x"), "commas"),
        (("compare", "config.toml", "--solvers", "exact"), "'exact' is not allowed"),
        (("compare", "config.toml", "--local-steps", "ten"), "local-steps"),
        (("pki", "--out", "p"), "nothing to write: say --server NAME"),
        (("pki", "--out", "p", "--client", "ca"), "taken by the files of the ca"),
        (("pki", "--out", "p", "--client", "a", "--client", "a"), "is said twice"),
        (("pki", "--out", "p", "--client", "a/b"), "no slash"),
        (
            ("pki", "--out", "p", "--server", "fl.example.org:8080"),
            "a host name or an IP address, without port",
        ),
        (("pki", "--out", "p", "--server", "a", "--days", "0"), "--days 0: must be 1 to 3650"),
        (("pki", "--out", "p", "--revoke", "west"), "west.crt: No such file"),
        (("pki", "--out", "p", "--revoke", "west", "--client", "a"), "--revoke goes without"),
        (("predict", "run", "data/client-0.npz"), "model = 'run' cannot be read"),
        (("predict", "data", "data/client-0.npz"), "name a run directory or a model file"),
        (("predict", "data/client-0.npz", "data/client-1.npz"), "lacks weights"),
        (("reference", "config.toml", "--out", "data"), "--out data exists already; name a new file"),
        (("reference", "config.toml", "--out", "no/r.npz"), "there is no directory"),
        (("run", "config.toml", "--resume", "data"), "data"),
        (("run", "config.toml", "--resume", "data", "--out", "o"), "leave out --out"),
    ],
)
def test_bad_use_of_other_commands(
    arguments: tuple[str, ...], said: str, refused: Callable[..., str], folder: Path
) -> None:
    assert said in refused(*arguments)


# ── Server and clients ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", ["serve", "join"])
def test_tls_or_insecure_has_to_be_said(command: str, refused: Callable[..., str], folder: Path) -> None:
    start = (
        ("serve", "config.toml", "--address", "127.0.0.1:0")
        if command == "serve"
        else ("join", "127.0.0.1:1", "--data", "data/client-0.npz")
    )
    assert re.search("either --tls DIR .*or --insecure", refused(*start))
    assert re.search("either --tls DIR .*or --insecure", refused(*start, "--tls", "pki", "--insecure"))
    (folder / "pki").mkdir()
    for name in ("client-0.crt", "client-0.key", "server.crt", "server.key"):
        (folder / "pki" / name).write_text("")
    assert re.search(r"cannot read pki/ca\.crt: No such file", refused(*start, "--tls", "pki"))
    (folder / "pki" / "ca.crt").write_text("")
    assert re.search(r"pki/ca\.crt is no certificate in PEM form", refused(*start, "--tls", "pki"))


def test_join_has_to_know_its_certificate(refused: Callable[..., str], folder: Path) -> None:
    (folder / "pki").mkdir()
    start = ("join", "127.0.0.1:1", "--data", "data/client-0.npz", "--tls", "pki")
    (folder / "pki" / "ca.crt").write_text("")
    assert re.search("no client certificate", refused(*start))
    for name in ("north", "south"):
        (folder / "pki" / f"{name}.crt").write_text("")
    assert re.search("north, south.*--name", refused(*start))
    pki.write(folder / "real", clients=["west"])
    start = (*start[:-1], "real")
    assert re.search(r"cannot read real/east\.crt", refused(*start, "--name", "east"))


def test_a_certificate_that_is_none(refused: Callable[..., str], folder: Path) -> None:
    (folder / "pki").mkdir()
    for name in ("ca.crt", "server.crt", "server.key"):
        (folder / "pki" / name).write_text("no certificate")
    port = free_port()
    line = refused("serve", "config.toml", "--address", f"127.0.0.1:{port}", "--tls", "pki")
    assert re.search("certificate", line)


def test_port_in_use(refused: Callable[..., str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refused("serve", "config.toml", "--insecure", "--address", address)
    assert re.search(f"cannot listen on {address}: port in use", line)


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1:port", "127.0.0.1:70000"])
def test_bad_address(address: str, refused: Callable[..., str]) -> None:
    assert re.search("HOST:PORT", refused("serve", "config.toml", "--insecure", "--address", address))
    assert re.search("HOST:PORT", refused("join", address, "--insecure", "--data", "data/client-0.npz"))


def test_join_checks_its_own_data_first(refused: Callable[..., str], folder: Path) -> None:
    """Nobody listens: a mistake in the file is told at once, without a search for the server."""
    write_npz(folder / "bad.npz", with_nan(blobs(1), row=7))
    write_csv(folder / "bad.csv", blobs(1))
    start = ("join", f"127.0.0.1:{free_port()}", "--insecure", "--data")
    assert re.search(r"bad\.npz: row 7, column 2: nan", refused(*start, folder / "bad.npz"))
    assert re.search(r"none\.npz: no such file", refused(*start, "none.npz"))
    assert re.search(
        r"no label column 'diagnosis'", refused(*start, folder / "bad.csv", "--label", "diagnosis")
    )
    assert re.search(r"unknown kind of file '\.toml'", refused(*start, "config.toml"))


def test_a_server_that_is_not_there(localgd: Command, folder: Path) -> None:
    address, began = f"127.0.0.1:{free_port()}", time.monotonic()
    finished = localgd("join", address, "--insecure", "--data", "data/client-0.npz", "--retry-for", 1)
    assert finished.code == 2
    line = remembered(folder, finished, *JOIN, "--retry-for", 1, given="nobody listens")
    assert re.search(f"server {address} not reachable for 1 s: .*refused", line)
    assert len(re.findall(f"server {address} not reachable, trying again in", finished.stdout)) >= 2
    assert 1 <= time.monotonic() - began < 10


def test_join_meets_something_else(localgd: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that speaks no gRPC is as good as nobody, and ends in time."""
    monkeypatch.setattr("client.stream.CONNECT_SECONDS", 1)
    monkeypatch.setattr("client.handshake.SECONDS", 1.0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        began = time.monotonic()
        finished = localgd("join", address, "--insecure", "--data", "data/client-0.npz", "--retry-for", 0.5)
    assert finished.code == 2
    assert f"server {address} not reachable" in one_line(finished)
    assert time.monotonic() - began < 20


# ── Certificates ─────────────────────────────────────────────────────────────────────────────────


def write_pair(folder: Path, stem: str, issued: tuple[Any, Any]) -> None:
    """Write a certificate and its key."""
    for name, content in pki.pair(stem, *issued).items():
        (folder / name).write_bytes(content)


def test_who_is_not_let_in_or_does_not_want_to(refused: Callable[..., str], folder: Path) -> None:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    week, day = datetime.timedelta(days=7), datetime.timedelta(days=1)
    for name in ("pki", "other"):
        pki.write(folder / name, ["127.0.0.1"], ["west", "east"])
    pki.revoke(folder / "pki", "east")
    authority = pki.Authority.read(folder / "pki")
    write_pair(folder / "pki", "north", authority.client("north", now - week, now - day))
    write_pair(
        folder / "pki", "south", pki.Authority.read(folder / "other").client("south", now - day, now + day)
    )
    for name, issued in (
        ("expired", authority.server(["127.0.0.1"], now - week, now - day)),
        ("elsewhere", authority.server(["fl.example.org"], now - day, now + day)),
    ):
        (folder / name).mkdir()
        write_pair(folder / name, "server", issued)

    def credentials(server: str, clients: str = "pki") -> grpc.ServerCredentials:
        own = [(folder / server / f"server.{kind}").read_bytes() for kind in ("key", "crt")]
        return grpc.ssl_server_credentials(
            [(own[0], own[1])], (folder / clients / "ca.crt").read_bytes(), True
        )

    def join(server: StreamGrid, *more: object, given: str) -> str:
        return refused("join", server.address, "--data", "data/client-0.npz", *more, given=given)

    west = ("--tls", "pki", "--name", "west")
    revoked = partial(why_revoked, folder / "pki")
    with (
        StreamGrid("127.0.0.1:0", credentials=credentials("pki"), why_refused=revoked) as server,
        StreamGrid("127.0.0.1:0", credentials=credentials("pki", clients="other")) as strange,
        StreamGrid("127.0.0.1:0", credentials=credentials("expired")) as expired,
        StreamGrid("127.0.0.1:0", credentials=credentials("elsewhere")) as elsewhere,
        StreamGrid("127.0.0.1:0", credentials=None, max_clients=0) as plain_text,
    ):
        for line, said in {
            join(server, "--insecure", given="the server has --tls"): "it speaks TLS: join with --tls DIR",
            join(server, "--tls", "pki", "--name", "east", given="east is revoked"): "certificate is revoked",
            join(
                server, "--tls", "pki", "--name", "north", given="north has expired"
            ): "north.crt expired on",
            join(
                server, "--tls", "pki", "--name", "south", given="of another CA"
            ): "was not issued by the CA",
            join(
                server, "--tls", "other", "--name", "west", given="a CA that is not the server's"
            ): "not one of the CA",
            join(strange, *west, given="the server has another CA"): "it refuses this client's certificate",
            join(expired, *west, given="the server's has expired"): "its certificate expired on",
            join(elsewhere, *west, given="the server's is for another host"): "is for fl.example.org",
            join(plain_text, *west, given="the server has --insecure"): "it speaks no TLS",
            join(plain_text, "--insecure", given="the server is full"): "places of the server are taken",
        }.items():
            assert said in line


def test_a_server_looks_at_its_own_certificates_first(refused: Callable[..., str], folder: Path) -> None:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    day = datetime.timedelta(days=1)
    serve = ("serve", "config.toml", "--address", "127.0.0.1:0", "--tls", "pki")
    pki.write(folder / "pki", ["localhost"], ["west"])
    pki.write(folder / "other", ["localhost"])
    (folder / "pki" / "revoked.txt").write_text("west\n")
    assert "revoked.txt, line 1: expected the SHA-256" in refused(*serve, given="west in revoked.txt")
    own = (folder / "pki" / "server.key").read_bytes()
    (folder / "pki" / "server.key").write_bytes((folder / "other" / "server.key").read_bytes())
    assert "does not belong to server.crt" in refused(*serve, given="another server's key")
    (folder / "pki" / "server.key").write_bytes(own)
    expired = pki.Authority.read(folder / "pki").server(["localhost"], now - 2 * day, now - day)
    write_pair(folder / "pki", "server", expired)
    assert "server.crt expired on" in refused(*serve, given="an old certificate")


# ── Runs that fail ───────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def joined(
    folder: Path, address: str, *apps: Callable[[Message, Context], Message]
) -> Iterator[dict[str, str]]:
    """Let a client of this process join for each app; all have left at the end, and told why it failed."""
    told: dict[str, str] = {}

    def attend(k: int, app: Any) -> None:
        name = f"client-{k}"
        node = node_config(folder / "data" / f"{name}.npz", "label", None)
        try:
            stream.join(address, app, node, name, credentials=None, retry_for=20, report=lambda line: None)
        except LocalGDError as error:  # a UserError where the server has ended before it was there
            told[name] = str(error)

    threads = [threading.Thread(target=attend, args=(k, app)) for k, app in enumerate(apps)]
    for thread in threads:
        thread.start()
    yield told
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_runs_that_fail(failed: Callable[..., str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server says."""
    address = f"127.0.0.1:{free_port()}"
    serve = ("serve", "config.toml", "--insecure", "--address", address, "-c", "clients=2")
    assert "only 0 of 2 clients came" in failed(*serve, "-c", "join-timeout=0.2", given="nobody joins")
    with joined(folder, address, client_app):
        line = failed(*serve[:-1], "clients=1", "-c", "max-message-bytes=500")
    assert "bytes, max-message-bytes = 500 of the server" in line
    over = threading.Event()

    def hangs(message: Message, context: Context) -> Message:
        if message.metadata.message_type == TRAIN:
            over.wait(30)
        return client_app(message, context)

    with joined(folder, address, client_app, hangs):
        line = failed(*serve, "-c", "round-timeout=5", "--out", "hung", given="client-1 hangs")
        over.set()
    assert "round 1: client-1 did not answer within 5 s" in line

    def fails(message: Message, context: Context) -> Message:
        if message.metadata.message_type == TRAIN:
            raise ValueError("no luck")
        return client_app(message, context)

    monkeypatch.setattr("common.stream.log", lambda *args, **more: None)  # the client's, with a traceback
    with joined(folder, address, client_app, fails):
        line = failed(*serve, "--out", "bug", given="a bug in client-1")
    assert re.search("client-1 failed: .*no luck.*max-bad-replies", line)


@pytest.mark.parametrize(
    ("other", "given", "said"),
    [
        (blobs(1, columns=5), "files of 3 and 5 columns", "client-0: 3; client-1: 5"),
        (blobs(1, labels=("1", "2")), "the labels 0, 1 and 1, 2", "client-1: 1, 2"),
    ],
)
def test_clients_whose_data_do_not_fit_together(
    other: Dataset, given: str, said: str, refused: Callable[..., str], folder: Path
) -> None:
    """The clients are told the same."""
    write_npz(folder / "data" / "client-1.npz", other)
    address = f"127.0.0.1:{free_port()}"
    with joined(folder, address, client_app, client_app) as told:
        serve = ("serve", "config.toml", "--insecure", "--address", address)
        line = refused(*serve, "-c", "clients=2", given=given)
    assert said in line
    assert {f"localgd: {why}" for why in told.values()} == {line}
    assert set(told) == {"client-0", "client-1"}


def test_data_that_no_model_separates(failed: Callable[..., str], folder: Path) -> None:
    mixed = blobs(0)
    twice = Dataset(np.vstack([mixed.X, mixed.X]), np.concatenate([mixed.y, mixed.y[::-1]]))
    write_npz(folder / "data" / "client-0.npz", twice)
    line = failed(*RUN, "-c", "strategy=cutting-plane", given="rows of client-0 with both labels")
    assert "the data of client-0 alone are not linearly separable" in line


def test_a_run_whose_server_ends(localgd: Command, folder: Path) -> None:
    """What a client says."""
    for why, given in (
        ("the server was interrupted", "Ctrl-C at the server"),
        ("round 1: client-1 did not answer within 600 s (see run)", "a run that fails"),
    ):
        with StreamGrid("127.0.0.1:0", credentials=None) as grid:

            def end(grid: StreamGrid = grid, why: str = why) -> None:
                grid.wait_for_clients(1, 1, 30)
                grid.close(why)

            ending = threading.Thread(target=end)
            ending.start()
            finished = localgd("join", grid.address, "--insecure", "--data", "data/client-0.npz")
            ending.join(30)
        assert finished.code == 1
        assert remembered(folder, finished, *JOIN, given=given) == f"localgd: {why}"


def test_a_run_that_cannot_go_on(localgd: Command, refused: Callable[..., str], folder: Path) -> None:
    again = ("run", "config.toml", "--resume", "run")
    config = folder / "config.toml"
    assert "no such directory" in refused(*again)
    assert localgd(*RUN).code == 0
    config.write_text(config.read_text().replace('out = "run"\n', ""))
    assert "local-steps is 4 now and was 100 then" in refused(*again, "-c", "local-steps=4")
    one, other = (folder / "data" / f"{name}.npz" for name in ("client-1", "clinic"))
    one.rename(other)
    assert "client-1 is not here; with on-missing" in refused(*again, given="without client-1")
    skip = ("-c", "on-missing=skip")
    assert "clinic is new" in refused(*again, *skip, given="clinic for client-1")
    other.unlink()
    write_npz(one, blobs(7))
    assert "client-1 is here with other data" in refused(*again, given="other rows in client-1.npz")
    for checkpoint in (folder / "run" / "checkpoint").iterdir():
        checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    line = refused(*again, given="checkpoints cut short")
    assert re.search("holds no checkpoint to go on from: .*damaged", line)


# ── Server and clients, as processes ─────────────────────────────────────────────────────────────


def test_a_client_with_another_stream_protocol(processes: Processes, folder: Path) -> None:
    before = "import common.stream; common.stream.PROTOCOL_VERSION += 1"
    with StreamGrid("127.0.0.1:0", credentials=None) as grid:
        finished = processes.localgd(
            "join", grid.address, "--insecure", "--data", folder / "data" / "client-0.npz", before=before
        ).wait()
        assert grid.names() == {}
    assert finished.code == 2
    line = remembered(folder, finished, *JOIN, given="a server of another version")
    assert re.search(r"server speaks stream protocol \d+ .*this client \d+ .*install localgd", line)


def test_a_second_client_of_the_same_name(processes: Processes, folder: Path) -> None:
    """The second is refused and the run goes on without it."""
    address = f"127.0.0.1:{free_port()}"
    server = processes.localgd(
        *("serve", "config.toml", "--insecure", "--address", address, "-c", "clients=2"),
        before="import server.grids.stream as s; s.KEEPALIVE = 1.0, 1.0",  # looks sooner who is lost
        cwd=folder,
    )
    join = ("join", address, "--insecure", "--data")
    first = processes.localgd(*join, "data/client-0.npz", "--name", "north", cwd=folder)
    first.wait_for("joined")
    second = processes.localgd(*join, "data/client-1.npz", "--name", "north", cwd=folder).wait()
    assert second.code == 2
    line = remembered(folder, second, *JOIN, "--name", "north", given="a client of that name is there")
    assert re.search("a client named 'north' is already connected", line)
    third = processes.localgd(*join, "data/client-1.npz", cwd=folder)
    assert server.wait().code == 0
    assert (first.wait(20).code, third.wait(20).code) == (0, 0)
    assert ": a client named 'north' is already connected" in server.stdout()
    told = RunFiles(folder / "run").json("handshake.json")["clients"]
    assert [client["name"] for client in told] == ["client-1", "north"]


OTHER_MESSAGES = "import common.handshake; common.handshake.PROTOCOL += 1"


@pytest.mark.parametrize(
    ("before", "override", "said"),
    [
        (OTHER_MESSAGES, "clients=2", r"client-1.*protocol \d+.* \d+.*same version"),
        (NO_TORCH, "engine=torch", "client-1: engine = 'torch' .*pip install"),
    ],
    ids=["message protocol", "no torch"],
)
def test_clients_that_do_not_fit_together(
    before: str,
    override: str,
    said: str,
    processes: Processes,
    folder: Path,
    request: pytest.FixtureRequest,
) -> None:
    """The server ends with 2, the clients with 1 and the same reason."""
    if before == NO_TORCH:
        pytest.importorskip("torch")  # the other client has it
    address = f"127.0.0.1:{free_port()}"
    serve = ("serve", "config.toml", "--insecure", "--address", address, "-c", "clients=2", "-c", override)
    server = processes.localgd(*serve, cwd=folder)
    clients = [
        processes.localgd(
            "join", address, "--insecure", "--data", f"data/client-{k}.npz", cwd=folder,
            before=before if k else "",
        )
        for k in range(2)
    ]  # fmt: skip
    finished = server.wait()
    assert finished.code == 2
    wrong = f"clients that differ: {request.node.callspec.id}"
    assert re.search(said, remembered(folder, finished, "serve", "config.toml", "--insecure", given=wrong))
    for client in clients:
        ended = client.wait(20)
        assert ended.code == 1
        assert re.search(said, one_line(ended))
    assert not (folder / "run").exists()


def test_a_real_process_says_the_same(processes: Processes, folder: Path) -> None:
    """What the cases above see in this process is what a shell sees."""
    missing = processes.localgd("run", "nowhere.toml", cwd=folder)
    write_npz(folder / "data" / "client-1.npz", with_nan(blobs(1), row=7))
    nan = processes.localgd(*RUN, cwd=folder)
    for process, said in ((missing, "nowhere.toml"), (nan, "client-1.npz: row 7")):
        finished = process.wait()
        assert (finished.code, finished.stdout) == (2, "")
        assert said in one_line(finished)
    assert not (folder / "run").exists()


# ── The table ────────────────────────────────────────────────────────────────────────────────────


def test_the_documentation_has_all_of_them(request: pytest.FixtureRequest) -> None:
    """The table has the refusals above, word by word, and no others; each case has looked for its own."""
    chosen = request.config.option.keyword or any("::" in str(argument) for argument in request.config.args)
    if chosen or os.environ.get("PYTEST_XDIST_WORKER"):  # workers share the cases out
        pytest.skip("all cases are not in this process: run the file on its own")
    commands = {typed.split()[1]: None for typed, *_ in TOLD}
    lines = [PAGE.read_text(encoding="utf-8").partition("\n## ")[0].rstrip()]
    for command in commands:
        lines += ["", f"## {command}", "", "| typed | said, after `localgd:` | exit code |", "|---|---|---|"]
        for typed, given, said, code in TOLD:
            if typed.split()[1] == command:
                lines.append(row(typed, given, said, code))
    table = escaped("\n".join(lines)) + "\n"
    if RENEWING:
        PAGE.write_text(table, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == table, f"renew it: {RENEW}"


def row(typed: str, given: str, said: str, code: int) -> str:
    """Return a case as a row of the table."""
    shown = repr(given)[1:-1] if "\n" in given else given
    cells = (f"`{typed}`" + (f" ({shown})" if given else ""), said.removeprefix("localgd: "), str(code))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def escaped(text: str) -> str:
    """Return a text as Markdown takes it."""
    return text.replace("<", "&lt;")
