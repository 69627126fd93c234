"""The configuration: one frozen, validated object, the same for every way of running."""

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.flower_options import BUILT_IN, PREFIX, parse_options
from common.losses import LOSSES

Value = str | int | float | bool

SOLVERS = {
    "local-gd": ("gradient", "projection"),
    "modified-local-gd": ("proximal", "projection"),
    "cutting-plane": ("projection",),
    "consensus": ("projection",),
    **{PREFIX + name: ("gradient", "projection", "proximal") for name in BUILT_IN},
    PREFIX + "FedProx": ("proximal",),
}
"""The solvers each strategy works with; the first is its default."""

MARGIN_FREE_SOLVERS = ("gradient",)
"""The solvers that a loss without margins works with: there is nothing to project on."""


@dataclass(frozen=True)
class Rule:
    """What a key allows: ``parse`` returns the value or raises ``ValueError``."""

    allowed: str
    parse: Callable[[Value], Value]


def one_of(*names: str) -> Rule:
    """Allow one of a few words."""

    def parse(value: Value) -> Value:
        if value not in names:
            raise ValueError
        return value

    return Rule(", ".join(names), parse)


def integer(least: int) -> Rule:
    """Allow a whole number that is at least ``least``."""

    def parse(value: Value) -> Value:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError
        return value

    return Rule(f"a whole number >= {least}", parse)


def number(allowed: str, test: Callable[[float], bool], *words: str) -> Rule:
    """Allow a finite number that passes ``test``, or one of a few words."""

    def parse(value: Value) -> Value:
        if isinstance(value, str) and value in words:
            return value
        if isinstance(value, bool | str) or not math.isfinite(value) or not test(value):
            raise ValueError
        return float(value)

    return Rule(", ".join((*words, allowed)), parse)


def _boolean(value: Value) -> Value:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _text(value: Value) -> Value:
    if not isinstance(value, str):
        raise ValueError
    return value


def _strategy(value: Value) -> Value:
    if isinstance(value, str) and value.startswith(PREFIX) and value not in SOLVERS:
        built_in = (name for name in SOLVERS if name.startswith(PREFIX))
        raise UserError(f"strategy = {value!r} is not allowed; {nearest(value, built_in)}")
    return one_of(*SOLVERS).parse(value)


BOOLEAN = Rule("true, false", _boolean)
TEXT = Rule("a text", _text)


def key(default: Value, rule: Rule) -> Any:
    """Declare a key: its default value and what it allows."""
    return dataclasses.field(default=default, metadata={"rule": rule})


@dataclass(frozen=True)
class Config:
    """Everything that decides a run; keys are written with dashes in files and on the command line.

    Built by `Config.of`, which refuses unknown keys and bad values by name.  An empty text
    means *not given*; ``solver = "auto"`` is replaced by the strategy's default.  The line under a key says
    what it is, for readers and for the table of keys in the documentation.
    """

    strategy: str = key("modified-local-gd", Rule(", ".join(SOLVERS), _strategy))
    """Which algorithm chooses the centres and combines the clients' solutions."""
    strategy_options: str = key("", TEXT)
    """Options of Flower's own strategies, as in eta=0.1, beta_1=0.9."""
    loss: str = key("logistic", one_of(*LOSSES))
    """What is minimised: two classes, several (softmax) or numbers to predict (squared)."""
    solver: str = key("auto", one_of("auto", "gradient", "proximal", "projection"))
    """What a client does with a centre; auto is the strategy's first."""
    engine: str = key("auto", one_of("auto", "numpy", "torch"))
    """What the local solves run on; auto is numpy, and torch where the device is cuda."""
    device: str = key("cpu", one_of("cpu", "cuda"))
    """Where the torch engine computes."""
    num_server_rounds: int = key(100, integer(1))
    """How many rounds at most."""
    local_steps: int = key(100, integer(1))
    """K, the gradient steps of a local solve; exactly so many are taken."""
    learning_rate: str | float = key("auto", number("a number > 0", lambda x: x > 0, "auto", "1/beta"))
    """The step size η; auto is 1/(βK) for gradient and 1/(β+λ) for proximal."""
    regularization: float = key(1e-4, number("a number > 0 and <= 1", lambda x: 0 < x <= 1))
    """λ/β of the proximal solver."""
    batch_size: int = key(0, integer(0))
    """Examples that a gradient step sees (Local-SGD); 0 for all."""
    dataset: str = key("tissue", TEXT)
    """A named data set, or file for the clients' own."""
    data_dir: str = key("", TEXT)
    """With dataset = file in one process: a directory with one file for each client."""
    clients: int = key(6, integer(1))
    """How many clients there are."""
    partition: str = key("dirichlet", one_of("iid", "dirichlet", "label"))
    """How a named data set is dealt out."""
    alpha: float = key(0.3, number("a number > 0", lambda x: x > 0))
    """Concentration of the Dirichlet partition; small is heterogeneous."""
    seed: int = key(0, integer(0))
    """Of the split, the shards and the mini-batches."""
    min_shard: int = key(4, integer(1))
    """The fewest rows that a client is dealt."""
    test_fraction: float = key(0.2, number("a number >= 0 and < 1", lambda x: 0 <= x < 1))
    """The share of a named data set that is held out for testing."""
    test: str = key("", TEXT)
    """A data file to test on, instead of rows held out of a named data set."""
    init: str = key("", TEXT)
    """A model file to start from, or an .npz with weights; from zero if not given."""
    intercept: bool = key(True, BOOLEAN)
    """Whether the model has an intercept."""
    scale: str = key("standard", one_of("none", "max-norm", "standard"))
    """How rows are scaled: by pooled column statistics, by the largest norm, or not."""
    cuts: int = key(4, integer(1))
    """Into how many parts a cutting-plane reply is dealt at most; more parts, fewer rounds."""
    min_active: int = key(1, integer(1))
    """The fewest examples that a projection's reply may be made of."""
    reference: str = key("auto", TEXT)
    """The centralized model to compare with: auto (where all data are here), none, or a model file."""
    stop_at_certified_angle: float = key(0.0, number("degrees >= 0 and < 90", lambda x: 0 <= x < 90))
    """Degrees at which a run stops; 0 runs all rounds."""
    on_missing: str = key("wait", one_of("wait", "reuse", "skip"))
    """What a round does about a client that has not answered: end the run, use its last answer, or go on."""
    round_timeout: float = key(600.0, number("seconds > 0", lambda x: x > 0))
    """Seconds that a round waits for its clients."""
    max_bad_replies: int = key(3, integer(1))
    """With so many refused answers a client is left out; with on-missing = wait that ends the run."""
    checkpoint_every: int = key(10, integer(0))
    """Rounds between two checkpoints; 0 for only the last."""
    tensorboard: bool = key(False, BOOLEAN)
    """Whether to write TensorBoard event files too."""
    out: str = key("", TEXT)
    """The run directory; runs/<time>-<strategy> if not given."""
    resume: str = key("", TEXT)
    """A run directory to go on with, from its newest checkpoint."""
    min_clients: int = key(2, integer(1))
    """The fewest clients to start with once join-timeout is over, and to go on with if some are missing."""
    join_timeout: float = key(300.0, number("seconds > 0", lambda x: x > 0))
    """Seconds that the server waits for its clients."""
    max_message_bytes: int = key(2**30, integer(1))
    """The largest message that `localgd serve` sends or takes."""

    @classmethod
    def of(cls, values: Mapping[str, Value]) -> "Config":
        """Build a configuration from keys written with dashes, such as Flower's run config.

        Raises
        ------
        UserError
            For an unknown key, a bad value, or a solver or option that strategy or loss do not work with.
        """
        for name in values:
            if name not in _RULES:
                raise UserError(f"unknown key {name!r}; {nearest(name, _RULES)}")
        checked: dict[str, Any] = {
            name.replace("-", "_"): _checked(name, value) for name, value in values.items()
        }
        config = cls(**checked)
        if config.built_in:
            parse_options(config.built_in, config.strategy_options)
        elif config.strategy_options:
            raise UserError(
                f"strategy-options goes with {PREFIX}NAME, not with strategy = '{config.strategy}'"
            )
        return dataclasses.replace(config, solver=_solver(config))

    @property
    def built_in(self) -> str:
        """The name of Flower's own strategy where ``strategy`` is one of them, else empty."""
        return self.strategy.removeprefix(PREFIX) if self.strategy.startswith(PREFIX) else ""

    def values(self) -> dict[str, Value]:
        """Return the resolved keys as written in files, in the order of declaration."""
        return {name.replace("_", "-"): value for name, value in dataclasses.asdict(self).items()}


def defaults() -> dict[str, Value]:
    """Return every key with its default, as ``[tool.flwr.app.config]`` lists them."""
    return {f.name.replace("_", "-"): f.default for f in dataclasses.fields(Config)}  # type: ignore[misc]


def read(path: Path, overrides: Iterable[str] = ()) -> dict[str, Value]:
    """Read keys from a TOML file and apply ``KEY=VALUE`` overrides to them.

    Raises
    ------
    UserError
        When the file cannot be read, is not TOML, has a table in it, or an override is malformed.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file in UTF-8") from None
    except (ValueError, RecursionError) as error:  # a number of 5000 digits, brackets 1000 deep
        raise UserError(f"{path} is not valid TOML: {error}") from None
    _check_flat(values, f"{path}: ")
    for text in overrides:
        name, value = _override(text)
        _check_flat({name: value}, f"-c {' '.join(text.split())}: ")
        values[name] = value
    return values


def _check_flat(values: Mapping[str, Any], where: str) -> None:
    for name, value in values.items():
        if not isinstance(value, str | int | float | bool):
            kind = {"dict": "table", "list": "list"}.get(type(value).__name__, "date or a time")
            raise UserError(f"{where}{name!r} is a {kind}; keys are flat, without tables or lists")


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known word is nearest to an unknown one, or list them all."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"allowed: {', '.join(known)}"


def _solver(config: Config) -> str:
    """Return the solver, the strategy's default if none is named; refuse what does not go together."""
    allowed = SOLVERS[config.strategy]
    solver = allowed[0] if config.solver == "auto" else config.solver
    if solver not in allowed:
        raise UserError(
            f"solver = '{solver}' does not go with strategy = '{config.strategy}'; "
            f"allowed: {', '.join(allowed)}"
        )
    if not LOSSES[config.loss].has_margin and solver not in MARGIN_FREE_SOLVERS:
        what = "strategy" if config.solver == "auto" else "solver"
        raise UserError(
            f"{what} = '{getattr(config, what)}' does not go with loss = '{config.loss}', which has no "
            f"margins; allowed: strategy = 'local-gd' with solver = '{MARGIN_FREE_SOLVERS[0]}'"
        )
    if config.batch_size and solver == "projection":
        raise UserError(
            f"batch-size = {config.batch_size} does not go with solver = 'projection', which takes no steps; "
            "allowed: 0"
        )
    return solver


def _override(text: str) -> tuple[str, Any]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise UserError(f"-c takes KEY=VALUE, not {text!r}")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return name, value  # a bare word is a text


def _checked(name: str, value: Value) -> Value:
    rule = _RULES[name]
    try:
        return rule.parse(value)
    except (ValueError, TypeError, OverflowError):
        told = str(value).lower() if isinstance(value, bool) else repr(value)  # as TOML has it
        raise UserError(f"{name} = {told} is not allowed; allowed: {rule.allowed}") from None


_RULES: dict[str, Rule] = {f.name.replace("_", "-"): f.metadata["rule"] for f in dataclasses.fields(Config)}
