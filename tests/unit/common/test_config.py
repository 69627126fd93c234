import tomllib
from pathlib import Path

import pytest
import tomli_w

from common.config import SOLVERS, Config, defaults, nearest, read
from common.errors import UserError


def test_defaults_are_allowed_and_written_with_dashes() -> None:
    values = defaults()
    assert values["num-server-rounds"] == 100
    assert not any("_" in name for name in values)
    config = Config.of(values)
    assert config.solver == "proximal"
    assert config.values() == values | {"solver": "proximal"}


def test_values_survive_a_file(tmp_path: Path) -> None:
    config = Config.of({"strategy": "local-gd", "learning-rate": 0.5, "intercept": False, "alpha": 1})
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(config.values()), encoding="utf-8")
    assert Config.of(read(path)) == config


@pytest.mark.parametrize("strategy", SOLVERS)
def test_auto_is_the_first_solver_of_the_strategy(strategy: str) -> None:
    assert Config.of({"strategy": strategy}).solver == SOLVERS[strategy][0]
    for solver in SOLVERS[strategy]:
        assert Config.of({"strategy": strategy, "solver": solver}).solver == solver


@pytest.mark.parametrize(
    ("strategy", "solver"), [("local-gd", "proximal"), ("modified-local-gd", "gradient")]
)
def test_a_solver_that_does_not_go_with_the_strategy(strategy: str, solver: str) -> None:
    with pytest.raises(UserError) as caught:
        Config.of({"strategy": strategy, "solver": solver})
    assert str(caught.value) == (
        f"solver = '{solver}' does not go with strategy = '{strategy}'; "
        f"allowed: {', '.join(SOLVERS[strategy])}"
    )


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        Config.of({"local-step": 3})
    assert str(caught.value) == "unknown key 'local-step'; did you mean 'local-steps'?"
    with pytest.raises(UserError, match="unknown key 'local_steps'"):
        Config.of({"local_steps": 3})


def test_nearest() -> None:
    assert nearest("tisue", ["tissue", "digits"]) == "did you mean 'tissue'?"
    assert nearest("zzz", ["tissue", "digits"]) == "allowed: tissue, digits"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("strategy", "fedavg", ", ".join(SOLVERS)),
        ("loss", 1, "logistic, exponential, softmax, squared"),
        ("solver", "newton", "auto, gradient, proximal, projection"),
        ("engine", "jax", "auto, numpy, torch"),
        ("device", "tpu", "cpu, cuda"),
        ("num-server-rounds", 0, "a whole number >= 1"),
        ("local-steps", 1.0, "a whole number >= 1"),
        ("local-steps", "10", "a whole number >= 1"),
        ("clients", True, "a whole number >= 1"),
        ("seed", -1, "a whole number >= 0"),
        ("learning-rate", 0, "auto, 1/beta, a number > 0"),
        ("learning-rate", -0.1, "auto, 1/beta, a number > 0"),
        ("learning-rate", "fast", "auto, 1/beta, a number > 0"),
        ("learning-rate", float("nan"), "auto, 1/beta, a number > 0"),
        ("learning-rate", float("inf"), "auto, 1/beta, a number > 0"),
        ("learning-rate", True, "auto, 1/beta, a number > 0"),
        ("regularization", 1.5, "a number > 0 and <= 1"),
        ("regularization", 0.0, "a number > 0 and <= 1"),
        ("alpha", 0, "a number > 0"),
        ("test-fraction", 1.0, "a number >= 0 and < 1"),
        ("intercept", "true", "true, false"),
        ("cuts", 0, "a whole number >= 1"),
        ("intercept", 1, "true, false"),
        ("dataset", 3, "a text"),
        ("scale", "minmax", "none, max-norm, standard"),
        ("stop-at-certified-angle", 90, "degrees >= 0 and < 90"),
        ("round-timeout", 0, "seconds > 0"),
    ],
)
def test_a_bad_value_says_what_is_allowed(name: str, value: str | float, allowed: str) -> None:
    with pytest.raises(UserError) as caught:
        Config.of({name: value})
    told = "true" if value is True else repr(value)
    assert str(caught.value) == f"{name} = {told} is not allowed; allowed: {allowed}"


def test_a_whole_number_too_long_for_a_float_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="alpha"):
        Config.of({"alpha": 10**400})


def test_numbers_become_floats_and_words_stay() -> None:
    config = Config.of({"learning-rate": 1, "alpha": 2})
    assert isinstance(config.learning_rate, float)
    assert isinstance(config.alpha, float)
    assert Config.of({"learning-rate": "1/beta"}).learning_rate == "1/beta"


# files


def test_overrides_replace_the_keys_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('dataset = "digits"\nclients = 3\n', encoding="utf-8")
    values = read(path, ["clients=5", " dataset = tissue", "learning-rate=1e-3", "intercept=false", "out="])
    assert values == {
        "dataset": "tissue",
        "clients": 5,
        "learning-rate": 1e-3,
        "intercept": False,
        "out": "",
    }
    assert read(path, ['dataset="a=b"'])["dataset"] == "a=b"
    assert read(path, ["out=a=b"])["out"] == "a=b"


@pytest.mark.parametrize("text", ["clients", "=5", " = 5"])
def test_a_malformed_override(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.touch()
    with pytest.raises(UserError) as caught:
        read(path, [text])
    assert str(caught.value) == f"-c takes KEY=VALUE, not '{text}'"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"clients = ", "is not valid TOML"),
        (b"\xff\xfe", "is not a text file in UTF-8"),
        (b"[run]\nclients = 3\n", "'run' is a table; keys are flat, without tables or lists"),
        (b"clients = [3]\n", "'clients' is a list"),
    ],
)
def test_a_bad_file(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"run\.toml") as caught:
        read(path)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the configuration .*: No such file"):
        read(tmp_path / "absent.toml")


def test_the_project_file_lists_every_key_with_its_default() -> None:
    # Flower takes the keys a run may set, and their types, from here
    project = Path(__file__).parents[3] / "pyproject.toml"
    listed = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["config"]
    assert listed == defaults()
