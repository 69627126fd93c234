from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict, UserConfig

from client.dataset import describe, load, node_config, source, source_of
from common import virtual
from common.config import Config
from common.datafiles import Dataset
from common.errors import UserError

DATA = Dataset(np.array([[1.0, 2.0], [3.0, 6.0]]), np.array(["b", "a"]), ("height", "weight"))


def test_a_device_with_a_file(tmp_path: Path) -> None:
    path = tmp_path / "clinic.npz"
    np.savez(path, X=np.ones((3, 2)), y=np.array([1, -1, 1]))
    where = source_of(node_config(path, "label", None))
    assert (where.name, where.path, where.label, where.partition) == ("clinic", str(path), "label", -1)
    assert load(where).y.tolist() == ["1", "-1", "1"]
    assert load(where) is load(where)  # read once
    assert source_of(node_config(path, "sick", "north")).name == "north"
    assert source_of({"data": str(path)}) == where


def test_a_virtual_client() -> None:
    values: UserConfig = {"dataset": "synthetic", "clients": 3, "seed": 4}
    config = Config.of(values)
    context = Context(1, 7, {"partition-id": 2, "num-partitions": 3}, RecordDict(), values)
    where = source(context)
    assert (where.name, where.path, where.config, where.partition) == ("client-2", "", config, 2)
    np.testing.assert_array_equal(load(where).X, virtual.shard(config, 2).X)


@pytest.mark.parametrize(
    ("node", "complaint"),
    [
        ({"partition-id": 3}, "there is no partition 3: the data are dealt to 3 clients"),
        ({}, "this node has no data"),
    ],
)
def test_a_node_without_data(node: UserConfig, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        source_of(node, {"dataset": "synthetic", "clients": 3})


def test_description() -> None:
    found = describe("lab", DATA, "salt", statistics=True)
    assert (found.name, found.count, found.dimension, found.classes) == ("lab", 2, 2, ("a", "b"))
    assert found.statistics is not None
    np.testing.assert_array_equal(found.statistics.mean, [2, 4])
    np.testing.assert_array_equal(found.statistics.m2, [2, 8])
    assert describe("lab", DATA, "salt", statistics=False).statistics is None


def test_the_fingerprint_depends_on_salt_and_data_alone() -> None:
    def fingerprint(X: np.ndarray = DATA.X, y: list[str] | None = None, salt: str = "salt") -> str:
        return describe("lab", Dataset(X, np.array(y or ["b", "a"])), salt, False).fingerprint

    assert fingerprint() == fingerprint(DATA.X.copy())
    others = {
        fingerprint(salt="other"),
        fingerprint(DATA.X[::-1].copy()),
        fingerprint(DATA.X + 1e-15),
        fingerprint(y=["a", "b"]),
        fingerprint(y=["ba", ""]),
    }
    assert len(others | {fingerprint()}) == 6


def test_columns_are_compared_by_name_and_order() -> None:
    def columns(*names: str) -> str:
        return describe("lab", Dataset(DATA.X, DATA.y, names or None), "salt", False).columns

    assert columns() == "none"
    assert columns("height", "weight") == columns("height", "weight")
    assert len({columns("height", "weight"), columns("weight", "height"), columns("heightw", "eight")}) == 3
