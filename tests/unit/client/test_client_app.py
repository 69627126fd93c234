from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict

from client import app as module
from client.memory import Kept, problem_bytes
from common.handshake import (
    Preparation,
    pack_describe,
    pack_preparation,
    unpack_description,
    unpack_prepared,
)
from common.messages import (
    DESCRIBE,
    EVALUATE,
    PREPARE,
    TRAIN,
    UNPREPARED,
    USER_ERROR,
    pack_question,
    unpack_answer,
)
from common.scaling import Scaling
from common.solution import Answer, SolverSettings
from server.grids.in_process import InProcessGrid
from tests.problems import Shard, grid_of, record

SHARD = Shard(np.array([[1.0, 0.0], [0.0, 2.0], [0.0, -2.0]]), np.array([1.0, 1.0, -1.0]))
SCALING = Scaling(np.array([0.0, 1.0]), np.array([1.0, 0.5]), intercept=True)
PREPARATION = Preparation(SCALING, ("-1", "1"))


@pytest.fixture
def grid(tmp_path: Path) -> InProcessGrid:
    return grid_of(tmp_path, [SHARD])


def ask(grid: InProcessGrid, kind: str, content: RecordDict) -> Message:
    [reply] = grid.send_and_receive([Message(content, 1, kind)])
    return reply


def answered(reply: Message, dimension: int = 2) -> Answer:
    assert not reply.has_error(), reply.error
    return unpack_answer(reply.content, (dimension,))


def error_of(reply: Message) -> Error:
    assert reply.has_error()
    return reply.error


def work(weights: object, *centres: np.ndarray, **settings: object) -> RecordDict:
    return pack_question(1, record(np.asarray(weights)), centres, SolverSettings(**settings))  # type: ignore[arg-type]


def from_itself(weights: object, **settings: object) -> RecordDict:
    return work(weights, np.asarray(weights), **settings)


def test_describe(grid: InProcessGrid) -> None:
    found = unpack_description(ask(grid, DESCRIBE, pack_describe("salt", True, "logistic")).content)
    assert (found.name, found.count, found.dimension, found.classes) == ("client-0", 3, 2, ("-1", "1"))


def test_prepare_measures_the_scaled_rows(grid: InProcessGrid) -> None:
    name, norm, beta = unpack_prepared(ask(grid, PREPARE, pack_preparation(PREPARATION)).content)
    rows = SCALING.rows(SHARD.X)
    assert name == "client-0"
    assert norm == pytest.approx(np.linalg.norm(rows, axis=1).max())
    assert beta == pytest.approx(np.linalg.norm(rows, 2) ** 2 / 12)


def test_train_without_a_handshake_takes_rows_as_they_are(grid: InProcessGrid) -> None:
    # K = 1, η = 3 from 0: a = (½, ½, ½), z = (1, 0), (0, 2), (0, 2)
    found = answered(ask(grid, TRAIN, from_itself([0, 0], local_steps=1, learning_rate=3.0)))
    assert found.client == "client-0"
    assert len(found.solutions) == 1
    np.testing.assert_allclose(found.solutions[0].displacement, [0.5, 2.0], rtol=1e-15)
    assert found.solutions[0].dual_mass == 1.5
    assert found.solutions[0].active == 3
    assert (found.measures.margin, found.measures.errors, found.measures.count) == (0, 3, 3)


def test_train_on_prepared_rows(grid: InProcessGrid) -> None:
    ask(grid, PREPARE, pack_preparation(PREPARATION))
    settings = {"local_steps": 1, "learning_rate": 3.0, "norm": 4.0, "preparation": PREPARATION.fingerprint}
    found = answered(ask(grid, TRAIN, from_itself(np.zeros(3), **settings)), 3)
    Z = SCALING.rows(SHARD.X) * SHARD.y[:, None] / 4
    np.testing.assert_allclose(found.solutions[0].displacement, Z.sum(axis=0) / 2, rtol=1e-15)
    # another norm, as in another run of the same process: the rows are made anew
    found = answered(ask(grid, TRAIN, from_itself(np.zeros(3), **settings | {"norm": 2.0})), 3)
    np.testing.assert_allclose(found.solutions[0].displacement, Z.sum(axis=0), rtol=1e-15)


def test_one_solution_per_centre_and_measures_of_the_weights(grid: InProcessGrid) -> None:
    centres = np.array([1.0, 1.0]), np.array([0.0, 0.0])
    found = answered(ask(grid, TRAIN, work([5.0, 5.0], *centres, solver="projection")))
    assert len(found.solutions) == 2
    np.testing.assert_array_equal(found.solutions[0].displacement, [0.0, 0.0])
    np.testing.assert_allclose(found.solutions[1].displacement, [1.0, 0.5])
    assert found.measures.margin == 5.0


def test_no_centres_no_solutions(grid: InProcessGrid) -> None:
    found = answered(ask(grid, TRAIN, work([1.0, -1.0])))
    assert found.solutions == ()
    assert found.measures.margin == -2.0


def test_parts_of_a_projection(grid: InProcessGrid) -> None:
    # onto w₁ ≥ 1 and 2 w₂ ≥ 1 (twice the same): two active examples are never dealt apart
    found = answered(ask(grid, TRAIN, from_itself([0.0, 0.0], solver="projection", cuts=4)))
    [solution] = found.solutions
    assert (len(solution.parts), solution.active) == (1, 2)


def test_cuts_are_for_projections_only(grid: InProcessGrid) -> None:
    settings = {"local_steps": 3, "learning_rate": 1.0}
    found, expected = (
        answered(ask(grid, TRAIN, from_itself([0.0, 0.0], cuts=cuts, **settings))).solutions[0]
        for cuts in (4, 1)
    )
    assert (len(found.parts), found.steps) == (1, 3)
    np.testing.assert_array_equal(found.displacement, expected.displacement)


def test_evaluate_only_measures(grid: InProcessGrid) -> None:
    found = answered(ask(grid, EVALUATE, work([1.0, -1.0])))
    assert found.solutions == ()
    assert (found.measures.margin, found.measures.errors) == (-2.0, 2)


@pytest.mark.parametrize("solver", ["gradient", "proximal", "projection"])
def test_torch_gives_the_same(solver: str, grid: InProcessGrid) -> None:
    pytest.importorskip("torch")
    found, expected = (
        answered(ask(grid, TRAIN, from_itself([0.3, -0.2], solver=solver, engine=engine)))
        for engine in ("torch", "numpy")
    )
    np.testing.assert_allclose(
        found.solutions[0].displacement, expected.solutions[0].displacement, rtol=0, atol=1e-12
    )
    assert found.solutions[0].dual_mass == pytest.approx(expected.solutions[0].dual_mass, rel=1e-12)


def test_labels_0_and_1_will_do(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, [Shard(SHARD.X, (SHARD.y + 1) / 2)])
    assert answered(ask(grid, EVALUATE, work([1.0, -1.0]))).measures.margin == -2.0


@pytest.mark.parametrize("label", [1.0, -1.0, 0.0])
def test_a_single_label_without_a_handshake(label: float, tmp_path: Path) -> None:
    # 1 is the second class beside -1 and beside 0 alike
    grid = grid_of(tmp_path, [Shard(np.array([[2.0]]), np.array([label]))])
    margin = answered(ask(grid, EVALUATE, work([1.0])), 1).measures.margin
    assert margin == (2.0 if label > 0 else -2.0)


def test_other_labels_need_a_handshake(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, [Shard(np.ones((2, 2)), np.array([3.0, 4.0]))])
    error = error_of(ask(grid, TRAIN, work([0.0, 0.0])))
    assert error.code == USER_ERROR
    assert error.reason == "client-0: without a handshake labels must be -1 and 1, or 0 and 1"


def test_a_model_of_another_shape(grid: InProcessGrid) -> None:
    error = error_of(ask(grid, TRAIN, work([0.0, 0.0, 0.0])))
    assert (error.code, error.reason) == (
        USER_ERROR,
        "client-0: the model has shape (3,), the data need (2,)",
    )


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, [SHARD])
    (tmp_path / "client-0.npz").unlink()
    error = error_of(ask(grid, DESCRIBE, pack_describe("salt", True, "logistic")))
    reason = error.reason or ""
    assert error.code == USER_ERROR
    assert "client-0.npz" in reason
    assert "\n" not in reason


def test_unprepared(grid: InProcessGrid) -> None:
    assert error_of(ask(grid, TRAIN, work(np.zeros(3), preparation="f00d"))).code == UNPREPARED
    ask(grid, PREPARE, pack_preparation(PREPARATION))
    assert error_of(ask(grid, TRAIN, work(np.zeros(3), preparation="f00d"))).code == UNPREPARED


def test_a_fresh_process_takes_up_the_preparation_that_its_state_kept(
    grid: InProcessGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Flower may serve each message in another process; the context's state is what lasts
    ask(grid, PREPARE, pack_preparation(PREPARATION))
    content = from_itself(
        np.zeros(3), preparation=PREPARATION.fingerprint, norm=1.5, local_steps=50, learning_rate=1.0
    )
    before = answered(ask(grid, TRAIN, content), 3)
    monkeypatch.setattr(module, "_problems", Kept(2**30, problem_bytes))
    after = answered(ask(grid, TRAIN, content), 3)
    np.testing.assert_array_equal(after.solutions[0].displacement, before.solutions[0].displacement)
    assert after.solutions[0].dual_mass == before.solutions[0].dual_mass


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = grid_of(tmp_path, [SHARD] * 4)
    count, dimension = np.shape(SHARD[0])
    kept = Kept(2 * 8 * (count * dimension + count**2), problem_bytes)  # room for two
    monkeypatch.setattr(module, "_problems", kept)
    arrays = ArrayRecord({"weights": Array(np.zeros(2))})
    for _ in range(2):
        content = pack_question(1, arrays, (), SolverSettings())
        replies = grid.send_and_receive([Message(content, node, TRAIN) for node in grid.get_node_ids()])
        assert not any(reply.has_error() for reply in replies)
        assert len(kept._values) == 2
