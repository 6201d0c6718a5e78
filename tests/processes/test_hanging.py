"""Processes that hang, or whose threads have died: they are replaced, and lose no job."""

import pytest

from dj_queue.models import FailedExecution, FinishedExecution
from dj_queue.routers import queue_database
from tests.jobs import EVERY, counts
from tests.processes.records import check, check_stopped, process_of
from tests.shop import misbehaving
from tests.shop.recorded import note, note_coroutine
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

WORKERS = ("dj_queue", "--backend", "default", "--only", "workers")


def enqueue_notes(count: int, kind=note) -> None:
    note.get_backend().enqueue_all([(kind, [], {})] * count)


def test_a_worker_whose_interpreter_is_held_is_killed_and_replaced(start, records):
    db = queue_database("default")
    culprit = misbehaving.hold_the_interpreter.enqueue()
    command = start(*WORKERS, workers=[{"threads": 2}], process_alive_threshold=1)
    until(lambda: len(records.executions) == 1)
    hung = process_of(db, "worker")
    enqueue_notes(20)

    until(lambda: counts(db) == {"finished": 20, "failed": 1})

    [failed] = db.objects(FailedExecution)
    assert str(failed.job_id) == culprit.id
    assert f"(pid {hung.pid} on " in failed.message
    assert "did nothing for " in failed.message
    check(db, records, enqueued=21)
    status, output = command.end()
    assert status == 0, output
    assert (output.count("process_silent"), output.count("process_died")) == (1, 1)
    assert "in hold_the_interpreter" in output  # Where it hung.
    check_stopped(db)


@pytest.mark.parametrize(
    ("thread", "crew"),
    [
        ("worker default@", {"threads": 2}),
        ("heartbeat ", {"threads": 2}),
        ("finisher ", {"threads": 2}),
        ("task default@queue 1", {"threads": 2}),
        ("task default@queue begin", {"threads": 1, "concurrency": 2}),
    ],
)
def test_a_worker_one_of_whose_threads_has_died_is_replaced(start, records, thread, crew):
    db = queue_database("default")
    culprit = misbehaving.end_threads.enqueue(thread)
    command = start(*WORKERS, workers=[crew], shutdown_timeout=2)
    until(lambda: len(records.executions) == 1)

    # An idle thread notices what was raised in it when it has something to do.
    kind = note_coroutine if "concurrency" in crew else note
    until(lambda: (enqueue_notes(2, kind), "process_died" in command.output)[1], every=0.1)
    enqueue_notes(2, kind)
    until(lambda: set(counts(db)) <= {"finished", "failed"})

    lost = db.objects(FailedExecution).exclude(job_id=culprit.id)
    assert [each.message for each in lost] == []
    assert len(set(db.objects(FinishedExecution).values_list("worker_id", flat=True))) == 2
    status, output = command.end()
    assert (status, output.count("process_broken")) == (0, 1), output
    assert "one of its threads had died" in output
    check_stopped(db)
