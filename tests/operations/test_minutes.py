"""Minutes: each finish adds what ended to its queue's minute, once."""

from datetime import timedelta

import pytest

from dj_queue.engines import ENGINES, engine_for
from dj_queue.engines.base import ClaimEngine
from dj_queue.engines.minutes import Ended, minutes_of
from dj_queue.models import QueueMinute, ReadyExecution, state_of
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.operations.retry import retry
from dj_queue.operations.transitions import in_transaction, move
from tests.jobs import EVERY, ME, NOW, ids, store

pytestmark = pytest.mark.django_db(**EVERY)

FAILING = {"task_path": "tests.shop.tasks.fail", "args": ["no"]}


def run(db, *, process_id=ME, at=NOW):
    """Claim and execute everything that is ready; each attempt takes half a second."""
    outcomes = []
    for row in claim(db, ["*"], limit=100, process_id=process_id, now=at):
        times = iter([at, at + timedelta(seconds=0.5)])
        outcomes.append(execute(db, row, clock=lambda times=times: next(times)))
    return outcomes


def minutes(db):
    names = ("queue_name", "minute", "finished", "failed", "waiting_seconds", "running_seconds")
    rows = db.objects(QueueMinute).order_by("minute", "queue_name", "-finished").values_list(*names)
    return [(*row[:4], round(row[4], 3), round(row[5], 3)) for row in rows]


def test_what_ends_is_added_to_its_minute(db):
    store(db, 3, queue_name="mail", enqueued_at=NOW - timedelta(seconds=10))
    store(db, queue_name="post", enqueued_at=NOW - timedelta(seconds=4), **FAILING)
    due = {"enqueued_at": NOW - timedelta(days=1), "run_after": NOW - timedelta(seconds=1)}
    store(db, queue_name="late", **due)

    finish(db, run(db))
    store(db, queue_name="mail", enqueued_at=NOW)
    finish(db, run(db, at=NOW + timedelta(seconds=59)))
    store(db, queue_name="mail", enqueued_at=NOW)
    finish(db, run(db, at=NOW + timedelta(seconds=60)))

    assert minutes(db) == [
        ("late", NOW, 1, 0, 1.0, 0.5),
        ("mail", NOW, 4, 0, 89.0, 2.0),
        ("post", NOW, 0, 1, 4.0, 0.5),
        ("mail", NOW + timedelta(minutes=1), 1, 0, 60.0, 0.5),
    ]
    assert {row.process_id for row in db.objects(QueueMinute)} == {ME}
    assert {row.backend for row in db.objects(QueueMinute)} == {db.backend}


def test_each_process_has_its_own_row(db):
    for process_id in (ME, new_id()):
        store(db)
        finish(db, run(db, process_id=process_id))

    assert minutes(db) == [("default", NOW, 1, 0, 0.0, 0.5)] * 2


def test_a_claim_that_was_lost_is_not_counted(db):
    store(db, 2)
    store(db, 2, **FAILING)
    outcomes = run(db)
    stolen = [outcomes[0].claimed.job_id, outcomes[2].claimed.job_id]

    def become(row):
        return [state_of(ReadyExecution, row)]

    in_transaction(db, lambda: move(db, type(outcomes[0].claimed), stolen, become))

    assert len(finish(db, outcomes)) == 2
    assert minutes(db) == [("default", NOW, 1, 1, 0.0, 1.0)]


def test_an_attempt_after_the_first_has_not_waited(db):
    store(db, enqueued_at=NOW - timedelta(hours=1), **FAILING)
    finish(db, run(db))
    retry(db, ids(db))

    finish(db, run(db, at=NOW + timedelta(minutes=1)))

    assert [row[3:5] for row in minutes(db)] == [(1, 3600.0), (1, 0.0)]


def test_jobs_that_are_not_kept_are_counted_too(db, settings):
    own = settings.TASKS[db.backend]
    options = {**own["OPTIONS"], "preserve_finished_jobs": False}
    settings.TASKS = {**settings.TASKS, db.backend: {**own, "OPTIONS": options}}
    store(db, 2)

    finish(db, run(db))

    assert minutes(db) == [("default", NOW, 2, 0, 0.0, 1.0)]


@pytest.mark.parametrize("portable", [False, True])
def test_any_number_of_minutes_is_added(db, portable):
    engine = ClaimEngine() if portable else engine_for(db)
    assert portable or engine in ENGINES.values()
    ended = [
        Ended(db.backend, f"q{number % 450:03}", ME, NOW, 1.5, 2.5, is_failed=number % 2 == 1)
        for number in range(900)
    ]

    for _ in range(2):
        with db.atomic():
            engine.add_minutes(db, minutes_of(ended))
    with db.atomic():
        engine.add_minutes(db, [])

    rows = minutes(db)
    assert len(rows) == 450
    assert {row[2:] for row in rows} == {(4, 0, 6.0, 10.0), (0, 4, 6.0, 10.0)}
