"""The local solvers: one signature, ``solve(problem, centre, steps, rate, decay) → LocalSolution``."""

from collections.abc import Callable
from typing import Any

from client.problem import Problem
from client.solvers.descent import descend
from client.solvers.projection import project
from common.solution import LocalSolution

Array = Any
Solver = Callable[[Problem, Array, int, float, float], LocalSolution]

SOLVERS: dict[str, Solver] = {"gradient": descend, "proximal": descend, "projection": project}
"""By configuration name; ``gradient`` is ``proximal`` without decay."""

__all__ = ["SOLVERS", "Solver", "descend", "project"]
