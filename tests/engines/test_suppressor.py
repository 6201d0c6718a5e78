"""Suppressed repeats: what a process has just told, it does not tell again."""

import pytest

from dj_queue.engines.notifications import MOST_TOLD, REPEAT_SECONDS, Wake, payload_of
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY
from tests.listening import options_of

# Real transactions: inside one nothing is suppressed.
pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


def test_a_repeat_within_the_window_is_not_told(db, suppressor, clock):
    told = [suppressor.due(db, ["a"]) for _ in range(5)]
    clock.now += REPEAT_SECONDS * 1.01
    later = suppressor.due(db, ["a"])

    assert told == [payload_of(Wake(db.backend, frozenset("a")))] + [None] * 4
    assert later == told[0]


def test_a_suppressed_repeat_does_not_prolong_the_window(db, suppressor, clock):
    suppressor.due(db, ["a"])
    clock.now += REPEAT_SECONDS * 0.75
    suppressor.due(db, ["a"])
    clock.now += REPEAT_SECONDS * 0.75

    assert suppressor.due(db, ["a"]) is not None


def test_other_queues_and_other_backends_are_told_at_once(db, suppressor):
    alerts = QueueDatabase(alias=db.alias, backend="alerts")

    told = [suppressor.due(each, queues) for each in (db, alerts) for queues in ("a", "ab", "b")]

    assert None not in told
    assert len(set(told)) == 6
    assert suppressor.due(db, "ba") is None


def test_for_no_queue_there_is_nothing_to_tell(db, suppressor):
    assert suppressor.due(db, []) is None


def test_for_a_backend_without_workers_there_is_nobody_to_tell(db, suppressor, settings):
    assert suppressor.due(QueueDatabase(alias=db.alias, backend="neighbour"), ["a"]) is None
    with options_of(settings, db.backend, listen_notify=False):
        assert suppressor.due(db, ["a"]) is None


def test_inside_a_transaction_everything_is_told_and_stands_for_nothing_later(db, suppressor):
    with db.atomic():
        inside = [suppressor.due(db, ["a"]) for _ in range(3)]

    assert None not in inside
    assert suppressor.due(db, ["a"]) is not None
    assert suppressor.due(db, ["a"]) is None


def test_without_autocommit_everything_is_told(db, suppressor):
    db.connection.set_autocommit(False)
    try:
        told = [suppressor.due(db, ["a"]) for _ in range(3)]
    finally:
        db.connection.rollback()
        db.connection.set_autocommit(True)

    assert None not in told


def test_what_was_told_is_remembered_in_bounded_memory(db, suppressor, clock):
    for n in range(MOST_TOLD * 3):
        clock.now += 1
        suppressor.due(db, [f"queue {n}"])

    assert len(suppressor._told) <= MOST_TOLD
