import dataclasses

import numpy as np
import pytest

from common.errors import UserError
from common.handshake import (
    Description,
    Preparation,
    pack_describe,
    pack_description,
    pack_preparation,
    pack_prepared,
    unpack_describe,
    unpack_description,
    unpack_preparation,
    unpack_prepared,
)
from common.scaling import ColumnStatistics, Scaling
from tests.problems import same

STATISTICS = ColumnStatistics(3, np.array([1.0, 2.0]), np.array([0.5, 0.25]))
DESCRIPTION = Description("lab", 3, 2, ("a", "b"), "f00d", "cafe", STATISTICS)
SCALING = Scaling(np.array([1.0, 2.0]), np.array([3.0, 4.0]), intercept=True)
PREPARATION = Preparation(SCALING, ("a", "b"))


@pytest.mark.parametrize("statistics", [True, False])
def test_describe(statistics: bool) -> None:
    assert unpack_describe(pack_describe("salt", statistics, "softmax")) == ("salt", statistics, "softmax")


@pytest.mark.parametrize("statistics", [STATISTICS, None])
def test_description(statistics: ColumnStatistics | None) -> None:
    description = dataclasses.replace(DESCRIPTION, statistics=statistics)
    same(unpack_description(pack_description(description)), description)


def test_another_protocol_is_refused_on_both_sides() -> None:
    content = pack_describe("salt", True, "logistic")
    content.config_records["config"]["protocol"] = 7
    with pytest.raises(UserError, match="the server speaks protocol 7, this client 3"):
        unpack_describe(content)
    content = pack_description(DESCRIPTION)
    content.config_records["config"]["protocol"] = 7
    with pytest.raises(UserError, match="client lab speaks protocol 7, this server 3"):
        unpack_description(content)


def test_preparation() -> None:
    same(unpack_preparation(pack_preparation(PREPARATION)), PREPARATION)
    assert unpack_preparation(pack_preparation(PREPARATION)).fingerprint == PREPARATION.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ("b", "a")},
        {"loss": "other"},
        {"engine": "torch"},
        {"device": "cuda"},
        {"scaling": dataclasses.replace(SCALING, intercept=False)},
        {"scaling": dataclasses.replace(SCALING, mean=np.array([1.0, np.nextafter(2, 3)]))},
        {"scaling": dataclasses.replace(SCALING, scale=np.array([3.0, 5.0]))},
    ],
)
def test_the_fingerprint_tells_preparations_apart(change: dict) -> None:
    assert dataclasses.replace(PREPARATION, **change).fingerprint != PREPARATION.fingerprint


def test_prepared() -> None:
    assert unpack_prepared(pack_prepared("lab", 3.5, 0.25)) == ("lab", 3.5, 0.25)
