import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.problem import Problem
from client.solvers import descend
from common.geometry import ARCCOS_SLACK, Certificate, angle, certified_angle
from common.losses import LOSSES
from common.reference import max_margin
from tests.problems import repeatable, signed_rows

Vector = NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)


def exact(vector: Sequence[float] | Vector) -> list[Fraction]:
    return [Fraction(float(x)) for x in vector]


def dot(u: Sequence[Fraction], v: Sequence[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(u, v, strict=True)), Fraction(0))


def exact_angle(u: Vector, v: Vector) -> float:
    """Degrees, by rational arithmetic up to the last step, which loses no relative precision."""
    a, b = exact(u), exact(v)
    cosine_squared = dot(a, b) ** 2 / (dot(a, a) * dot(b, b))
    sine, cosine = math.sqrt(1 - cosine_squared), math.sqrt(cosine_squared)
    return math.degrees(math.atan2(sine, cosine if dot(a, b) >= 0 else -cosine))


# angle


def test_known_angles() -> None:
    assert angle(np.array([2.0, 0.0]), np.array([0.0, 0.1])) == pytest.approx(90)
    assert angle(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(45)
    assert angle(np.array([1.0, 2.0]), np.array([-3.0, -6.0])) == pytest.approx(180)
    assert angle(np.array([1.0, 2.0]), np.array([4.0, 8.0])) == 0
    assert angle(np.zeros(2), np.ones(2)) == angle(np.ones(2), np.zeros(2)) == 180


@repeatable
@given(SEEDS, st.integers(2, 30), st.floats(-17, 0), st.floats(-50, 50))
def test_angle_is_exact_at_every_size(seed: int, d: int, apart: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(d)
    v = (u + 10.0**apart * rng.standard_normal(d)) * 10.0**scale
    assert angle(u, v) == pytest.approx(exact_angle(u, v), rel=1e-13, abs=1e-13)
    assert angle(u, v) == angle(v, u)
    assert angle(u, -v) == pytest.approx(exact_angle(u, -v), rel=1e-13)


def test_nearly_parallel_vectors_where_arccos_fails() -> None:
    rng = np.random.default_rng(0)
    below = 0
    for _ in range(600):
        u = rng.standard_normal(20)
        v = u + 10.0 ** rng.uniform(-9, -5) * rng.standard_normal(20)
        cosine = float(u @ v) / float(np.linalg.norm(u) * np.linalg.norm(v))
        truth = exact_angle(u, v)
        below += math.degrees(math.acos(min(1.0, cosine))) < truth - 1e-7
        assert abs(angle(u, v) - truth) < 1e-13
    assert below > 10


# certified angle


@pytest.mark.parametrize(
    ("margin", "bound"), [(0.0, 1.0), (-0.1, 1.0), (-math.inf, 1.0), (0.1, math.inf), (math.nan, 1.0)]
)
def test_nothing_is_certified(margin: float, bound: float) -> None:
    assert certified_angle(margin, bound) == 180


def test_known_certified_angles() -> None:
    assert certified_angle(0.5, 1.0) == pytest.approx(60 + ARCCOS_SLACK, abs=1e-12)
    assert certified_angle(1.0, 1.0) == ARCCOS_SLACK
    assert certified_angle(1.0 + 1e-15, 1.0) == ARCCOS_SLACK  # rounding can push the margin above the bound


@repeatable
@given(st.floats(1e-12, 1), st.floats(-17, -0.01))
def test_certified_angle_is_never_below_the_exact_arccos(bound: float, gap: float) -> None:
    margin = bound * (1 - 10.0**gap)
    one_minus = 1 - Fraction(margin) / Fraction(bound)
    truth = math.degrees(2 * math.asin(math.sqrt(one_minus / 2)))  # acos(1 − x) without cancellation
    assert truth <= certified_angle(margin, bound) <= truth + 2 * ARCCOS_SLACK


@repeatable
@given(SEEDS, st.integers(1, 20), st.integers(2, 12), st.floats(-4, 0))
def test_certified_is_at_least_the_true_angle(seed: int, n: int, d: int, margin: float) -> None:
    rng = np.random.default_rng(seed)
    Z = signed_rows(rng, n, d, 10.0**margin)
    reference = max_margin(Z)
    assert reference is not None
    best = reference.weights / np.linalg.norm(reference.weights)
    certificate = Certificate(n, d, 1, 1.0)
    a = np.abs(rng.standard_normal(n))
    certificate = certificate.add([Z.T @ a], [float(a.sum())])
    for far in (0.0, 1e-9, 1e-6, 1e-3, 0.1 * reference.margin):
        w = best + far * rng.standard_normal(d)
        lower = certificate.margin(float((Z @ w).min()), float(np.linalg.norm(w)))
        for bound in (certificate.bound, reference.bound):
            assert certified_angle(lower, bound) + reference.error_deg >= exact_angle(w, best)


# bounds


@repeatable
@given(SEEDS, st.integers(1, 6), st.integers(1, 10), st.integers(2, 12), st.floats(-4, 0))
def test_weak_duality_for_every_subset_of_clients(seed: int, m: int, n: int, d: int, margin: float) -> None:
    rng = np.random.default_rng(seed)
    parts = np.array_split(signed_rows(rng, n * m, d, 10.0**margin), m)
    reference = max_margin(np.vstack(parts))
    assert reference is not None
    duals = [np.maximum(rng.standard_normal(len(part)), 0.0) for part in parts]
    for subset in range(1, 2**m):
        chosen = [i for i in range(m) if subset >> i & 1]
        certificate = Certificate(n, d, m, 1.0).add(
            [parts[i].T @ duals[i] for i in chosen], [float(duals[i].sum()) for i in chosen]
        )
        assert certificate.bound >= reference.margin


@repeatable
@given(SEEDS, st.integers(1, 10), st.integers(2, 12), st.floats(-4, 0))
def test_the_margin_of_any_model_is_a_lower_bound(seed: int, n: int, d: int, margin: float) -> None:
    rng = np.random.default_rng(seed)
    Z = signed_rows(rng, n, d, 10.0**margin)
    reference = max_margin(Z)
    assert reference is not None
    certificate = Certificate(n, d, 1, 1.0)
    for w in (reference.weights, rng.standard_normal(d), 1e100 * Z.sum(axis=0), 1e-100 * Z[0]):
        assert certificate.margin(float((Z @ w).min()), float(np.linalg.norm(w))) <= reference.bound


def cancelling(rng: np.random.Generator, n: int, d: int) -> Vector:
    """Rows that nearly cancel: each beside its opposite, a few of them twice."""
    Z = rng.standard_normal((n, d))
    Z = np.vstack([Z, -Z + 10.0 ** rng.uniform(-15, -4) * rng.standard_normal((n, d)), Z[: n // 2]])
    return Z / np.linalg.norm(Z, axis=1).max()


def test_the_bound_is_rounded_outwards_however_much_cancels() -> None:
    rng = np.random.default_rng(0)
    below = 0
    for case in range(300):
        m, n, d = int(rng.integers(1, 5)), int(rng.integers(1, 9)), int(rng.integers(1, 9))
        parts = [cancelling(rng, n, d) for _ in range(m)]
        size = 10.0 ** rng.uniform(-6, 6)
        duals = []
        for _ in range(m):
            half = size * np.abs(rng.standard_normal(n))
            duals.append(np.concatenate([half, half, np.zeros(n // 2)]))
        displacements = [part.T @ dual for part, dual in zip(parts, duals, strict=True)]
        masses = [float(dual.sum()) for dual in duals]
        largest = max(float(np.linalg.norm(part, axis=1).max()) for part in parts)
        bound = Certificate(max(map(len, parts)), d, m, largest).add(displacements, masses).bound

        mass = sum(sum(exact(dual)) for dual in duals)
        total = [
            sum(
                (dot(exact(part[:, k]), exact(dual)) for part, dual in zip(parts, duals, strict=True)),
                Fraction(0),
            )
            for k in range(d)
        ]
        assert Fraction(bound) ** 2 * mass**2 >= dot(total, total), case
        truth = math.sqrt(dot(total, total) / mass**2)
        assert bound <= truth + 1e-13 * (n + d + m)  # and no more than rounding
        plain = float(np.linalg.norm(np.sum(displacements, axis=0))) / sum(masses)
        below += Fraction(plain) ** 2 * mass**2 < dot(total, total)
    assert below > 30  # without the slack it would be wrong


@repeatable
@given(SEEDS, st.integers(1, 9), st.integers(1, 9), st.floats(-100, 100))
def test_the_margin_is_rounded_outwards(seed: int, n: int, d: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    Z = cancelling(rng, n, d)
    w = 10.0**scale * rng.standard_normal(d)
    lower = Certificate(len(Z), d, 1, 1.0).margin(float((Z @ w).min()), float(np.linalg.norm(w)))
    smallest = min(dot(exact(row), exact(w)) for row in Z)
    square = smallest**2 / dot(exact(w), exact(w))
    signed = square if smallest >= 0 else -square
    assert Fraction(lower) * abs(Fraction(lower)) <= signed
    truth = math.copysign(math.sqrt(square), smallest)
    assert truth - lower <= 1e-14 * (d + 4)


def test_by_hand() -> None:
    # two clients with one example each, (1, 0) and (0, 1): γ* = 1/√2, reached by equal multipliers
    certificate = Certificate(count=1, dimension=2, clients=2, max_norm=1.0)
    first = certificate.add([np.array([1.0, 0.0])], [1.0])
    assert first.bound == pytest.approx(1, abs=1e-14)
    both = first.add([np.array([0.3, 0.0]), np.array([0.0, 0.3])], [0.3, 0.3])
    assert both.bound == pytest.approx(math.sqrt(0.5), abs=1e-14)
    assert certificate.bound == math.inf  # immutable
    worse = both.add([np.array([0.3, 0.0]), np.array([0.0, 0.1])], [0.3, 0.1])
    assert worse.bound == both.bound  # the smallest so far
    assert both.margin(1.0, math.sqrt(2)) == pytest.approx(math.sqrt(0.5), abs=1e-14)


def test_a_round_without_mass_changes_nothing() -> None:
    certificate = Certificate(1, 2, 2, 1.0).add([np.array([0.6, 0.0])], [1.0])
    assert certificate.add([np.zeros(2), np.zeros(2)], [0.0, 0.0]) is certificate
    assert certificate.add([], []) is certificate
    with pytest.raises(ValueError, match="zip"):
        certificate.add([np.zeros(2)], [])


def test_the_zero_model_has_no_margin() -> None:
    assert Certificate(1, 2, 2, 1.0).margin(0.0, 0.0) == -math.inf


# the three bounds on an angle


def random_case(seed: int) -> tuple[Vector, Vector, Vector, Vector]:
    """Separable rows (n, d), a model and a proof of any quality, and the dual that the proof is made of."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 20)), int(rng.integers(2, 12))
    Z = signed_rows(rng, n, d, 10.0 ** rng.uniform(-3, 0))
    dual = np.abs(rng.standard_normal(n)) * (rng.random(n) < rng.uniform(0.1, 1))
    dual[rng.integers(n)] += 0.1
    if rng.random() < 0.5:  # near the best proof: gradient steps on its length
        dual /= dual.sum()
        for _ in range(200):
            dual = np.maximum(dual - 0.3 / n * (Z @ (Z.T @ dual)), 0) + 1e-12
            dual /= dual.sum()
    proof = Z.T @ dual / dual.sum()
    kind = rng.integers(4)
    if kind == 0:
        weights = rng.standard_normal(d)
    elif kind == 1:
        weights = proof * 10.0 ** rng.uniform(-3, 3)
    else:
        reference = max_margin(Z)
        assert reference is not None
        best = reference.weights / np.linalg.norm(reference.weights)
        weights = best + 10.0 ** rng.uniform(-8, 0.3) * rng.standard_normal(d)
    return Z, weights, proof, dual


@repeatable
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_every_bound_is_at_least_the_true_angle(seed: int, known: float) -> None:
    Z, weights, proof, dual = random_case(seed)
    reference = max_margin(Z)
    assert reference is not None
    truth = exact_angle(weights, reference.weights)
    certificate = Certificate(len(Z), Z.shape[1], 1, 1.0).add([Z.T @ dual], [float(dual.sum())])
    margin = certificate.margin(float((Z @ weights).min()), float(np.linalg.norm(weights)))
    tilt = math.radians(angle(weights, proof)) + math.asin(
        min(1.0, 2 * certificate.slack / certificate.bound)
    )
    floor = known * reference.margin - 1e-13
    for what, found in {
        "margin alone": certified_angle(margin, certificate.bound),
        "margin and tilt": certified_angle(margin, certificate.bound, -math.inf, tilt),
        "floor and tilt": certified_angle(-math.inf, certificate.bound, floor, tilt),
        "all three": certificate.reached(floor).angle(weights, margin),
        "a longer bound and tilt": certified_angle(margin, 1.3 * certificate.bound, floor, tilt + 0.2),
    }.items():
        assert found + reference.error_deg >= truth, what


def test_every_bound_is_at_times_the_smallest_and_always_valid() -> None:
    # the same on many more cases, with the certificate as the monitor uses it
    smallest = {"margin": 0, "tilt": 0, "floor": 0}
    for seed in range(600):
        Z, weights, proof, dual = random_case(seed)
        reference = max_margin(Z)
        assert reference is not None
        certificate = Certificate(len(Z), Z.shape[1], 1, 1.0).add([Z.T @ dual], [float(dual.sum())])
        margin = certificate.margin(float((Z @ weights).min()), float(np.linalg.norm(weights)))
        certificate = certificate.reached(0.9 * reference.margin).reached(margin)
        found = certificate.angle(weights, margin)
        assert found + reference.error_deg >= exact_angle(weights, reference.weights), seed
        tilt, floor, bound = math.radians(angle(weights, proof)), certificate.floor, certificate.bound
        bounds = {
            "margin": certified_angle(margin, bound),
            "tilt": certified_angle(margin, bound, -math.inf, tilt),  # never worse than the margin alone
            "floor": certified_angle(-math.inf, bound, floor, tilt),
        }
        assert found == pytest.approx(min(bounds.values()), abs=1e-5)
        smallest[min(bounds, key=bounds.__getitem__)] += 1
    assert min(smallest.values()) >= 10, smallest


@pytest.mark.parametrize("phi", [1e-3, 0.2, 0.7, 1.3])
def test_margin_over_bound_is_attained(phi: float) -> None:
    # one example, its own bound: cos φ = m/U
    z, w = np.array([0.5, 0.0]), np.array([math.cos(phi), math.sin(phi)])
    assert certified_angle(float(z @ w), 0.5) == pytest.approx(math.degrees(phi), abs=1e-5)


@pytest.mark.parametrize("psi", [0.1, 0.4])
@pytest.mark.parametrize("phi", [0.5, 1.0])
def test_margin_and_tilt_are_attained(phi: float, psi: float) -> None:
    # ŵ = (1/γ, 0) of the examples (γ, 0) and (γ, 2γ tan ψ), whose mean is a proof at ψ to ŵ, on the side of
    # w = (1, tan φ)/γ, whose margins are 1 and more; other proofs and models would leave room
    gamma = 0.3
    Z = gamma * np.array([[1.0, 0.0], [1.0, 2 * math.tan(psi)]])
    w, proof = np.array([math.cos(phi), math.sin(phi)]), Z.mean(axis=0)
    margin, bound = float((Z @ w).min()), float(np.linalg.norm(proof))
    assert certified_angle(margin, bound, -math.inf, phi - psi) == pytest.approx(math.degrees(phi), abs=1e-5)
    assert certified_angle(margin, bound) > math.degrees(phi) + 0.1  # the first alone does not see it
    certificate = Certificate(2, 2, 1, 1.0).add([Z.sum(axis=0)], [2.0])
    assert certificate.angle(w, margin) == pytest.approx(math.degrees(phi), abs=1e-5)
    assert certificate.reached(margin).angle(w, margin) == pytest.approx(math.degrees(phi), abs=1e-5)


@pytest.mark.parametrize("phi", [0.5, 1.5, 2.5])
def test_floor_and_tilt_are_attained_whatever_the_margin(phi: float) -> None:
    gamma, psi = 0.3, 0.4  # the proof of the test above, between ŵ and a model of any margin
    Z = gamma * np.array([[1.0, 0.0], [1.0, 2 * math.tan(psi)]])
    w, proof = np.array([math.cos(phi), math.sin(phi)]), Z.mean(axis=0)
    found = certified_angle(-1.0, float(np.linalg.norm(proof)), gamma, phi - psi)
    assert found == pytest.approx(math.degrees(phi), abs=1e-5)
    certificate = Certificate(2, 2, 1, 1.0).add([Z.sum(axis=0)], [2.0])
    assert certificate.angle(w, -1.0) == 180
    assert certificate.reached(gamma).angle(w, -1.0) == pytest.approx(math.degrees(phi), abs=1e-5)
    assert certificate.reached(gamma).angle(np.zeros(2), -1.0) == 180


@repeatable
@given(st.floats(0.01, 1))
def test_a_model_that_is_its_own_proof_is_certified_by_a_square_root(ratio: float) -> None:
    found = certified_angle(ratio, 1.0, -math.inf, 0.0)
    assert found == pytest.approx(math.degrees(math.acos(math.sqrt(ratio))), abs=1e-5)


@repeatable
@given(st.floats(0.01, 1), st.floats(0, 3), st.floats(0, 3), st.floats(0, 1))
def test_to_know_less_never_certifies_more(ratio: float, tilt: float, other: float, share: float) -> None:
    low, high = sorted((tilt, other))
    for floor in (-math.inf, ratio):
        assert certified_angle(ratio, 1.0, floor, low) <= certified_angle(ratio, 1.0, floor, high) + 1e-9
        assert certified_angle(ratio, 1.0, floor, tilt) <= certified_angle(share * ratio, 1.0, floor, tilt)
        assert certified_angle(ratio, 1.0, floor, tilt) <= certified_angle(ratio, 1.0 + share, floor, tilt)


# what a certificate keeps


def test_the_floor_is_the_best_margin_of_any_model() -> None:
    certificate = Certificate(1, 2, 1, 1.0)
    assert certificate.floor == -math.inf
    assert certificate.reached(0.2).reached(0.1).reached(-math.inf).floor == 0.2
    assert certificate.floor == -math.inf  # immutable


def test_the_proof_is_the_mean_whose_length_is_the_bound() -> None:
    certificate = Certificate(3, 2, 2, 1.0).add([np.array([0.6, 0.0]), np.array([0.0, 0.8])], [1.0, 1.0])
    assert certificate.proof is not None
    np.testing.assert_allclose(certificate.proof, [0.3, 0.4], rtol=1e-15)
    assert 0 < certificate.slack < 1e-13
    assert certificate.bound == pytest.approx(0.5, abs=1e-13)
    assert certificate.bound > 0.5
    worse = certificate.add([np.array([0.9, 0.0])], [1.0])
    assert worse.proof is certificate.proof  # kept with the bound that it proves
    better = certificate.add([np.array([[0.3, 0.1]])], [1.0])  # a model of any shape
    assert better.proof is not None
    np.testing.assert_allclose(better.proof, [0.3, 0.1])


def test_rounding_of_a_sum_of_many_rounds_is_heeded() -> None:
    certificate = Certificate(3, 2, 2, 1.0)
    few, many = (certificate.add([np.array([0.5, 0.0])], [1.0], summed) for summed in (0, 10**6))
    assert many.bound - few.bound == pytest.approx(10**6 * 2.0**-52, rel=1e-3)
    # a proof that is rounding has no direction, so nothing is made of its angle
    lost = certificate.add([np.array([1e-17, 0.0])], [1.0])
    assert lost.reached(1e-16).angle(np.array([1.0, 0.0]), -1.0) == 180


# where floating point ends


@pytest.mark.parametrize("name", ["logistic", "exponential"])
@pytest.mark.parametrize("size", [600.0, 650.0, 700.0, 720.0, 735.0, 742.0, 744.9])
def test_pulls_too_small_for_full_precision_prove_nothing(name: str, size: float) -> None:
    # below 1e-308 numbers lose their digits one by one, and with them what Zᵀa says of a
    rng = np.random.default_rng(int(size))
    for _ in range(30):
        n, d = int(rng.integers(1, 5)), int(rng.integers(2, 12))
        Z = signed_rows(rng, n, d, 0.3)
        reference = max_margin(Z)
        assert reference is not None
        centre = reference.weights * size
        found = descend(Problem(Z, LOSSES[name]), centre, 2, 1.0, 0.0)
        certificate = Certificate(n, d, 1, 1.0).add([found.displacement], [found.dual_mass])
        assert certificate.bound >= reference.margin
        assert math.isfinite(certificate.bound) == (found.dual_mass > 1e-280)
        weights = centre + 0.1 * size * rng.standard_normal(d)
        margin = certificate.margin(float((Z @ weights).min()), float(np.linalg.norm(weights)))
        certified = certificate.reached(margin).angle(weights, margin)
        assert certified + reference.error_deg >= exact_angle(weights, reference.weights)


@pytest.mark.parametrize("scale", [-323, -200, -160, -140, 0, 140, 160, 200, 307])
def test_models_of_any_size_are_certified_rightly_or_not_at_all(scale: int) -> None:
    rng = np.random.default_rng(abs(scale))
    for _ in range(30):
        n, d = int(rng.integers(1, 5)), int(rng.integers(2, 12))
        Z = signed_rows(rng, n, d, 0.3)
        reference = max_margin(Z)
        assert reference is not None
        dual = rng.random(n)
        certificate = Certificate(n, d, 1, 1.0).add([Z.T @ dual], [float(dual.sum())])
        certificate = certificate.reached(0.9 * reference.margin)
        plain = reference.weights / np.linalg.norm(reference.weights) + 0.05 * rng.standard_normal(d)
        weights = float(f"1e{scale}") * plain
        with np.errstate(all="ignore"):
            smallest, norm = float((Z @ weights).min()), float(np.linalg.norm(weights))
            margin = certificate.margin(smallest, norm)
            certified = certificate.angle(weights, margin)
        assert margin <= float((Z @ plain).min()) / float(np.linalg.norm(plain))
        assert certified + reference.error_deg >= exact_angle(weights, reference.weights)
        assert (certified == 180) == (abs(scale) > 150)
