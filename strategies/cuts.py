"""Cuts: what every model with margins of at least 1 satisfies, gathered from the clients' projections."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from common.solution import Answer, Part

Vector = NDArray[np.float64]

IDLE_ROUNDS = 8
"""A cut that has not carried any of the model for this many rounds is dropped."""

NEGLIGIBLE = 1e-13
"""A part that moves its centre's margins by no more than this comes from rounding: it is no cut."""

DUPLICATE = 1e-12
"""A cut that differs from one of the same owner by no more than this, relative to its length, is that cut."""


@dataclass(frozen=True)
class Cut:
    """``normal · w ≥ 1`` for every model ``w``, of the same shape, with margins of at least 1.

    ``owner`` is the client or group of clients it comes from, ``weight`` its multiplier in the model,
    ``idle`` for how many rounds that has been zero.
    """

    owner: int
    normal: Vector
    weight: float = 0.0
    idle: int = 0


def gathered(answers: Sequence[Answer], owner: Callable[[str], int]) -> list[Cut]:
    """Return a cut for each part of each solution, summed over the clients that share an owner.

    A sum of parts is a part: ``(Σ Zᵀa) · w ≥ Σ 1ᵀa``.  Parts are summed that come from the same centre and
    have the same place in their solution.
    """
    together: dict[int, list[Answer]] = {}
    for answer in answers:
        together.setdefault(owner(answer.client), []).append(answer)
    return [
        Cut(owner, part.displacement / part.dual_mass)
        for owner, own in together.items()
        for solutions in zip_longest(*([s.parts for s in answer.solutions] for answer in own), fillvalue=())
        for parts in zip_longest(*solutions)
        if (part := _sum([part for part in parts if part is not None])).dual_mass > 0
        and np.linalg.norm(part.displacement) ** 2 > NEGLIGIBLE * part.dual_mass
    ]


def _sum(parts: Sequence[Part]) -> Part:
    displacements = (part.displacement for part in parts)
    return Part(sum(displacements, np.zeros(())), sum(part.dual_mass for part in parts))


def joined(cuts: Sequence[Cut], fresh: Sequence[Cut]) -> list[Cut]:
    """Return the cuts and the fresh ones; a fresh cut that is there already makes the old one young again."""
    all_of_them = list(cuts)
    places: dict[int, list[int]] = {}
    for k, cut in enumerate(cuts):
        places.setdefault(cut.owner, []).append(k)
    for cut in fresh:
        mine = places.setdefault(cut.owner, [])
        same = next((k for k in mine if is_same(all_of_them[k].normal, cut.normal)), None)
        if same is None:
            mine.append(len(all_of_them))
            all_of_them.append(cut)
        else:
            all_of_them[same] = replace(all_of_them[same], idle=0)
    return all_of_them


def is_same(first: Vector, second: Vector) -> bool:
    """Tell whether two normals differ by rounding only."""
    return bool(np.linalg.norm(first - second) <= DUPLICATE * np.linalg.norm(first))


def weighed(cuts: Sequence[Cut], weights: Vector) -> tuple[Cut, ...]:
    """Return the cuts with new multipliers, without those that have long been idle."""
    fresh = (
        replace(cut, weight=float(weight), idle=0 if weight > 0 else cut.idle + 1)
        for cut, weight in zip(cuts, weights, strict=True)
    )
    return tuple(cut for cut in fresh if cut.idle < IDLE_ROUNDS)
