"""Recovery of what dead processes had claimed."""

from datetime import timedelta
from threading import Event

import pytest

from dj_queue.compat import task_finished
from dj_queue.engines.claims import Holder, claim_of, held
from dj_queue.exceptions import ProcessExited
from dj_queue.models import (
    Attempt,
    FailedExecution,
    FinishedExecution,
    Process,
    ReadyExecution,
    ScheduledExecution,
)
from dj_queue.models.fields import encode_json
from dj_queue.models.ids import new_id
from dj_queue.operations import recover as module
from dj_queue.operations.claim import claim, release
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.operations.processes import beat, register
from dj_queue.operations.recover import recover
from dj_queue.operations.remains import Note, Remains, Unstarted
from dj_queue.routers import QueueDatabase, queue_database
from tests.jobs import EVERY, LATER, ME, NOW, build, counts, ids, states, store
from tests.races.together import together
from tests.shop import retries

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

DEAD = ProcessExited("it died")
ENDED = NOW + timedelta(seconds=2, microseconds=5)
KEYED = {"concurrency_key": "key", "concurrency_limit": 1, "concurrency_seconds": 60}


@pytest.fixture
def finished():
    """Give the ids of the jobs of which task_finished was sent, in order."""
    ids = []

    def note(sender, task_result, **_):
        ids.append(task_result.id)

    task_finished.connect(note)
    yield ids
    task_finished.disconnect(note)


@pytest.fixture
def needs_row_locks(db):
    if not db.connection.features.has_select_for_update:
        pytest.skip("needs row locks: this database has one lock for all writers")


def take(db, count=1, process_id=ME, token=None):
    """Claim so many jobs as a process."""
    rows = claim(db, ["*"], limit=count, process_id=process_id, now=NOW, token=token)
    assert len(rows) == count
    return rows


def test_what_may_have_started_fails_and_says_why(db, finished):
    [job] = store(db)
    take(db)

    done = recover(db, [ME], DEAD, now=LATER)

    assert ([each.claimed.job_id for each in done.ended], done.ready_count) == ([job.id], 0)
    assert states(db) == {job.id: ["failed"]}
    failed, attempt = db.objects(FailedExecution).get(), db.objects(Attempt).get()
    assert (failed.exception_path, failed.message) == (
        "dj_queue.exceptions.ProcessExited",
        "it died",
    )
    assert (attempt.number, attempt.worker_id) == (1, ME)
    assert (attempt.started_at, attempt.ended_at) == (NOW, LATER)
    assert finished == [str(job.id)]


def test_with_attempts_left_it_runs_again(db, finished):
    [job] = store(db, max_attempts=2)
    take(db)

    recover(db, [ME], DEAD, now=LATER)

    [row] = [*db.objects(ReadyExecution), *db.objects(ScheduledExecution)]
    assert (row.job_id, row.attempt) == (job.id, 2)
    assert db.objects(Attempt).get().number == 1
    assert finished == []


def test_a_module_that_may_have_killed_the_worker_is_not_imported_again(db, tmp_path, monkeypatch):
    # It ends the process that imports it: whoever recovered the job would die of it too.
    (tmp_path / "fatal_module.py").write_text("import os\nos._exit(9)\n")
    monkeypatch.syspath_prepend(tmp_path)
    [job] = store(db, task_path="fatal_module.work", args=[])
    take(db)

    recover(db, [ME], DEAD, now=LATER)

    assert states(db) == {job.id: ["failed"]}
    assert db.objects(FailedExecution).get().message == "it died"


def test_an_attempt_whose_task_must_not_be_imported_was_the_last(db, tmp_path, monkeypatch):
    # With attempts left its task would have a say: a recovery has died of asking it.
    (tmp_path / "fatal_module.py").write_text("import os\nos._exit(9)\n")
    monkeypatch.syspath_prepend(tmp_path)
    [job] = store(db, task_path="fatal_module.work", args=[], max_attempts=3)
    [known] = store(db, task_path=retries.stumble.module_path, args=["oh"], max_attempts=3)
    take(db, 2)

    recover(db, [ME], DEAD, now=LATER, may_import=False)

    assert states(db) == {job.id: ["failed"], known.id: ["scheduled"]}


def test_what_had_not_started_is_ready_as_the_same_attempt(db, finished):
    token = new_id()
    by_token = [row.job_id for row in (store(db, count=2), take(db, 2, token=token))[1]]
    single = (store(db, count=2), take(db, 2))[1]
    [started] = (store(db), take(db))[1]

    unstarted = Unstarted(frozenset([token]), frozenset(map(claim_of, single)))
    done = recover(db, [ME], DEAD, now=LATER, remains=Remains(unstarted))

    assert (done.ready_count, len(done.ended)) == (4, 1)
    expected = {key: ["ready"] for key in [*by_token, *(row.job_id for row in single)]} | {
        started.job_id: ["failed"]
    }
    assert states(db) == expected
    assert set(db.objects(ReadyExecution).values_list("attempt", flat=True)) == {1}
    assert db.objects(Attempt).count() == 1
    assert finished == [str(started.job_id)]


def test_what_was_started_under_a_later_claim_is_not_taken_for_waiting(db):
    # Given back by the process, and claimed again: the earlier claim had not started, this one may.
    store(db)
    [before] = take(db)
    release(db, before.claim_token)
    take(db)

    unstarted = Unstarted(claims=frozenset([claim_of(before)]))
    done = recover(db, [ME], DEAD, now=LATER, remains=Remains(unstarted))

    assert (done.ready_count, counts(db)) == (0, {"failed": 1})


def test_recovering_again_changes_nothing(db, finished):
    store(db, count=3)
    take(db, 3)
    recover(db, [ME], DEAD, now=LATER)

    again = recover(db, [ME], DEAD, now=LATER + timedelta(hours=1))

    assert (again.ready_count, again.ended, again.left_count) == (0, [], 0)
    assert counts(db) == {"failed": 3}
    assert len(finished) == 3


def enroll(db, process_id):
    """Register a worker."""
    columns = {"name": "x", "pid": 1, "hostname": "h", "metadata": {}}
    times = {"started_at": NOW, "last_heartbeat_at": NOW}
    register(db, [Process(id=process_id, kind="worker", **columns, **times)])


def test_processes_are_forgotten_and_others_keep_their_claims(db):
    other = new_id()
    for process_id in (ME, other):
        enroll(db, process_id)
        store(db)
        take(db, process_id=process_id)

    recover(db, [ME], DEAD, now=LATER)

    assert list(db.objects(Process).values_list("pk", flat=True)) == [other]
    assert counts(db) == {"failed": 1, "claimed": 1}


def test_a_process_is_forgotten_before_its_claims_are_given_away(db, monkeypatch):
    # Continued in between, it must not have its heartbeat answered: it would start what it lost.
    enroll(db, ME)
    store(db)
    take(db)
    answers, recover_batch = [], module._recover_batch

    def continued(*args):
        answers.append(beat(db, [ME], now=LATER))
        return recover_batch(*args)

    monkeypatch.setattr(module, "_recover_batch", continued)
    recover(db, [ME], DEAD, now=LATER)

    assert answers == [{ME}, {ME}]
    assert counts(db) == {"failed": 1}


def test_claims_of_every_backend_on_the_database_are_recovered(finished):
    mine, theirs = queue_database("default"), queue_database("alerts")
    unknown = QueueDatabase(alias=mine.alias, backend="retired")
    jobs = {}
    for db in (mine, theirs, unknown):
        jobs[db.backend] = build(db)
        enqueue(db, [jobs[db.backend]], now=NOW)
    for backend in (mine, theirs):
        take(backend)
    # Nobody here has its options: its claim was made elsewhere.
    [row] = mine.objects(ReadyExecution).filter(backend="retired")
    claimed_elsewhere(mine, row)

    done = recover(mine, [ME], DEAD, now=LATER)

    assert len(done.ended) == 3
    assert states(mine) == {job.id: ["failed"] for job in jobs.values()}
    # Of a backend that no settings name nobody here can be told.
    assert set(finished) == {str(jobs[name].id) for name in ("default", "alerts")}


def claimed_elsewhere(db, row):
    """Turn a ready row into a claim of ours."""
    claimed = held(row, Holder(ME, new_id(), NOW))
    db.objects(ReadyExecution).filter(pk=row.pk)._raw_delete(db.alias)
    db.objects(type(claimed)).bulk_create([claimed])


def test_more_than_a_batch_is_recovered(db, monkeypatch):
    monkeypatch.setattr(module, "BATCH_SIZE", 3)
    store(db, count=8)
    rows = take(db, 8)
    unstarted = Unstarted(claims=frozenset(map(claim_of, rows[::2])))

    done = recover(db, [ME], DEAD, now=LATER, remains=Remains(unstarted))

    assert (done.ready_count, len(done.ended), done.left_count) == (4, 4, 0)
    assert counts(db) == {"ready": 4, "failed": 4}


def test_two_recoverers_at_once_recover_each_claim_once(db, monkeypatch, finished):
    # Both look at the same claims in small batches, from the same moment on.
    monkeypatch.setattr(module, "BATCH_SIZE", 7)
    store(db, count=100)
    rows = take(db, 100)
    unstarted = Unstarted(claims=frozenset(map(claim_of, rows[::2])))

    def recoverer():
        return recover(db, [ME], DEAD, now=LATER, remains=Remains(unstarted))

    done = together([recoverer, recoverer])

    assert sum(each.ready_count for each in done) == 50
    ended = [outcome.claimed.job_id for each in done for outcome in each.ended]
    assert sorted(ended) == sorted(row.job_id for row in rows[1::2])
    assert counts(db) == {"ready": 50, "failed": 50}
    assert sorted(finished) == sorted(map(str, ended))


def test_claims_that_another_transaction_holds_are_left_and_keep_nobody_waiting(
    db, needs_row_locks
):
    # The process was stopped in the middle of a transaction, and its connection is still there.
    store(db, count=3)
    rows = take(db, 3)
    locked, recovered = Event(), Event()

    def stopped():
        with db.atomic():
            own = db.objects(type(rows[0])).filter(pk=rows[0].pk)
            assert len(own.select_for_update()) == 1
            locked.set()
            assert recovered.wait(20)

    def recoverer():
        assert locked.wait(20)
        done = recover(db, [ME], DEAD, now=LATER)
        recovered.set()
        return done

    _, done = together([stopped, recoverer])

    assert (len(done.ended), done.left_count) == (2, 1)
    assert counts(db) == {"claimed": 1, "failed": 2}
    assert recover(db, [ME], DEAD, now=LATER).left_count == 0
    assert counts(db) == {"failed": 3}


def noted(db, note, **columns):
    """Recover a claim whose process had noted that; give its job."""
    [job] = store(db, **columns)
    [row] = take(db)
    recover(db, [ME], DEAD, now=LATER, remains=Remains(ended={claim_of(row): note}))
    return job


@pytest.mark.parametrize("value", [None, 3, "grün", {"a": [1.5, True]}])
def test_what_had_returned_is_finished_with_what_it_returned_and_its_times(db, finished, value):
    job = noted(db, Note(NOW, ENDED, False, encode_json(value)))

    row = db.objects(FinishedExecution).get()
    assert (row.return_value, row.started_at, row.finished_at) == (value, NOW, ENDED)
    assert (row.worker_id, row.attempt) == (ME, 1)
    assert states(db) == {job.id: ["finished"]}
    assert finished == [str(job.id)]
    assert db.objects(Attempt).count() == 0


def test_a_result_that_was_too_large_to_note_fails_the_job_for_good_and_says_so(db, finished):
    # With attempts left as well: its task has been run to its end.
    job = noted(db, Note(NOW, ENDED, False, None), max_attempts=3)

    failed, attempt = db.objects(FailedExecution).get(), db.objects(Attempt).get()
    assert failed.exception_path == "dj_queue.exceptions.ResultLost"
    assert failed.message == "the task ended and its result was lost, because it died"
    assert (attempt.started_at, attempt.ended_at, failed.failed_at) == (NOW, ENDED, ENDED)
    assert (finished, counts(db)) == ([str(job.id)], {"failed": 1})


def test_an_attempt_that_had_failed_fails_with_what_is_known_of_its_error(db, finished):
    job = noted(db, Note(NOW, ENDED, True, "builtins.ValueError\nno such order"))

    failed, attempt = db.objects(FailedExecution).get(), db.objects(Attempt).get()
    assert (failed.exception_path, failed.message) == ("builtins.ValueError", "no such order")
    assert attempt.traceback == (
        "builtins.ValueError: no such order\n\nthe traceback was lost, because it died\n"
    )
    assert (attempt.started_at, attempt.ended_at) == (NOW, ENDED)
    assert finished == [str(job.id)]


def test_an_attempt_that_had_failed_is_repeated_as_it_was_to_be(db, finished):
    again_at = LATER + timedelta(hours=1)

    noted(db, Note(NOW, ENDED, True, None, again_at), max_attempts=3)

    row, attempt = db.objects(ScheduledExecution).get(), db.objects(Attempt).get()
    assert (row.run_after, row.attempt) == (again_at, 2)
    assert attempt.exception_path == "dj_queue.exceptions.ResultLost"
    assert attempt.message == "the attempt failed and its error was lost, because it died"
    assert finished == []


def test_slots_of_what_had_ended_are_handed_on(db):
    jobs = enqueue(db, [build(db, **KEYED) for _ in range(2)], now=NOW)
    [row] = take(db)

    recover(
        db,
        [ME],
        DEAD,
        now=LATER,
        remains=Remains(ended={claim_of(row): Note(NOW, ENDED, False, "1")}),
    )

    assert counts(db) == {"finished": 1, "ready": 1}
    assert len(jobs or ids(db)) == 2


def test_what_was_recorded_before_the_kill_is_not_recorded_again(db, finished):
    # The kill came between the commit and the mark that it is over.
    store(db)
    [row] = take(db)
    finish(db, [execute(db, row, clock=lambda: NOW)])

    done = recover(
        db,
        [ME],
        DEAD,
        now=LATER,
        remains=Remains(ended={claim_of(row): Note(NOW, ENDED, False, "7")}),
    )

    assert (done.ended, counts(db)) == ([], {"finished": 1})
    assert db.objects(FinishedExecution).get().return_value == 3
