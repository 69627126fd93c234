import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.multiclass import MultiClass
from client.problem import Problem
from common.losses import LOSSES, Exponential, Logistic, Softmax, Squared
from tests.problems import repeatable

loss, exponential, softmax, squared = Logistic(), Exponential(), Softmax(), Squared()
MARGINS = st.floats(-700, 700)


# logistic


def exact_value(u: float) -> float:
    with localcontext(prec=400) as context:
        return float(context.ln(1 + context.exp(-Decimal(u))))


def exact_mass(u: float) -> float:
    with localcontext(prec=400) as context:
        return float(1 / (1 + context.exp(Decimal(u))))


def test_known_numbers() -> None:
    margins = np.array([0.0, 1.0, -1.0])
    np.testing.assert_allclose(loss.value(margins), [0.693147180559945, 0.313261687518223, 1.313261687518223])
    np.testing.assert_allclose(loss.pull(margins), [0.5, 0.268941421369995, 0.731058578630005])
    assert LOSSES["logistic"] == loss


@repeatable
@given(MARGINS)
def test_value_and_mass_are_exact_to_rounding(u: float) -> None:
    margins = np.array([u])
    assert loss.value(margins)[0] == pytest.approx(exact_value(u), rel=1e-15, abs=0)
    assert loss.pull(margins)[0] == pytest.approx(exact_mass(u), rel=1e-15, abs=0)


def test_the_tail_keeps_its_relative_precision() -> None:
    # 1 − sigmoid(u) would be exactly 0 from u = 37 on, and the mass of the certificate with it
    assert loss.pull(np.array([700.0]))[0] == pytest.approx(9.85967654375977e-305, rel=1e-14)
    assert loss.value(np.array([700.0]))[0] == pytest.approx(9.85967654375977e-305, rel=1e-14)


@pytest.mark.parametrize("size", [709.0, 710.0, 746.0, 1e4, 1e100, 1e308])
def test_no_margin_overflows(size: float) -> None:
    # a warning of numpy's would fail this test
    margins = np.array([size, -size])
    with np.errstate(over="raise", invalid="raise"):
        value, mass = loss.value(margins), loss.pull(margins)
    assert value[1] == size
    assert 0 <= value[0] <= 1.3e-308
    assert mass[1] == 1
    assert 0 <= mass[0] <= 1.3e-308


@repeatable
@given(st.floats(-30, 30))
def test_mass_is_minus_the_derivative(u: float) -> None:
    h = 1e-5
    below, above = loss.value(np.array([u - h, u + h]))
    assert loss.pull(np.array([u]))[0] == pytest.approx((below - above) / (2 * h), rel=1e-5, abs=1e-9)


@repeatable
@given(st.floats(-1e308, 1e308), st.floats(-1e308, 1e308))
def test_both_fall_with_the_margin_and_are_not_negative(u: float, v: float) -> None:
    low, high = sorted((u, v))
    value, mass = loss.value(np.array([low, high])), loss.pull(np.array([low, high]))
    assert value[0] >= value[1] >= 0
    assert mass[0] >= mass[1] >= 0


def test_gradient_against_autograd() -> None:
    torch = pytest.importorskip("torch")
    margins = torch.linspace(-40, 40, 401, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.softplus(-margins, threshold=1e9).sum().backward()
    plain = margins.detach()
    torch.testing.assert_close(loss.pull(plain), -margins.grad, rtol=1e-13, atol=0)
    np.testing.assert_allclose(loss.pull(plain).numpy(), loss.pull(plain.numpy()), rtol=1e-15)
    np.testing.assert_allclose(loss.value(plain).numpy(), loss.value(plain.numpy()), rtol=1e-15)


@repeatable
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 999), st.floats(0, 3))
def test_smoothness_bounds_the_hessian(n: int, d: int, seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    Z, w = rng.standard_normal((n, d)), size * rng.standard_normal(d)
    mass = loss.pull(Z @ w)
    hessian = (Z.T * (mass * (1 - mass))) @ Z / n
    bound = Problem(Z, loss).beta
    assert np.linalg.eigvalsh(hessian)[-1] <= bound * (1 + 1e-12)
    at_zero = np.linalg.eigvalsh(Z.T @ Z / (4 * n))[-1]  # where the bound is attained
    assert bound == pytest.approx(at_zero, rel=1e-9)
    assert math.isfinite(bound)


# exponential


def test_exponential_known_numbers() -> None:
    margins = np.array([0.0, 1.0, -1.0, 700.0])
    expected = [1.0, 0.367879441171442, 2.718281828459045, 9.85967654375977e-305]
    np.testing.assert_allclose(exponential.value(margins), expected, rtol=1e-14)
    np.testing.assert_array_equal(exponential.pull(margins), exponential.value(margins))
    assert LOSSES["exponential"] == exponential


@pytest.mark.parametrize("size", [700.0, 710.0, 1e3, 1e100, 1e308])
def test_no_exponential_overflows_nor_does_a_sum_of_many(size: float) -> None:
    margins = np.full(10**5, -size)
    margins[0] = size
    with np.errstate(over="raise", invalid="raise"):
        value, pull = exponential.value(margins), exponential.pull(margins)
        assert math.isfinite(value.sum())
    assert value[1] == pytest.approx(1e300, rel=1e-12)
    assert pull[1] == value[1]
    assert 0 <= value[0] <= 1e-304


@repeatable
@given(st.floats(-690, 690))
def test_the_exponential_is_its_own_pull_and_curvature(u: float) -> None:
    with localcontext(prec=400) as context:
        exact = float(context.exp(-Decimal(u)))
    assert exponential.pull(np.array([u]))[0] == pytest.approx(exact, rel=1e-13, abs=0)
    below, above = exponential.value(np.array([u - 1e-5, u + 1e-5]))
    assert exponential.pull(np.array([u]))[0] == pytest.approx((below - above) / 2e-5, rel=1e-5)


@repeatable
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 999), st.floats(0, 5))
def test_the_exponentials_hessian_is_at_most_its_value_times_the_longest_row(
    n: int, d: int, seed: int, size: float
) -> None:
    rng = np.random.default_rng(seed)
    Z, w = rng.standard_normal((n, d)), size * rng.standard_normal(d)
    problem = Problem(Z, exponential)
    steepness = problem.steepness(Z @ w)
    hessian = (Z.T * np.exp(-Z @ w)) @ Z / n
    assert np.linalg.eigvalsh(hessian)[-1] <= steepness * (1 + 1e-12)
    assert steepness == pytest.approx(problem.max_norm**2 * problem.measure(w).loss, rel=1e-14)
    assert problem.smoothness() == pytest.approx(problem.max_norm**2)  # … at zero, where the value is 1
    # nothing to heed where the curvature is bounded as it is
    assert Problem(Z, Logistic()).steepness(Z @ w) == 0


# softmax


def test_softmax_known_numbers() -> None:
    # three classes with equal scores; then the own one ahead by 1 and 2: ln(1 + e⁻¹ + e⁻²)
    margins = np.array([[0.0, 0.0], [1.0, 2.0], [-1.0, 0.0]])
    expected = [1.098612288668110, 0.407605964444380, 1.551444713932051]
    np.testing.assert_allclose(softmax.value(margins), expected, rtol=1e-14)
    pulls = [[1 / 3, 1 / 3], [0.244728471054798, 0.090030573170381], [0.576116884765829, 0.211941557617086]]
    np.testing.assert_allclose(softmax.pull(margins), pulls, rtol=1e-14)
    assert LOSSES["softmax"] == softmax


@repeatable
@given(MARGINS)
def test_softmax_of_two_classes_is_logistic(u: float) -> None:
    one, two = np.array([u]), np.array([[u]])
    np.testing.assert_allclose(softmax.value(two), loss.value(one), rtol=1e-14)
    np.testing.assert_allclose(softmax.pull(two)[:, 0], loss.pull(one), rtol=1e-14)


@pytest.mark.parametrize("size", [37.0, 700.0, 746.0, 1e3, 1e100, 8e307])
def test_no_softmax_overflows(size: float) -> None:
    margins = np.array([[size, size], [-size, size], [-size, -size], [0.0, -size]])
    with np.errstate(over="raise", invalid="raise"):
        value, pull = softmax.value(margins), softmax.pull(margins)
    expected = np.array([2 * math.exp(-size), size, size + math.log(2), size])
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    sure = np.array([[1, 0], [0.5, 0.5], [0, 1]])
    np.testing.assert_allclose(pull[1:], sure, rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(pull[0], np.full(2, math.exp(-size)), rtol=1e-13)  # the tail keeps its digits


@repeatable
@given(st.integers(0, 999), st.integers(2, 6), st.floats(0, 300))
def test_softmax_pulls_with_probabilities(seed: int, classes: int, size: float) -> None:
    margins = size * np.random.default_rng(seed).standard_normal((5, classes - 1))
    pull = softmax.pull(margins)
    assert (pull >= 0).all()
    assert (pull.sum(axis=1) <= 1 + 1e-15).all()
    for j, c in np.ndindex(margins.shape):
        step = np.zeros_like(margins)
        step[j, c] = 1e-5
        slope = (softmax.value(margins - step) - softmax.value(margins + step))[j] / 2e-5
        assert pull[j, c] == pytest.approx(slope, rel=1e-4, abs=1e-8 * (1 + size))


@repeatable
@given(st.integers(1, 6), st.integers(1, 5), st.integers(2, 5), st.integers(0, 999), st.floats(0, 3))
def test_softmax_smoothness_bounds_the_hessian(n: int, d: int, classes: int, seed: int, size: float) -> None:
    # in the scores of one example the Hessian is diag(p) − ppᵀ, whose norm is at most 1/2
    rng = np.random.default_rng(seed)
    X, labels = rng.standard_normal((n, d)), rng.integers(0, classes, n)
    W = size * rng.standard_normal((classes, d))
    problem = MultiClass(X, softmax, labels, classes)
    p = problem.pulls(softmax.pull(problem.forward(W))) * np.where(problem.own, -1.0, 1.0)
    p[problem.own] += 1  # the pull of the own class is 1 − p, of the others −p
    p = np.abs(p)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    hessian = np.zeros((classes * d, classes * d))
    for x, share in zip(X, p, strict=True):
        curvature = np.diag(share) - np.outer(share, share)
        assert np.linalg.eigvalsh(curvature)[-1] <= 0.5 + 1e-12
        hessian += np.kron(curvature, np.outer(x, x)) / n
    assert np.linalg.eigvalsh(hessian)[-1] <= problem.beta * (1 + 1e-12)


def test_half_is_attained() -> None:
    # two classes with equal scores: diag(p) − ppᵀ has the eigenvalue 1/2, and so β = ‖x‖²/2 is the curvature
    problem = MultiClass(np.array([[2.0]]), softmax, np.array([0]), 2)
    t = 1e-3
    up, middle, down = (problem.measure(np.array([[s], [-s]]) / math.sqrt(2)).loss for s in (t, 0.0, -t))
    assert (up - 2 * middle + down) / t**2 == pytest.approx(problem.beta, rel=1e-5)


# squared


def test_squared_known_numbers() -> None:
    residuals = np.array([0.0, 3.0, -4.0])
    np.testing.assert_array_equal(squared.value(residuals), [0.0, 4.5, 8.0])
    np.testing.assert_array_equal(squared.pull(residuals), [0.0, -3.0, 4.0])
    assert LOSSES["squared"] == squared
    assert not squared.has_margin


@repeatable
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 999))
def test_squared_smoothness_is_the_largest_eigenvalue(n: int, d: int, seed: int) -> None:
    X = np.random.default_rng(seed).standard_normal((n, d))
    problem = Problem(X, squared, offset=np.zeros(n))
    assert problem.beta == pytest.approx(np.linalg.eigvalsh(X.T @ X / n)[-1], rel=1e-10)


# all


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_pull_against_autograd(name: str) -> None:
    torch = pytest.importorskip("torch")
    chosen = LOSSES[name]
    margins = torch.linspace(-40, 40, 400, dtype=torch.float64)
    margins = margins.reshape(100, 4) if name == "softmax" else margins
    margins.requires_grad_(True)
    chosen.value(margins).sum().backward()
    plain = margins.detach()
    torch.testing.assert_close(chosen.pull(plain), -margins.grad, rtol=1e-12, atol=1e-300)
    for of in (chosen.value, chosen.pull):  # and the two array namespaces agree
        np.testing.assert_allclose(of(plain).numpy(), of(plain.numpy()), rtol=1e-14)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_value_for_each_example_and_a_pull_for_each_margin(name: str) -> None:
    margins = np.linspace(-2, 2, 12).reshape((4, 3) if name == "softmax" else 12)
    assert LOSSES[name].value(margins).shape == margins.shape[:1]
    assert LOSSES[name].pull(margins).shape == margins.shape
