"""LISTEN and NOTIFY: what is said, how often, and who hears it."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from dj_queue.compat import task_backends
from dj_queue.engines import engine_for
from dj_queue.engines.notifications import (
    MOST_QUEUES,
    REPEAT_SECONDS,
    Listening,
    Wake,
    can_listen,
    payload_of,
    wake_of,
)
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY
from tests.listening import notify
from tests.shop import tasks

# Real transactions: nothing is told before a commit.
pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

SECONDS = 20
"""How long to wait for what will come; silence is never waited for."""

# What ends a wait for nothing: whatever was told before it arrives before it.
END = Wake("end")


@pytest.fixture
def heard(db: QueueDatabase, listening: Listening) -> Callable[[], list[Wake]]:
    """Give a function that returns all that was told since, without waiting for silence."""

    def heard() -> list[Wake]:
        notify(db, payload_of(END))
        wakes: list[Wake] = []
        deadline = time.monotonic() + SECONDS
        while END not in wakes:
            assert time.monotonic() < deadline, "a notification did not arrive"
            wakes += listening.wait(SECONDS)
        wakes.remove(END)
        return wakes

    return heard


def wake(db: QueueDatabase, *queues: str) -> None:
    engine_for(db).wake(db, queues)


@pytest.mark.parametrize(
    "queues",
    [
        ["mail"],
        ["b", "a"],
        ["it's", 'say "hi"', "back\\slash", "naïve ☃ 🐘", "'; NOTIFY dj_queue; --"],
    ],
    ids=repr,
)
def test_what_is_told_is_heard(db, suppressor, heard, queues):
    wake(db, *queues)

    assert heard() == [Wake(db.backend, frozenset(queues))]


@pytest.mark.parametrize(("count", "is_named"), [(MOST_QUEUES, True), (MOST_QUEUES + 1, False)])
def test_many_queues_are_told_as_any(db, suppressor, heard, count, is_named):
    names = [f"{n}{'🐘' * 62}" for n in range(count)]

    wake(db, *names)

    assert heard() == [Wake(db.backend, frozenset(names) if is_named else None)]


def test_the_longest_payload_fits_into_a_notification():
    # A name has 64 characters; one of these takes four bytes, or six when JSON escapes it.
    for character in ("🐘", "\x01"):
        names = frozenset(f"{n:02}{character * 62}" for n in range(MOST_QUEUES))
        payload = payload_of(Wake(character * 64, names))
        assert len(payload.encode()) < 8000


def test_equal_wakes_have_equal_payloads():
    # PostgreSQL folds equal payloads of a transaction.
    texts = {payload_of(Wake("x", frozenset(names))) for names in ("abcdefgh", "hgfedcba")}

    assert texts == {'["x",["a","b","c","d","e","f","g","h"]]'}


@pytest.mark.parametrize(
    ("payload", "wake"),
    [
        ('["x",["a"]]', Wake("x", frozenset("a"))),
        ('["x",[]]', Wake("x", frozenset())),
        ('["x",null]', Wake("x")),
        ('["x",{"not":"names"}]', Wake("x")),
        ('["x",[1]]', Wake("x")),
        ('["x",["a"],"of a later version"]', Wake("x", frozenset("a"))),
        ('["x"]', Wake("x")),
        ("[]", None),
        ("[1,2]", None),
        ('{"x":["a"],"y":1}', None),
        ('"xy"', None),
        ("3", None),
        ("", None),
        ("hello", None),
        ("[" * 5000, None),
    ],
)
def test_a_payload_that_cannot_be_read_is_no_error(payload, wake):
    assert wake_of(payload) == wake


def test_what_strangers_tell_on_the_channel_is_not_heard(db, suppressor, heard):
    notify(db, "hello")
    notify(db, "")

    assert heard() == []


@pytest.mark.parametrize(
    ("backend", "selectors", "is_concerned"),
    [
        ("x", ["*"], True),
        ("x", ["mail"], True),
        ("x", ["other", "ma*"], True),
        ("x", ["mail*"], True),
        ("x", ["other", "mai"], False),
        ("x", ["mail.out"], False),
        ("y", ["*"], False),
    ],
)
def test_a_wake_concerns_whom_it_may_bring_a_job(backend, selectors, is_concerned):
    assert Wake("x", frozenset(["mail", "zzz"])).concerns(backend, selectors) is is_concerned


@pytest.mark.parametrize("selector", ["*", "mail", "ma*"])
def test_a_wake_for_any_queue_concerns_every_worker_of_the_backend(selector):
    assert Wake("x").concerns("x", [selector])
    assert not Wake("x").concerns("y", [selector])


def test_many_wakes_within_the_window_send_one_notification(db, suppressor, heard):
    with CaptureQueriesContext(db.connection) as sent:
        for _ in range(20):
            wake(db, "a")

    assert len(sent) == 1
    assert heard() == [Wake(db.backend, frozenset("a"))]


def test_a_wake_in_a_transaction_is_delivered_at_its_commit(db, suppressor, heard):
    with db.atomic():
        for _ in range(3):
            wake(db, "a")
        before = heard()

    assert (before, heard()) == ([], [Wake(db.backend, frozenset("a"))])


def test_many_enqueues_within_the_window_send_one_notification(db, suppressor, clock, heard):
    task = tasks.add.using(backend=db.backend, queue_name="a")

    for _ in range(20):
        task.enqueue(1, 2)
    first = [*suppressor.sent]
    clock.now += REPEAT_SECONDS * 1.01
    task.enqueue(1, 2)

    said = Wake(db.backend, frozenset("a"))
    assert (first, suppressor.sent) == ([payload_of(said)], [payload_of(said)] * 2)
    assert heard() == [said]


def test_a_bulk_of_many_jobs_is_told_once_and_always(db, suppressor, heard):
    # Always: a large bulk may commit long after what it would be a repeat of.
    kinds = [tasks.add.using(backend=db.backend, queue_name=name) for name in "abc"]
    calls = [(kinds[n % 3], (n, n), {}) for n in range(1000)]

    for _ in range(2):
        task_backends[db.backend].enqueue_all(calls)

        assert heard() == [Wake(db.backend, frozenset("abc"))]


def test_a_job_for_later_is_told_to_nobody(db, suppressor, heard):
    later = timezone.now() + timedelta(hours=1)

    tasks.add.using(backend=db.backend, run_after=later).enqueue(1, 2)

    assert heard() == []


def test_an_enqueue_in_a_transaction_is_told_at_its_commit(db, suppressor, heard):
    task = tasks.add.using(backend=db.backend, queue_name="a")

    with db.atomic():
        task.enqueue(1, 2)
        before = heard()

    assert (before, heard()) == ([], [Wake(db.backend, frozenset("a"))])


def test_a_wake_of_a_transaction_that_is_rolled_back_is_not_delivered(db, suppressor, heard):
    with pytest.raises(ZeroDivisionError), db.atomic():
        wake(db, "a")
        _ = 1 / 0
    wake(db, "b")

    assert heard() == [Wake(db.backend, frozenset("b"))]


def test_a_vendor_without_notifications_neither_tells_nor_listens(db, suppressor):
    if db.vendor == "postgresql":
        pytest.skip("needs a database without notifications")

    with CaptureQueriesContext(db.connection) as sent:
        wake(db, "a")

    assert (engine_for(db).listen(db), can_listen(db), len(sent)) == (None, False, 0)
