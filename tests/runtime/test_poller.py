"""The loop of every runner."""

from collections.abc import Iterator

import pytest
from django.db import OperationalError

from dj_queue.routers import queue_database
from dj_queue.runtime.connections import looked_after
from dj_queue.runtime.poller import Poller
from tests.jobs import EVERY
from tests.runtime.units import registered

# Which errors are an outage, the engine of the database says.
pytestmark = pytest.mark.usefixtures("vendor_by_alias")

UNASKED = 7.0
"""The delay that a poll returns which did not ask the database."""


class Scripted(Poller):
    """Polls what a script says: a delay to return or an error to raise; stops at its end."""

    def __init__(self, script: list[float | Exception]) -> None:
        super().__init__(registered(queue_database("default")))
        self.script: Iterator[float | Exception] = iter(script)
        self.waited: list[float] = []

    def poll(self) -> float:
        step = next(self.script, None)
        if step is None:
            self.stop()
            return 0
        if isinstance(step, Exception):
            raise step
        if step != UNASKED:
            self.answered()
        return step


def run(script):
    """Run the loop in this thread, without really waiting; return it."""
    poller = Scripted(script)
    poller.wake.wait = poller.waited.append  # type: ignore[method-assign,assignment]
    poller.run()
    return poller


def test_the_loop_waits_as_long_as_poll_says_and_not_at_all_for_zero():
    assert run([0.5, 0, 0, 2]).waited == [0.5, 2]


def test_an_outage_is_logged_once_when_it_begins_and_once_when_it_ends(events):
    run([0, OperationalError("gone"), OperationalError("gone"), OperationalError("still"), 0, 0])

    assert [event for event, _ in events()] == ["database_down", "database_up"]
    assert events()[0][1] == {"database": "queue", "error": "OperationalError('gone')"}


def test_a_poll_that_did_not_ask_the_database_ends_no_outage(events):
    run([OperationalError("gone"), UNASKED, OperationalError("gone"), UNASKED])
    during = [event for event, _ in events()]
    run([0])

    assert during == ["database_down"]
    assert [event for event, _ in events()] == ["database_down", "database_up"]


def test_a_database_that_is_away_is_asked_with_growing_pauses():
    waited = run([OperationalError("gone")] * 12 + [0.5]).waited

    assert waited[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(waited) == 30
    assert waited[-1] == 0.5


def test_an_unexpected_error_is_logged_with_its_traceback_and_the_loop_goes_on(caplog):
    poller = run([KeyError("surprise"), 0.5])

    [record] = [each for each in caplog.records if each.name == "dj_queue"]
    assert (record.event, record.exc_info[0]) == ("loop_failed", KeyError)
    assert poller.waited == [0.1, 0.5]


def test_stop_ends_a_wait_at_once():
    poller = Scripted([3600.0])
    poller.start()
    poller.stop()

    poller.join(10)

    assert not poller.is_alive()


@pytest.mark.django_db(transaction=True, **EVERY)
def test_a_poll_that_raises_leaves_no_transaction_open():
    db = queue_database("default")

    with pytest.raises(ValueError, match="polled"), looked_after(db):
        db.atomic().__enter__()
        raise ValueError("polled")

    assert not db.connection.in_atomic_block
