"""What every answer satisfies that a client computed from its own rows: the rest is refused."""

import numpy as np

from common.federation import Client, Federation
from common.solution import Answer, LocalSolution, SolverSettings

RESULTS = ("solved", "inexact", "infeasible")

ROUNDING = 1e-6
"""By how much, relative, rounding may exceed what holds for exact numbers; far more than it does."""


TINY = 1e-300
"""A displacement no longer than this has lost its digits next to the smallest numbers there are."""


def check_question(
    answer: Answer, number: int, centres: int, settings: SolverSettings, name: str | None = None
) -> None:
    """Refuse an answer to another question than was asked.

    Raises
    ------
    ValueError
        Says what is wrong.
    """
    if name is not None and answer.client != name:
        raise ValueError(f"it calls itself '{answer.client}'")
    if answer.number != number:
        raise ValueError(f"it answers the question of round {answer.number}")
    if len(answer.solutions) != centres:
        raise ValueError(f"it holds {len(answer.solutions)} solutions, not one for each of {centres} centres")
    if (parts := max((len(s.parts) for s in answer.solutions), default=0)) > settings.cuts:
        raise ValueError(f"a solution of {parts} parts, where at most {settings.cuts} were asked")
    for solution in answer.solutions:
        if solution.result not in RESULTS or solution.active < 0 or solution.steps < 0:
            told = f"'{solution.result}' with {solution.active} active examples after {solution.steps} steps"
            raise ValueError(f"its solution is {told}")
        if solution.result == "infeasible" and not solution.dual_mass > 0:
            raise ValueError("its data are not separable, it says, and proves it with nothing")


def check_measures(answer: Answer, client: Client, federation: Federation, length: float) -> None:
    """Refuse measures that no model of this length can have on the client's rows.

    ``|z·w| ≤ ‖z‖ ‖w‖``, with the rows' largest norm and number as the handshake found them.

    Raises
    ------
    ValueError
        Says what is wrong.
    """
    measures = answer.measures
    if measures.count != client.count:
        raise ValueError(f"it has {measures.count} examples, and had {client.count} in the handshake")
    if measures.loss < 0:
        raise ValueError(f"its loss is {measures.loss:g}")
    if not 0 <= measures.errors <= measures.count:
        raise ValueError(f"it counts {measures.errors} errors on {measures.count} examples")
    most = (1 + ROUNDING) * federation.reach_of(client.max_norm) * length
    if federation.loss.has_margin and abs(measures.margin) > most:
        raise ValueError(f"its margin is {measures.margin:g}, where no row allows more than {most:g}")


def check_solution(
    solution: LocalSolution, client: Client, federation: Federation, settings: SolverSettings
) -> None:
    """Refuse a displacement that is no ``Zᵀa`` with ``a ≥ 0`` over the client's rows: ``‖Zᵀa‖ ≤ max‖z‖ 1ᵀa``.

    And a mass that the steps asked for cannot add up to: where the loss is nowhere steeper than 1, each adds
    at most ``η``.

    Raises
    ------
    ValueError
        Says what is wrong.
    """
    if not federation.loss.has_margin:
        return
    if solution.active > client.count:
        raise ValueError(f"{solution.active} of its {client.count} examples are active")
    reach = (1 + ROUNDING) * federation.reach_of(client.max_norm)
    for part in solution.parts:
        length = float(np.linalg.norm(part.displacement))
        if not length <= reach * part.dual_mass + TINY:
            raise ValueError(
                f"its displacement has length {length:g}, where a dual mass of {part.dual_mass:g} allows at "
                f"most {reach * part.dual_mass:g}"
            )
    if settings.solver != "projection" and settings.beta and not federation.loss.adaptive:
        most = (1 + ROUNDING) * settings.local_steps * settings.rates(settings.beta)[0]
        if solution.dual_mass > most:
            raise ValueError(
                f"its dual mass is {solution.dual_mass:g}, where its steps allow at most {most:g}"
            )
