import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.datafiles import READERS, Dataset, label_text, read, write
from common.errors import UserError

X = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
Y = np.array(["a", "b", "a"])


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Path]:
    def save(**arrays: Any) -> Path:
        path = tmp_path / "client-0.npz"
        np.savez(path, **arrays)
        return path

    return save


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Path]:
    def save(content: str | bytes) -> Path:
        path = tmp_path / "client-0.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return save


def refused(path: Path, message: str, label: str = "label") -> None:
    """The whole text of the error, in one line, after the file's name as it was given."""
    with pytest.raises(UserError) as caught:
        read(path, label)
    assert str(caught.value) == f"{path}: {message}"
    assert "\n" not in str(caught.value)


def read_or_refused(path: Path, label: str = "label") -> None:
    try:
        dataset = read(path, label)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert len(dataset.X) == len(dataset.y) > 0
        assert np.isfinite(dataset.X).all()


# labels


@pytest.mark.parametrize(
    "value", [1, 1.0, True, "1", " 1 ", "1.0", "+1", "1e0", "1.000000000000000000e+00", "True", "true", b"1"]
)
def test_every_form_of_one_is_the_same_label(value: Any) -> None:
    assert label_text([value]).tolist() == ["1"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-1, "-1"),
        (-1.0, "-1"),
        ("-1.0", "-1"),
        (False, "0"),
        (-0.0, "0"),
        (0.5, "0.5"),
        ("0.50", "0.5"),
        (np.float32(0.1), "0.1"),
        (np.uint8(7), "7"),
        (2**63, "9223372036854775808"),
        (" brain ", "brain"),
        ("two words", "two words"),
        ("007", "007"),
        ("1_0", "1_0"),
        (b"brain", "brain"),
        ("é", "é"),
    ],
)
def test_label_text(value: Any, text: str) -> None:
    assert label_text([value]).tolist() == [text]


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint64, np.float16, np.float32, np.float64, np.str_, np.bytes_]
)
def test_labels_agree_whatever_type_stored_them(dtype: type) -> None:
    assert label_text(np.array([0, 1, 7]).astype(dtype)).tolist() == ["0", "1", "7"]


@given(hnp.arrays(np.float64, 5, elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_real_targets_survive_as_text(y: np.ndarray) -> None:
    assert label_text(y).astype(np.float64).tolist() == y.tolist()
    np.testing.assert_array_equal(label_text(label_text(y)), label_text(y))


@given(st.lists(st.text(min_size=1).filter(lambda text: text.strip("\0 ") != ""), min_size=1))
def test_label_text_is_idempotent(y: list[str]) -> None:
    try:
        once = label_text(y)
    except UserError:
        return
    np.testing.assert_array_equal(label_text(once), once)


def test_no_labels_are_no_labels() -> None:
    assert label_text([]).shape == (0,)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a", "  "], "row 2: the label is empty; every row needs one"),
        ([1.0, 2.0, np.nan], "row 3: the label is nan; a label is text or a finite number"),
        (["-inf"], "row 1: the label is -inf; a label is text or a finite number"),
        (["1e999"], "row 1: the label is inf; a label is text or a finite number"),
        ([["a"]], "y must be 1-d (one label for each example), not of shape (1, 1)"),
    ],
)
def test_labels_refused(y: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        label_text(y)
    assert str(caught.value) == message


# any file


def test_extensions() -> None:
    assert tuple(READERS) == (".npz", ".csv", ".parquet", ".svm", ".svmlight", ".libsvm")


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.npz", "no such file")


def test_directory(tmp_path: Path) -> None:
    refused(tmp_path, "a directory, not a data file")


def test_unknown_extension(tmp_path: Path) -> None:
    path = tmp_path / "data.xlsx"
    path.touch()
    refused(path, "unknown kind of file '.xlsx'; allowed: .npz, .csv, .parquet, .svm, .svmlight, .libsvm")


def test_file_that_cannot_be_opened(csv: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = csv("a,label\n1,x\n")

    def denied(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    refused(path, "cannot be read: Permission denied")


def test_error_names_the_file_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape("data/none.npz: no such file")):
        read(Path("data/none.npz"))


# npz


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.uint64, np.bool_])
def test_npz_features_become_float64(npz: Callable[..., Path], dtype: type) -> None:
    stored: np.ndarray = X.astype(dtype)
    dataset = read(npz(X=np.asfortranarray(stored), y=Y))
    assert dataset.X.dtype == np.float64
    assert dataset.X.flags.c_contiguous
    np.testing.assert_array_equal(dataset.X, stored.astype(np.float64))
    assert dataset.y.tolist() == ["a", "b", "a"]
    assert dataset.columns is None


def test_npz_extension_in_capitals(npz: Callable[..., Path]) -> None:
    path = npz(X=X, y=Y)
    assert read(path.rename(path.with_suffix(".NPZ"))).X.shape == (3, 2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": X, "t": Y}, "no y in it (it holds 'X', 't'); X and y are needed"),
        ({"features": X, "y": Y}, "no X in it (it holds 'features', 'y'); X and y are needed"),
        ({}, "no X in it (it holds nothing); X and y are needed"),
        ({"X": X[0], "y": Y}, "X must be 2-d (examples, features), not of shape (2,)"),
        ({"X": X, "y": Y[:, None]}, "y must be 1-d (one label for each example), not of shape (3, 1)"),
        ({"X": X, "y": Y[:2]}, "X has 3 rows but y has 2 labels; there must be as many"),
        ({"X": X[:0], "y": Y[:0]}, "no examples; at least one row is needed"),
        ({"X": X[:, :0], "y": Y}, "no features; at least one column beside the label is needed"),
        ({"X": X.astype(str), "y": Y}, "X must hold real numbers, not text"),
        ({"X": X + 0j, "y": Y}, "X must hold real numbers, not complex numbers"),
        (
            {"X": X.astype(object), "y": Y},
            "X holds Python objects, which are never loaded; save X.astype('float64')",
        ),
        (
            {"X": X, "y": Y.astype(object)},
            "y holds Python objects, which are never loaded; save y.astype('str')",
        ),
        ({"X": X, "y": np.array(["a", "", "b"])}, "row 2: the label is empty; every row needs one"),
        (
            {"X": X, "y": np.array([0.0, 1.0, np.nan])},
            "row 3: the label is nan; a label is text or a finite number",
        ),
        ({"X": X, "y": Y, "columns": np.array(["a"])}, "columns has 1 names but X has 2 columns"),
    ],
)
def test_npz_refused(npz: Callable[..., Path], arrays: dict[str, Any], message: str) -> None:
    refused(npz(**arrays), message)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_npz_names_the_first_value_that_is_not_finite(npz: Callable[..., Path], value: float) -> None:
    bad = X.copy()
    bad[1, 1] = bad[2, 0] = value
    refused(npz(X=bad, y=Y), f"row 2, column 2: {value} is not allowed; it must be finite")


def test_npz_names_the_column_when_it_knows_it(npz: Callable[..., Path]) -> None:
    bad = X.copy()
    bad[0, 1] = np.nan
    path = npz(X=bad, y=Y, columns=np.array(["age", "height"]))
    refused(path, "row 1, column 'height': nan is not allowed; it must be finite")


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(np.float64).max, reason="no wider float here")
def test_npz_value_that_float64_cannot_hold(npz: Callable[..., Path]) -> None:
    wide = X.astype(np.longdouble)
    wide[0, 0] = np.longdouble("1e400")
    refused(npz(X=wide, y=Y), "row 1, column 1: inf is not allowed; it must be finite")


def test_npz_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.npz"
    path.touch()
    refused(path, "the file is empty")


def test_npz_that_is_a_single_array(tmp_path: Path) -> None:
    path = tmp_path / "array.npz"
    with path.open("wb") as stream:
        np.save(stream, X)
    refused(path, "not a .npz file, or cut short; write it with numpy.savez(file, X=X, y=y)")


def test_npz_truncated(npz: Callable[..., Path]) -> None:
    path = npz(X=X, y=Y)
    path.write_bytes(path.read_bytes()[:200])
    refused(path, "not a .npz file, or cut short; write it with numpy.savez(file, X=X, y=y)")


def test_npz_with_a_flipped_byte(npz: Callable[..., Path]) -> None:
    path = npz(X=X, y=Y)
    content = bytearray(path.read_bytes())
    content[content.index(X.tobytes())] ^= 1
    path.write_bytes(content)
    refused(path, "damaged or cut short (Bad CRC-32 for file 'X.npy')")


@pytest.mark.parametrize("code", [0xD800, 0x99000000])
def test_npz_label_that_is_no_text(npz: Callable[..., Path], code: int) -> None:
    labels = Y.copy()
    labels.view(np.uint32)[1] = code
    path = npz(X=X, y=labels)
    with pytest.raises(UserError, match=re.escape(f"{path}: damaged or cut short (")):
        read(path)


def test_npz_with_a_header_that_never_ends(npz: Callable[..., Path], tmp_path: Path) -> None:
    # numpy's parser raises tokenize.TokenError here, which is no ValueError
    with zipfile.ZipFile(npz(X=X, y=Y)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["X.npy"] = members["X.npy"].replace(b"(3, 2)", b"(3, 2,")
    path = tmp_path / "odd.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match=re.escape(f"{path}: damaged or cut short (")):
        read(path)


def test_npz_with_a_member_that_is_no_array(tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X", b"hello")
        archive.writestr("y", b"hello")
    refused(path, "X must hold real numbers, not text")


@given(data=st.data())
def test_npz_damage_is_refused_or_harmless(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    save = data.draw(st.sampled_from([np.savez, np.savez_compressed]))
    save(path, X=X, y=Y)
    content = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    read_or_refused(path)


# csv


@pytest.mark.parametrize(
    "content",
    [
        "a,b,label\n1,2,x\n3,4,y\n",
        "a,b,label\n1,2,x\n3,4,y",
        "\ufeffa,b,label\n1,2,x\n3,4,y\n",
        "a,b,label\r\n1,2,x\r\n3,4,y\r\n",
        '\ufeff"a","b","label"\r\n"1","2","x"\r\n"3","4","y"\r\n',
        "a, b ,label\n 1,2 , x\n\n3e0,+4.0,y\n\n",
        "a,label,b\n1,x,2\n3,y,4\n",
        "label,a,b\nx,1,2\ny,3,4\n",
    ],
)
def test_csv(csv: Callable[..., Path], content: str) -> None:
    dataset = read(csv(content))
    np.testing.assert_array_equal(dataset.X, [[1.0, 2.0], [3.0, 4.0]])
    assert dataset.X.dtype == np.float64
    assert dataset.y.tolist() == ["x", "y"]
    assert dataset.columns == ("a", "b")


def test_csv_with_another_label_column(csv: Callable[..., Path]) -> None:
    dataset = read(csv("label,tissue\n1,brain\n"), label="tissue")
    assert dataset.columns == ("label",)
    assert dataset.y.tolist() == ["brain"]


def test_csv_numeric_column_names_are_a_header(csv: Callable[..., Path]) -> None:
    assert read(csv("0,1,label\n5,6,x\n")).columns == ("0", "1")


@given(
    hnp.arrays(
        np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(-1e308, 1e308)
    )
)
def test_csv_gives_every_bit_back(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "bits.csv"
    header = [*(f"f{j}" for j in range(values.shape[1])), "label"]
    lines = [",".join(header), *(",".join([*map(repr, row), "1"]) for row in values.tolist())]
    path.write_text("\n".join(lines))
    np.testing.assert_array_equal(read(path).X, values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty; a header and at least one row are needed"),
        ("\n\n", "the file is empty; a header and at least one row are needed"),
        ("a,b,label\n", "no examples; at least one row is needed"),
        ("label\nx\n", "no features; at least one column beside the label is needed"),
        (
            "5.1,3.5,x\n4.9,3.0,y\n",
            "no header: the first line must name the columns, but it holds '5.1', '3.5', 'x'",
        ),
        (
            "a,b,Label\n1,2,x\n",
            "no label column 'label'; did you mean 'Label'? the columns are 'a', 'b', 'Label'",
        ),
        (
            "a,b,c,d,e,f,g\n1,2,3,4,5,6,7\n",
            "no label column 'label'; the columns are 'a', 'b', 'c', 'd', 'e', 'f', … 7 in all",
        ),
        ("a;label\n1;x\n", "the header has no commas ('a;label'); cells must be parted by commas"),
        ("a,b,a,label\n1,2,3,x\n", "columns 1 and 3 are both named 'a'; names must differ"),
        ("label,a,label\nx,2,3\n", "columns 1 and 3 are both named 'label'; names must differ"),
        (",a,label\n0,2,x\n", "column 1 has no name in the header; every column needs one"),
        ("a,b,label\n1,2,x\n1,x\n", "row 2 (line 3): 2 cells, but the header has 3"),
        ("a,b,label\n\n1,2,x\n\n1,2,x,4\n", "row 2 (line 5): 4 cells, but the header has 3"),
        ("a,b,label\n1,2,x\n1,two,x\n", "row 2 (line 3), column 'b': 'two' is not a number"),
        ('a,b,label\n1,"1,5",x\n', "row 1 (line 2), column 'b': '1,5' is not a number"),
        ("a,b,label\n1," + "z" * 99 + ",x\n", f"row 1 (line 2), column 'b': '{'z' * 39}…' is not a number"),
        ('a,b,label\n1,"2\n3",x\n', "row 1 (line 3), column 'b': '2\\n3' is not a number"),
        (
            "a,label,b\n1,x,\n",
            "row 1 (line 2), column 'b': the value is missing (''); every cell needs a number",
        ),
        (
            "a,label,b\nNA,x,1\n",
            "row 1 (line 2), column 'a': the value is missing ('NA'); every cell needs a number",
        ),
        ("a,b,label\n1,nan,x\n", "row 1 (line 2), column 'b': nan is not allowed; it must be finite"),
        (
            "a,b,label\n1,2,x\n1e999,2,x\n",
            "row 2 (line 3), column 'a': inf is not allowed; it must be finite",
        ),
        ("a,label\n\n1,x\n2, \n", "row 2 (line 4): the label is empty; every row needs one"),
        ("a,label\n1,nan\n", "row 1 (line 2): the label is nan; a label is text or a finite number"),
        ('a,label\n1,x\n2,"y\n3,z\n', "not a csv file: unexpected end of data, in what follows line 2"),
        ('"a,label\n1,x\n', "not a csv file: unexpected end of data, in what follows line 0"),
        (b"a,label\n1,caf\xe9\n", "not UTF-8 text; save it as CSV UTF-8"),
        ("a,label\n1,x\n".encode("utf-16"), "not UTF-8 text; save it as CSV UTF-8"),
    ],
)
def test_csv_refused(csv: Callable[..., Path], content: str | bytes, message: str) -> None:
    refused(csv(content), message)


def test_csv_cell_too_large_for_the_reader(csv: Callable[..., Path]) -> None:
    refused(
        csv("a,label\n1,x\n" + "1" * 200_000 + ",x\n"),
        "not a csv file: field larger than field limit (131072), in what follows line 2",
    )


@given(st.one_of(st.binary(), st.text(alphabet='alb,"e\n\r1.-\0 ').map(str.encode)))
def test_csv_of_any_bytes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    read_or_refused(path, label="a")


# write


@pytest.mark.parametrize("columns", [None, ("age", "größe")])
def test_write_then_read(tmp_path: Path, columns: tuple[str, ...] | None) -> None:
    path = tmp_path / "client-0.npz"
    write(path, Dataset(X, Y, columns))
    dataset = read(path)
    np.testing.assert_array_equal(dataset.X, X)
    np.testing.assert_array_equal(dataset.y, Y)
    assert dataset.columns == columns
    assert os.listdir(tmp_path) == ["client-0.npz"]


def test_write_replaces_the_file_or_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "client-0.npz"
    write(path, Dataset(X, Y))

    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError) as caught:
        write(path, Dataset(X * 2, Y))
    assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    np.testing.assert_array_equal(read(path).X, X)
    assert os.listdir(tmp_path) == ["client-0.npz"]

    monkeypatch.undo()
    write(path, Dataset(X * 2, Y))
    np.testing.assert_array_equal(read(path).X, X * 2)


def test_write_into_no_directory(tmp_path: Path) -> None:
    path = tmp_path / "none" / "client-0.npz"
    with pytest.raises(UserError) as caught:
        write(path, Dataset(X, Y))
    assert str(caught.value) == f"{path}: cannot be written: No such file or directory"


def test_write_npz_only(tmp_path: Path) -> None:
    path = tmp_path / "client-0.csv"
    with pytest.raises(UserError) as caught:
        write(path, Dataset(X, Y))
    assert str(caught.value) == f"{path}: data are written as .npz only"


def test_npz_text_that_is_none(npz: Callable[..., Path]) -> None:
    """As of damaged memory; numpy takes it for text, and Python fails on it only later."""
    for points in ([0xD9C2825F, 49], [0xD800, 49]):
        labels = np.frombuffer(np.array(points, "<u4").tobytes(), "<U1")
        refused(npz(X=X[:2], y=labels), "damaged or cut short (y holds numbers that are no characters)")
