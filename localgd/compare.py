"""Several runs of one configuration side by side: which strategy needs how many rounds, bytes and seconds."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from common import virtual
from common.config import SOLVERS, Config, Value
from common.errors import LocalGDError, RunError, UserError, last_line
from localgd.compare_page import PAGE, write_page
from localgd.federations import run_in_process
from localgd.live import handled_by
from localgd.outcomes import Outcome, conclusion, legend, outcome_of, show, write_tables
from localgd.progress import Bar
from server.events import Measured, event_of
from server.report.reading import Row
from server.results import fresh

STRATEGIES = "local-gd,modified-local-gd/projection,cutting-plane"
"""The paper's two algorithms beside the exact one: what is compared where nothing is said."""

TARGET = 0.1
"""Degrees that count as there, where neither the command nor the configuration says."""


@dataclass(frozen=True)
class Plan:
    """The runs in order, the target in degrees, and where the results go; empty for a fresh directory."""

    configs: Sequence[Config]
    target: float
    out: str


def plan(
    values: Mapping[str, Value],
    strategies: str = STRATEGIES,
    solvers: str = "",
    local_steps: str = "",
    seeds: str = "",
    stop: float | None = None,
    alphas: str = "",
) -> Plan:
    """Plan every combination of the words in some lists, with commas between them.

    Parameters
    ----------
    values
        The keys of the configuration; of ``strategy``, ``solver``, ``local-steps`` and ``seed`` the lists
        take the place, where given; so does ``alphas`` of ``alpha``.
    strategies, solvers
        A strategy may name its solver, ``modified-local-gd/projection``; without one it runs with those of
        ``solvers`` that it works with, else with its default.
    local_steps, seeds
        Whole numbers.  With ``projection`` there are no local steps to vary: it runs once.
    alphas
        Numbers: how heterogeneous the Dirichlet shards are.
    stop
        Degrees at which a run stops; None for the configuration's, or `TARGET`; 0 for never.

    Raises
    ------
    UserError
        For the first combination that cannot be.
    """
    # of a configuration whose own strategy and solver may not go with its other keys
    base = Config.of({**values, "strategy": "local-gd", "solver": "auto", "strategy-options": ""})
    configured = base.stop_at_certified_angle or TARGET
    configs: dict[str, Config] = {}
    for alpha, seed, (strategy, solver), steps in itertools.product(
        _numbers("alphas", alphas) or [base.alpha],
        _words("seeds", seeds) or [base.seed],
        list(_pairs(_words("strategies", strategies), _words("solvers", solvers))),
        _words("local-steps", local_steps) or [base.local_steps],
    ):
        own: dict[str, Value] = {"strategy": strategy, "solver": solver, "local-steps": steps}
        own |= {"alpha": alpha, "seed": seed, "out": ""}
        if strategy != values.get("strategy"):
            own["strategy-options"] = ""
        own["stop-at-certified-angle"] = configured if stop is None else stop
        config = Config.of({**values, **own})
        configs.setdefault(directory_name(config), config)
    if not configs:
        raise UserError(f"--strategies takes strategies with commas between them, not '{strategies}'")
    return Plan(list(configs.values()), stop or configured, base.out)


def compare(planned: Plan, console: Console) -> None:
    """Make the runs one after the other in this process; show and write the table and the page of pictures.

    The directory gets ``table.csv``, ``table.md``, ``compare.html`` and each run's own directory.  A run that
    fails does not lose the others: its row says why.

    Raises
    ------
    UserError
        When the directory holds a comparison, or the data cannot be had.
    RunError
        At the end, when a run has failed.
    """
    virtual.shard(planned.configs[0], 0)  # a mistake in the data set shows here, as no run's in particular
    folder = Path(planned.out) if planned.out else fresh(Path("runs"), "compare")
    if (folder / "table.csv").exists():
        raise UserError(f"out = '{folder}' already holds a comparison; choose another directory or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to out = '{folder}': {error.strerror}") from None
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    outcomes: list[Outcome] = []
    names = [directory_name(config) for config in planned.configs]
    try:
        with Bar(sum(config.num_server_rounds for config in planned.configs), console) as bar:
            for name, config in zip(names, planned.configs, strict=True):
                title = f"{len(outcomes) + 1}/{len(names)} {name}"
                bar.begin(title)
                outcome = run_one(config, folder / name, planned.target, measured=bar.measured)
                bar.end(config.num_server_rounds)
                outcomes.append(outcome)
                write_tables(folder, outcomes, planned.target)  # each time: what an interruption leaves
                say(f"{title}: {conclusion(outcome)}")
    finally:
        if outcomes:
            _leave_page(folder, say)
    show(outcomes, planned.target, console)
    say(legend(planned.target))
    say(f"Pictures: {folder / PAGE}. Table: {folder / 'table.md'} and .csv.")
    if failed := [outcome for outcome in outcomes if outcome.failure]:
        raise RunError(f"{len(failed)} of {len(outcomes)} runs failed: {failed[0].failure}")


def _leave_page(folder: Path, say: Callable[[str], None]) -> None:
    """Write the page of what has been run; if that fails, say so and let the table and the runs be."""
    try:
        write_page(folder)
    except Exception as error:
        say(f"no {PAGE}: {error}")


def run_one(
    config: Config,
    path: Path,
    target: float,
    report: Callable[[str], None] = lambda line: None,
    measured: Callable[[Row], None] = lambda row: None,
) -> Outcome:
    """Run one configuration into a directory; tell every line that it logs, and every row."""
    failure = ""
    try:
        with handled_by(_Reporter(report, measured)):
            run_in_process(dataclasses.replace(config, out=str(path)))
    except LocalGDError as error:
        failure = str(error)
    except Exception as error:
        failure = f"{type(error).__name__}: {last_line(str(error))}"
    return outcome_of(config, path, target, failure)


def directory_name(config: Config) -> str:
    """Name a run after what it varies."""
    steps = "" if config.solver == "projection" else f"-K{config.local_steps}"
    alpha = "" if config.alpha == Config.alpha else f"-alpha{config.alpha:g}"
    return f"{config.strategy.replace(':', '-')}-{config.solver}{steps}{alpha}-seed{config.seed}"


def _pairs(strategies: Sequence[Value], solvers: Sequence[Value]) -> Iterator[tuple[Value, Value]]:
    """Yield strategies with solvers; what does not go together passes, for `Config.of` to refuse it."""
    known = sorted({solver for own in SOLVERS.values() for solver in own})
    for solver in solvers:
        if solver not in known:
            raise UserError(f"--solvers: '{solver}' is not allowed; allowed: {', '.join(known)}")
    for word in strategies:
        strategy, slash, solver = str(word).partition("/")
        if slash or not solvers:
            yield strategy, solver or "auto"
            continue
        fitting = [s for s in solvers if s in SOLVERS.get(strategy, ())]
        yield from ((strategy, s) for s in fitting or solvers[:1])


def _words(option: str, text: str) -> list[Value]:
    """Split a list at its commas; whole numbers become numbers."""
    words = [word.strip() for word in text.split(",")] if text else []
    if not all(words):
        raise UserError(f"--{option} takes words with single commas between them, not '{text}'")
    return [int(word) if word.removeprefix("-").isdecimal() else word for word in words]


def _numbers(option: str, text: str) -> list[Value]:
    """Split a list at its commas; what is a number becomes one."""

    def number(word: Value) -> Value:
        try:
            return float(word)
        except ValueError:
            return word

    return [number(word) for word in _words(option, text)]


class _Reporter(logging.Handler):
    """Give every line of a log to one function, and every row that lines carry to another."""

    def __init__(self, report: Callable[[str], None], measured: Callable[[Row], None]) -> None:
        super().__init__()
        self.report, self.measured = report, measured

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a line on."""
        self.report(" ".join(record.getMessage().split()))
        event = event_of(record)
        if isinstance(event, Measured):
            self.measured(event.row)
