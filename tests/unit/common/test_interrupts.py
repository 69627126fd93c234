"""Signals: noted in a block, heeded where it says, and never lost."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import interrupts
from tests.processes import Processes

ENDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SystemExit}


@pytest.fixture(autouse=True)
def reacting() -> Iterator[None]:
    """As a command in a terminal, whatever started the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_waits_until_it_is_heeded(number: signal.Signals) -> None:
    with interrupts.deferred():
        interrupts.heed()
        signal.raise_signal(number)
        signal.raise_signal(number)  # an echo
        for _ in range(2):  # it is not forgotten, should somebody swallow what is raised
            with pytest.raises(ENDS[number]) as raised:
                interrupts.heed()
    assert number == signal.SIGINT or raised.value.args == (143,)
    interrupts.heed()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_wait_is_left_while_nothing_comes() -> None:
    condition = threading.Condition()
    threading.Timer(0.1, signal.raise_signal, [signal.SIGTERM]).start()
    began = time.monotonic()
    with interrupts.deferred(), pytest.raises(SystemExit), condition:
        interrupts.wait_for(condition, lambda: False, None)
    assert time.monotonic() - began < 30
    assert condition.acquire(blocking=False), "the lock was kept"


def test_a_wait_ends_with_what_it_waits_for_or_its_time() -> None:
    condition, come = threading.Condition(), threading.Event()

    def comes() -> None:
        with condition:
            come.set()
            condition.notify_all()

    threading.Timer(0.3, comes).start()
    with condition:
        assert interrupts.wait_for(condition, come.is_set, None)
        assert interrupts.wait_for(condition, come.is_set, 0)
        began = time.monotonic()
        assert not interrupts.wait_for(condition, lambda: False, 0.5)
        assert time.monotonic() - began >= 0.5


def test_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts.deferred():
        signal.raise_signal(signal.SIGINT)
        interrupts.heed()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


STUCK = """
import signal, time
from common import interrupts
interrupts.INSIST_SECONDS = 0.0
with interrupts.deferred():
    print("stuck", flush=True)
    while True:
        time.sleep(0.01)
        if interrupts._Asked.number:
            print("noted", flush=True)
"""

ON_THE_SPOT = """
import time
from common import interrupts
interrupts.end_on_the_spot()
try:
    print("here", flush=True)
    time.sleep(60)
finally:
    print("cleaned up", flush=True)
"""


def test_who_insists_ends_a_process_that_does_not_heed(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        stuck = processes.start(sys.executable, "-c", STUCK)
        stuck.wait_for("stuck")
        stuck.signal(signal.SIGTERM)
        stuck.wait_for("noted")
        assert stuck.running()
        stuck.signal(signal.SIGTERM)
        assert stuck.wait().code == -signal.SIGTERM


def test_a_process_with_nothing_to_lose_ends_on_the_spot(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        process = processes.start(sys.executable, "-c", ON_THE_SPOT)
        process.wait_for("here")
        process.signal(signal.SIGINT)
        done = process.wait()
    assert (done.code, done.stdout, done.stderr) == (130, "here\n", "localgd: interrupted\n")
