"""Data files as nobody should write them: read in full and finite, or refused in one line."""

import csv
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import datafiles
from common.errors import UserError
from common.sparse import is_sparse
from tests.faults.mutation import NUMBERS, TEXTS, arrays, fuzz_share, mutated

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("sklearn")

PARTS = 8
"""So many tests share the files."""


@pytest.fixture(scope="module")
def read() -> Iterator[Callable[[str, bytes], bool]]:
    """Write bytes as a file of some kind and read it; tell whether it was taken."""
    count, taken = 0, 0
    with tempfile.TemporaryDirectory() as folder:

        def attempt(suffix: str, content: bytes) -> bool:
            nonlocal count, taken
            count += 1
            path = Path(folder) / f"data{suffix}"
            path.write_bytes(content)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    data = datafiles.read(path)
            except UserError as error:
                said = str(error)
            else:
                said = ""
            if said:
                assert said.startswith(f"{path}: ")
                assert "\n" not in said
                return False
            values = data.X.data if is_sparse(data.X) else data.X
            assert values.dtype == np.float64
            assert np.isfinite(values).all()
            assert data.X.shape[0] == len(data.y) > 0
            assert data.X.shape[1] > 0
            assert data.columns is None or len(data.columns) == data.X.shape[1]
            for label in data.y.tolist():
                assert label.strip() == label != ""
                assert label.lower().lstrip("+-") not in ("nan", "inf", "infinity")
            taken += 1
            return True

        yield attempt
        print(f"{count} data files, {taken} taken, {count - taken} refused in one line")


RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 3)), np.array(["1", "0", "1", "0", "1", "0"])


def npz(**parts: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.savez(buffer, **parts)  # type: ignore[arg-type]
    return buffer.getvalue()


def parquet_bytes(columns: dict) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def rows_as_text(header: str, lines: Iterator[str]) -> bytes:
    return "\n".join((header, *lines, "")).encode()


WHOLE = {
    ".npz": npz(X=X, y=Y, columns=np.array(["a", "b", "c"])),
    ".csv": rows_as_text(
        "a,b,c,label", (",".join((*map(repr, r.tolist()), y)) for r, y in zip(X, Y, strict=True))
    ),
    ".parquet": parquet_bytes({**{"abc"[k]: X[:, k] for k in range(3)}, "label": Y}),
    ".svm": rows_as_text(
        "1 1:0.5 3:-2", (f"{y} 1:{r[0]!r} 2:{r[1]!r}" for r, y in zip(X.tolist(), Y, strict=True))
    ),
}


@pytest.mark.parametrize("suffix", WHOLE)
def test_whole_files_are_read(suffix: str, read: Callable[[str, bytes], bool]) -> None:
    assert read(suffix, WHOLE[suffix])


@pytest.mark.parametrize("suffix", WHOLE)
def test_damaged_files(suffix: str, read: Callable[[str, bytes], bool]) -> None:
    @fuzz_share(PARTS)
    @given(mutated(WHOLE[suffix]))
    def run(content: bytes) -> None:
        read(suffix, content)

    run()


SHAPES = ((6, 3), (6,), (), (0, 3), (6, 0), (2, 3, 1), (1, 1))


def test_npz_files_of_any_arrays(read: Callable[[str, bytes], bool]) -> None:
    @fuzz_share(PARTS)
    @given(
        st.dictionaries(st.sampled_from(("X", "y", "columns", "Z")), arrays(SHAPES), max_size=3),
        st.booleans(),
    )
    def run(parts: dict[str, np.ndarray], whole_rest: bool) -> None:
        rest = {"X": X, "y": Y} if whole_rest else {}
        read(".npz", npz(**(rest | parts)))

    run()


def test_csv_files_of_any_cells(read: Callable[[str, bytes], bool]) -> None:
    cells = st.one_of(NUMBERS.map(repr), TEXTS)
    table = st.lists(st.lists(cells, min_size=1, max_size=4), max_size=5)

    @fuzz_share(PARTS)
    @given(st.lists(TEXTS, max_size=3), table, st.sampled_from(("utf-8", "utf-16", "latin-1", "utf-8-sig")))
    def run(names: list[str], lines: list[list[str]], encoding: str) -> None:
        text = io.StringIO()
        csv.writer(text).writerows([[*names, "label"], *lines])
        read(".csv", text.getvalue().encode(encoding, "replace"))

    run()


def test_parquet_files_of_any_types(read: Callable[[str, bytes], bool]) -> None:
    kinds = (
        *(getattr(pyarrow, name)() for name in ("float64", "float32", "float16", "int64", "uint8", "bool_")),
        *(getattr(pyarrow, name)() for name in ("string", "binary", "null", "date32")),
        pyarrow.timestamp("ns"),
        pyarrow.decimal128(10, 2),
        pyarrow.list_(pyarrow.int8()),
        pyarrow.dictionary(pyarrow.int8(), pyarrow.string()),
    )

    def column(kind: object, values: list) -> object:
        try:
            return pyarrow.array(values, from_pandas=False).cast(kind, safe=False)
        except (pyarrow.ArrowException, OverflowError):
            return pyarrow.nulls(len(values), kind)

    values = st.one_of(st.none(), st.floats(), st.floats(width=16))
    columns = st.dictionaries(
        st.sampled_from(("a", "b", "label", "")),
        st.tuples(st.sampled_from(kinds), st.lists(values, min_size=3, max_size=3)),
        max_size=4,
    )

    @fuzz_share(PARTS)
    @given(columns)
    def run(drawn: dict) -> None:
        read(".parquet", parquet_bytes({name: column(*what) for name, what in drawn.items()}))

    run()


def test_svmlight_files_of_any_words(read: Callable[[str, bytes], bool]) -> None:
    pair = st.tuples(st.one_of(st.integers(-1, 9), st.integers(0, 2**40)), NUMBERS).map(
        lambda p: f"{p[0]}:{p[1]}"
    )
    words = st.lists(st.one_of(pair, pair, TEXTS, st.sampled_from(("qid:1", "#", "1", "-1"))), max_size=5)

    @fuzz_share(PARTS)
    @given(st.lists(words, max_size=5))
    def run(lines: list[list[str]]) -> None:
        read(".svm", "\n".join(" ".join(line) for line in lines).encode("utf-8", "replace"))

    run()
