import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.problem import Problem
from common.losses import LOSSES, Logistic
from tests.problems import repeatable

loss = Logistic()
MARGINS = st.floats(-700, 700)


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
