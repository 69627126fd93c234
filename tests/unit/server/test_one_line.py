"""What a person can mend is one line in Flower's log; what they cannot keeps its traceback."""

import logging

import pytest
from flwr.common.logger import FLOWER_LOGGER

from common.errors import RunError, UserError, last_line
from server.app import OneLine, log_user_errors_as_lines


@pytest.fixture
def filters():
    before = list(FLOWER_LOGGER.filters)
    yield FLOWER_LOGGER.filters
    FLOWER_LOGGER.filters[:] = before


def logged(caplog: pytest.LogCaptureFixture, error: Exception) -> str:
    """Log an error as Flower logs one that ends a ServerApp."""
    caplog.clear()
    try:
        raise error
    except Exception as raised:
        FLOWER_LOGGER.log(logging.ERROR, "%s raised an exception", "ServerApp", exc_info=raised)
    return caplog.text


def test_only_errors_that_a_person_can_mend_lose_their_traceback(caplog, filters) -> None:
    log_user_errors_as_lines()
    log_user_errors_as_lines()
    assert sum(isinstance(one, OneLine) for one in filters) == 1
    for error in (UserError("alpha = 'x' is 100% wrong"), RunError("round 3: clinic-1 failed")):
        text = logged(caplog, error)
        assert str(error) in text
        assert "Traceback" not in text
    assert "Traceback" in logged(caplog, ValueError("a bug"))


def test_the_last_line_of_a_traceback_says_what_went_wrong() -> None:
    assert last_line("<class 'ValueError'>:<'no luck'>") == "<class 'ValueError'>:<'no luck'>"
    assert last_line("<class 'X'>:<'Traceback:\n  File x\nValueError: no luck'>\n") == "ValueError: no luck"
