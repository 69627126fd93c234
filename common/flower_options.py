"""Flower's built-in strategies that can be run by name, and the options each takes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.errors import UserError

PREFIX = "flower:"


@dataclass(frozen=True)
class Option:
    """What a built-in strategy may be told; ``default`` None is filled in from the federation."""

    default: float | None
    allowed: str
    test: Callable[[float], bool]
    whole: bool = False


def _positive(default: float | None) -> Option:
    return Option(default, "a number > 0", lambda x: x > 0)


def _fraction(default: float) -> Option:
    return Option(default, "a number >= 0 and < 1", lambda x: 0 <= x < 1)


def _count(default: int, least: int) -> Option:
    return Option(default, f"a whole number >= {least}", lambda x: x >= least, whole=True)


_MALICIOUS = {"num_malicious_nodes": _count(0, 0)}
_MOMENTS = {"beta_1": _fraction(0.9), "beta_2": _fraction(0.99)}

BUILT_IN: Mapping[str, Mapping[str, Option]] = {
    "FedAvg": {},
    "FedAvgM": {"server_learning_rate": _positive(1.0), "server_momentum": _fraction(0.9)},
    "FedAdagrad": {"eta": _positive(0.1), "tau": _positive(1e-3)},
    "FedAdam": {"eta": _positive(0.1), **_MOMENTS, "tau": _positive(1e-3)},
    "FedYogi": {"eta": _positive(0.01), **_MOMENTS, "tau": _positive(1e-3)},
    "FedProx": {"proximal_mu": _positive(None)},
    "FedMedian": {},
    "FedTrimmedAvg": {"beta": Option(0.2, "a number >= 0 and < 0.5", lambda x: 0 <= x < 0.5)},
    "Krum": _MALICIOUS,
    "MultiKrum": {**_MALICIOUS, "num_nodes_to_select": _count(1, 1)},
    "Bulyan": _MALICIOUS,
    "QFedAvg": {"q": Option(0.1, "a number >= 0", lambda x: x >= 0), "client_learning_rate": _positive(None)},
}
"""By Flower's class name.  Names and defaults are Flower's own, except the momentum of FedAvgM, whose 0
would make it FedAvg.  Options about who takes part are missing: every client does, in every round."""


def parse_options(name: str, text: str) -> dict[str, float]:
    """Read the options of a built-in strategy from a text such as ``"eta=0.1, beta_1=0.9"``.

    Raises
    ------
    UserError
        For a malformed text, an option that the strategy does not have, or a value that it does not allow.
    """
    options, values = BUILT_IN[name], dict[str, float]()
    for part in filter(None, (" ".join(part.split()) for part in text.split(","))):
        option, equals, value = (word.strip() for word in part.partition("="))
        if not equals:
            raise UserError(f"strategy-options takes NAME=NUMBER, with commas between them, not {part!r}")
        if option not in options:
            known = ", ".join(options) if options else "none"
            raise UserError(
                f"strategy-options: {option!r} is not an option of {PREFIX}{name}; allowed: {known}"
            )
        if option in values:
            raise UserError(f"strategy-options: {option!r} is given twice")
        values[option] = _number(option, value, options[option])
    return values


def _number(name: str, text: str, option: Option) -> float:
    try:
        value = int(text) if option.whole else float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and option.test(value)):
        raise UserError(f"strategy-options: {name} = {text} is not allowed; allowed: {option.allowed}")
    return value
