"""The ServerApp: configuration, handshake, rounds, results."""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from logging import INFO, WARNING
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.common.logger import FLOWER_LOGGER, log
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

from common import interrupts, virtual
from common.config import Config
from common.errors import LocalGDError, NotSeparable, RunError
from common.federation import Federation
from common.flower_options import parse_options
from common.model import Model
from common.reference import Reference
from common.solution import SolverSettings
from server import checkpoint, tensorboard
from server.checkpoint import Checkpoint, Checkpoints, Origin
from server.events import Began, Ended, Measured, tell
from server.grids import StandaloneGrid
from server.grids.in_process import InProcessGrid
from server.grids.polling import PollingGrid
from server.handshake import handshake, rejoin
from server.inputs import (
    find_reference,
    held_out_score,
    initial_weights,
    simulated_nodes,
    wait_for_nodes,
)
from server.lines import HEADER, Row, conclusion, line
from server.monitor import Monitor, StopAtCertifiedAngle, StopIfNotSeparable
from server.report import PAGE, leave_report
from server.results import RunDirectory, check_out
from server.tensorboard import EventFile
from strategies import Consensus, CuttingPlane, LocalGD, LocalSolveStrategy, ModifiedLocalGD, Policy
from strategies.flower_by_name import by_name

Vector = NDArray[np.float64]
STRATEGIES: dict[str, type[LocalSolveStrategy[Any]]] = {
    "local-gd": LocalGD,
    "modified-local-gd": ModifiedLocalGD,
    "cutting-plane": CuttingPlane,
    "consensus": Consensus,
}

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation that the run config describes, over whichever grid."""
    if not isinstance(grid, StandaloneGrid):
        log_user_errors_as_lines()
        grid = PollingGrid(grid)
    config = Config.of(context.run_config)
    earlier = checkpoint.earlier(config)
    check_out(config)
    tensorboard.check(config.tensorboard)
    federation = meet(grid, config, earlier)
    strategy = build_strategy(config, federation)
    rates = strategy.settings.rates(strategy.settings.beta)
    score = held_out_score(config, federation)
    initial = initial_weights(config, federation)
    reference = find_reference(config, federation, all_data_here(grid, config) and not federation.absent)
    interrupts.heed()

    directory = RunDirectory(config, rows=max(earlier.number - 1, 0) if earlier else 0)
    if isinstance(grid, PollingGrid):  # nobody knows the directory that Flower has started this process in
        log(INFO, "the results go to %s", directory.path.absolute())
    directory.write_handshake(federation, rates)
    done = earlier.number if earlier else 0
    may_stop = config.stop_at_certified_angle > 0
    tell(
        describe(config, federation, rates, reference),
        Began(config.num_server_rounds, done, len(federation.clients), may_stop),
    )
    if earlier:
        log(INFO, "going on from the checkpoint of round %d", earlier.number)
    if federation.absent:
        names = ", ".join(federation.absent)
        log(WARNING, "not here: %s; on-missing = %s: it begins without", names, config.on_missing)
    log(INFO, HEADER)

    event_file = EventFile(directory.path, max(done - 1, 0), config.tensorboard)

    def write(row: Row) -> None:
        directory.write_row(row)
        event_file.write(row)
        tell(line(row), Measured(row))

    monitor = Monitor(federation, write, reference, score)
    callbacks = [monitor, StopAtCertifiedAngle(monitor, config.stop_at_certified_angle)]
    if config.solver == "projection":  # gradient steps go on to the loss's own minimiser
        callbacks.append(StopIfNotSeparable(monitor))
    since = (earlier.number, earlier.state) if earlier else None
    began = time.perf_counter() - (earlier.seconds if earlier else 0)
    checkpoints = Checkpoints(
        directory.path / "checkpoint",
        config.checkpoint_every,
        strategy,
        monitor,
        Origin(config.values(), federation),
        began,
        directory.sync,
    )
    if earlier:
        monitor.resume(earlier.monitor)
    if not config.built_in:
        callbacks.append(checkpoints)
        checkpoints.begin(*since or (0, strategy.init(initial)))
    try:
        result = strategy.start(
            grid,
            ArrayRecord({"weights": Array(initial)}),
            config.num_server_rounds,
            timeout=config.round_timeout,
            callbacks=callbacks,
            since=since,
            last=earlier.last if earlier else None,
            policy=Policy(config.on_missing, config.min_clients, config.max_bad_replies),
        )
        checkpoints.write()
        models = _weights(result.arrays), monitor.best[2] if monitor.best else initial
        classes = federation.preparation.classes
        directory.write_models(
            *(Model.of(weights, federation.scaling, classes, federation.columns) for weights in models)
        )
        directory.write_summary(summary(config, monitor, refused(strategy, grid), strategy.stopped_by, began))
    except BaseException as error:
        checkpoints.write()
        stopped_by = next((word for kind, word in _REASONS.items() if isinstance(error, kind)), "failed")
        if stopped_by == "interrupted" and not config.built_in:
            log(INFO, "interrupted; --resume %s goes on from round %d", directory.path, checkpoints.number)
        try:
            directory.write_summary(
                summary(config, monitor, refused(strategy, grid), stopped_by, began)
                | {"error": str(error) or repr(error)}
            )
        except RunError as unwritten:  # what ended the run is what matters
            log(WARNING, "%s", unwritten)
        event_file.close()
        leave_report(directory.path)
        if isinstance(error, LocalGDError):
            raise type(error)(f"{error} (see {directory.path})") from error
        raise
    event_file.close()
    leave_report(directory.path)
    assert monitor.last is not None
    said = f"after round {monitor.last['round']}: {conclusion(monitor.last)}; results in {directory.path}"
    tell(f"{said}, shown by {PAGE}", Ended(directory.path))


def meet(grid: Grid, config: Config, earlier: Checkpoint | None) -> Federation:
    """Wait for the clients and agree with them; a run that goes on finds those that it had."""
    before = earlier.origin.federation if earlier else None
    if isinstance(grid, PollingGrid) and grid.simulated:
        nodes = simulated_nodes(grid, config)
    elif isinstance(grid, InProcessGrid):
        nodes = wait_for_nodes(grid, virtual.count(config), config)
    else:
        nodes = wait_for_nodes(grid, len(before.clients) if before else config.clients, config)
    if before:
        return rejoin(grid, nodes, before, config.on_missing, config.round_timeout)
    settings = solver_settings(config)
    return handshake(grid, nodes, settings, config.intercept, config.scale, config.round_timeout)


def all_data_here(grid: Grid, config: Config) -> bool:
    """Tell whether this process can read all clients' data.

    A simulation's clients may run on other machines: only a named data set is sure to be here too.
    """
    simulated = isinstance(grid, PollingGrid) and grid.simulated
    return isinstance(grid, InProcessGrid) or (simulated and config.dataset != "file")


def log_user_errors_as_lines() -> None:
    """Let Flower log an error that a person can mend as one line, without the traceback.

    Flower logs whatever ends a ServerApp with its traceback.  It has to be an exception all the same: after
    a `SystemExit` a simulation counts as completed.
    """
    if not any(isinstance(old, OneLine) for old in FLOWER_LOGGER.filters):
        FLOWER_LOGGER.addFilter(OneLine())


class OneLine(logging.Filter):
    """Turn the record of a `LocalGDError` into its one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, LocalGDError):
            record.msg, record.args, record.exc_info = str(error), (), None
        return True


def solver_settings(config: Config) -> SolverSettings:
    """Take what the clients need to know from the configuration."""
    return SolverSettings(
        solver=config.solver,
        loss=config.loss,
        local_steps=config.local_steps,
        learning_rate=config.learning_rate,
        regularization=config.regularization,
        engine=config.engine,
        device=config.device,
        batch_size=config.batch_size,
        seed=config.seed,
        cuts=config.cuts if config.strategy == "cutting-plane" else 1,
        min_active=config.min_active,
    )


def build_strategy(config: Config, federation: Federation) -> LocalSolveStrategy[Any]:
    """Return the strategy of the configuration: one of this project's, or one of Flower's own."""
    settings = solver_settings(config)
    if config.built_in:
        options = parse_options(config.built_in, config.strategy_options)
        return by_name(config.built_in, options, settings, federation)
    return STRATEGIES[config.strategy](settings=settings, federation=federation)


def describe(
    config: Config, federation: Federation, rates: tuple[float, float], reference: Reference | None
) -> str:
    """Say in one line what is about to run."""
    rows = sum(client.count for client in federation.clients)
    steps = (
        "" if config.solver == "projection" else f", K = {config.local_steps}, learning rate {rates[0]:.4g}"
    )
    margin = (
        f", best margin {reference.margin:.5f}" if reference and reference.margin == reference.margin else ""
    )
    return (
        f"{config.strategy} with {config.solver}{steps}: {len(federation.clients)} clients, {rows} examples, "
        f"{federation.size} weights{margin}"
    )


def refused(strategy: LocalSolveStrategy[Any], grid: Grid) -> Mapping[str, int]:
    """Return how many answers of each client were refused, by the strategy or by the transport."""
    return Counter(strategy.refused) + Counter(grid.offences() if hasattr(grid, "offences") else {})


def summary(
    config: Config, monitor: Monitor, refused: Mapping[str, int], stopped_by: str, began: float
) -> dict[str, object]:
    """Return how the run ended."""
    return {
        "strategy": config.strategy,
        "rounds": monitor.last["round"] if monitor.last else 0,
        "stopped_by": stopped_by,
        "final": monitor.last,
        "refused": refused,
        "best_round": monitor.best[1]["round"] if monitor.best else None,
        "seconds": time.perf_counter() - began,
    }


def _weights(arrays: ArrayRecord) -> Vector:
    return np.asarray(arrays["weights"].numpy(), np.float64)


_REASONS: dict[type[BaseException], str] = {
    NotSeparable: "not-separable",
    KeyboardInterrupt: "interrupted",
    SystemExit: "interrupted",  # SIGTERM
}
