"""Flower's built-in strategies by name, with options."""

from collections.abc import Mapping
from typing import Any

from flwr.serverapp import strategy as flower

from common.errors import UserError
from common.federation import Federation
from common.flower_options import BUILT_IN, PREFIX
from common.solution import SolverSettings
from strategies.flower import BuiltIn


def by_name(
    name: str, options: Mapping[str, float], settings: SolverSettings, federation: Federation
) -> BuiltIn:
    """Return one of Flower's strategies, ready for a federation.

    Parameters
    ----------
    name
        Flower's class name, a key of `BUILT_IN`.
    options
        Checked by `parse_options`; the rest are defaults.  Where FedProx has no ``proximal_mu`` it is
        ``λ = regularization · β``; where QFedAvg has no ``client_learning_rate`` it is the step that the
        clients take.

    Raises
    ------
    UserError
        When the federation has too few clients for it.
    """
    defaults = {option: known.default for option, known in BUILT_IN[name].items()}
    values: dict[str, Any] = defaults | dict(options)
    settings = federation.settings(settings)
    if name == "FedProx" and values["proximal_mu"] is None:
        values["proximal_mu"] = settings.regularization * settings.beta
    if name == "QFedAvg" and values["client_learning_rate"] is None:
        values["client_learning_rate"] = settings.rates(settings.beta)[0]
    least, why = _least_clients(values, name)
    if len(federation.clients) < least:
        raise UserError(
            f"strategy = '{PREFIX}{name}' needs {least} clients{why}, not {len(federation.clients)}"
        )
    return BuiltIn(getattr(flower, name)(**values), settings, federation)


def _least_clients(values: Mapping[str, Any], name: str) -> tuple[int, str]:
    """Return how many clients a strategy is defined for, and which option asks for them."""
    malicious = values.get("num_malicious_nodes", 0)
    why = f" with num_malicious_nodes = {malicious}"
    if name == "Bulyan":
        return 4 * malicious + 3, why
    selected = values.get("num_nodes_to_select", 1)
    if malicious and 2 * malicious + 3 >= selected:  # Blanchard et al. 2017
        return 2 * malicious + 3, why
    return selected, f" with num_nodes_to_select = {selected}"
