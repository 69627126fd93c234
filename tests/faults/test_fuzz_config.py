"""Configurations as nobody should write them: a `Config`, or one line for the user."""

import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from common import config as configuration
from common.config import Config, defaults
from common.errors import UserError
from tests.faults.mutation import NUMBERS, TEXTS, fuzz_share, mutated

WHOLE = "\n".join(
    f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
    for key, value in defaults().items()
).encode()

KEYS = st.one_of(st.sampled_from(list(defaults())), TEXTS)
VALUES = st.one_of(
    NUMBERS.map(repr),
    TEXTS,
    TEXTS.map(repr),
    st.sampled_from(
        ("true", "[1]", "{a = 1}", "1979-05-27", "[" * 2000, "1" * 5000, "'", '"""', "1e400", "0b1")
    ),
    st.sampled_from(
        ("local-gd", "cutting-plane", "softmax", "squared", "projection", "flower:FedAvg", "flower:x")
    ),
)


def built(content: bytes, overrides: list[str]) -> Config | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_bytes(content)
        try:
            config = Config.of(configuration.read(path, overrides))
        except UserError as error:
            said = str(error)
        else:
            said = ""
    if said:
        assert "\n" not in said
        return None
    assert Config.of(config.values()) == config
    return config


def test_the_defaults_are_read() -> None:
    assert built(WHOLE, []) == Config.of({})


@fuzz_share(4)
@given(mutated(WHOLE))
@example(b"alpha = " + b"[" * 5000)
@example(b"seed = " + b"1" * 5000)
def test_damaged_files(content: bytes) -> None:
    built(content, [])


@fuzz_share(4)
@given(st.lists(st.tuples(KEYS, VALUES).map("=".join), max_size=3))
@example(["seed=" + "1" * 5000])
@example(["alpha=" + "[" * 5000])
@example(["strategy-options=eta=1", "strategy=flower:FedAdam"])
def test_any_overrides(overrides: list[str]) -> None:
    built(b"", overrides)
