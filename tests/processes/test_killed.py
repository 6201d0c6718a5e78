"""Processes that are killed: what they had claimed is recovered, and runs no more than allowed."""

import os
import signal
from mmap import mmap
from uuid import UUID

import pytest

from dj_queue.models import ClaimedExecution, FailedExecution, FinishedExecution, Process
from dj_queue.operations.retry import retry
from dj_queue.routers import queue_database
from dj_queue.runtime.ledger_files import files_of
from dj_queue.runtime.pages import Pages
from tests.jobs import EVERY, counts
from tests.processes.records import check, check_stopped, process_of
from tests.shop.misbehaving import kill_everything
from tests.shop.recorded import ending, ending_coroutine, hold, note, signal_myself
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

TWO_THREADS = {"threads": 2}


def enqueue(task, count, *args):
    """Enqueue so many jobs of a task on the backend `default`."""
    return task.get_backend().enqueue_all([(task, args, {})] * count)


def noted_count(db):
    """Count the attempts of which some ledger of the database says how they ended."""
    count = 0
    for file in files_of(db.alias):
        ledger = Pages(mmap(file.number, 0))
        file.close()
        count += len(ledger.remains.ended)
        ledger.close()
    return count


def test_a_killed_worker_is_replaced_and_what_ran_in_it_has_had_its_attempt(start, records):
    db = queue_database("default")
    running = enqueue(hold, 2, "never")
    command = start("dj_queue", "--backend", "default", workers=[TWO_THREADS])
    until(lambda: len(records.executions) == 2)
    enqueue(note, 20)
    killed = process_of(db, "worker")

    os.kill(killed.pid, signal.SIGKILL)
    until(lambda: counts(db) == {"failed": 2, "finished": 20})

    check(db, records, enqueued=22)
    failed = db.objects(FailedExecution).all()
    assert {str(each.job_id) for each in failed} == {result.id for result in running}
    assert all(f"(pid {killed.pid} on " in each.message for each in failed)
    assert all(each.message.endswith("was killed by SIGKILL") for each in failed)
    assert process_of(db, "worker").pk != killed.pk
    status, output = command.end()
    assert (status, command.is_over) == (0, True), output
    assert output.count("process_died") == 1
    check_stopped(db)


def test_a_killed_dispatcher_is_replaced(start):
    db = queue_database("default")
    command = start("dj_queue", "--backend", "default")
    until(lambda: process_of(db, "dispatcher"))
    killed = process_of(db, "dispatcher")

    os.kill(killed.pid, signal.SIGKILL)
    until(lambda: db.objects(Process).filter(kind="dispatcher").exclude(pk=killed.pk).exists())

    assert command.end()[0] == 0
    check_stopped(db)


def test_children_of_a_killed_supervisor_drain_and_end(start, records):
    db = queue_database("default")
    enqueue(hold, 1, "drain")
    command = start("dj_queue", "--backend", "default")
    until(lambda: records.executions and process_of(db, "dispatcher"))

    command.end(signal.SIGKILL)
    # The dispatcher has nothing to drain: it has noticed.
    until(lambda: process_of(db, "dispatcher") is None)
    assert counts(db) == {"claimed": 1}
    assert not command.is_over
    records.open("drain")
    until(lambda: command.is_over)

    assert counts(db) == {"finished": 1}
    check_stopped(db)


@pytest.mark.parametrize("mode", ["fork", "thread"])
def test_after_everything_was_killed_the_next_start_recovers_what_was_running(start, records, mode):
    # With one attempt each: what had not started has it still, and what had ended has its result.
    db = queue_database("default")
    options = {"workers": [TWO_THREADS]}
    command = ("dj_queue", "--backend", "default", "--mode", mode)
    running = enqueue(hold, 2, "never")
    enqueue(note, 10)
    first = start(*command, **options)
    until(lambda: len(records.executions) == 2)
    # The supervisor, its worker, dispatcher and scheduler.
    until(lambda: db.objects(Process).count() == 4)
    first.signal_all(signal.SIGKILL)
    until(lambda: first.is_over)
    lost = set(db.objects(Process).values_list("pk", flat=True))

    second = start(*command, **options)
    until(lambda: counts(db) == {"failed": 2, "finished": 10})
    until(lambda: not db.objects(Process).filter(pk__in=lost).exists())

    check(db, records, enqueued=12)
    failed = db.objects(FailedExecution).all()
    assert {str(each.job_id) for each in failed} == {result.id for result in running}
    assert all(each.message.endswith("died before the job ended") for each in failed)
    assert second.end()[0] == 0
    check_stopped(db)


@pytest.mark.parametrize("mode", ["fork", "thread"])
def test_of_what_was_claimed_ahead_nothing_fails_when_everything_is_killed(start, records, mode):
    # One thread has just begun a job that kills all, with others claimed ahead of it.
    db = queue_database("default")
    options = {"workers": [{"threads": 1}]}
    command = ("dj_queue", "--backend", "default", "--mode", mode)
    enqueue(note, 300)
    [culprit] = enqueue(kill_everything, 1)
    enqueue(note, 300)
    first = start(*command, **options)
    until(lambda: first.is_over)
    claimed_count = counts(db)["claimed"]

    second = start(*command, **options)
    until(lambda: set(counts(db)) <= {"finished", "failed"})

    assert claimed_count > 1
    assert counts(db) == {"finished": 600, "failed": 1}
    assert str(db.objects(FailedExecution).get().job_id) == culprit.id
    assert set(db.objects(FinishedExecution).values_list("attempt", flat=True)) == {1}
    check(db, records, enqueued=601)
    assert second.end()[0] == 0
    check_stopped(db)


@pytest.mark.parametrize("crew", [{"threads": 4}, {"threads": 1, "concurrency": 4}])
def test_what_had_ended_when_its_process_was_killed_is_recorded_as_it_ended(start, records, crew):
    # Nothing can be recorded meanwhile: the tasks end while another transaction has the claims.
    db = queue_database("default")
    kind = ending if "concurrency" not in crew else ending_coroutine
    results = {how: kind.enqueue(how) for how in ("none", "small", "large", "raise")}
    command = start("dj_queue", "--backend", "default", "--only", "workers", workers=[crew])
    until(lambda: len(records.executions) == 4)
    worker = process_of(db, "worker")
    with db.atomic():
        list(db.objects(ClaimedExecution).select_for_update())
        records.open("end")
        until(lambda: noted_count(db) == 4)
        os.kill(worker.pid, signal.SIGKILL)
        until(lambda: "process_died" in command.output)
    until(lambda: set(counts(db)) == {"finished", "failed"})

    for result in results.values():
        result.refresh()
    assert results["none"].return_value is None
    assert results["small"].return_value == {"a": [1, "é"]}
    failed = {str(each.job_id): each for each in db.objects(FailedExecution)}
    # A server that was told before the kill goes on when it can: then the result is there.
    if results["large"].status == "SUCCESSFUL":
        assert db.vendor == "postgresql"
        assert results["large"].return_value == "x" * 1000
    else:
        assert failed[results["large"].id].exception_path == "dj_queue.exceptions.ResultLost"
        assert "the task ended and its result was lost" in failed[results["large"].id].message
    assert failed[results["raise"].id].exception_path == "builtins.ValueError"
    assert failed[results["raise"].id].message == "no such order"
    check(db, records, enqueued=4)
    assert command.end()[0] == 0


def test_a_worker_stopped_past_its_threshold_starts_and_records_nothing_that_it_lost(
    start, records
):
    # One thread that has just begun a job which stops the process, with others claimed ahead.
    db = queue_database("default")
    options = {"process_alive_threshold": 2, "workers": [{"threads": 1}]}
    enqueue(note, 300)
    [frozen] = enqueue(signal_myself, 1, signal.SIGSTOP)
    enqueue(note, 100)
    stopped = start("dj_queue", "--backend", "default", "--only", "workers", **options)
    until(lambda: records.of(frozen.id))
    lost = process_of(db, "worker")

    # Another process gives it up, and is given its jobs.
    other = start("dj_queue", "--backend", "default", **options)
    until(lambda: set(counts(db)) == {"failed", "finished"})
    lost_jobs = set(db.objects(FailedExecution).values_list("job_id", flat=True))
    begun = [each for each in records.executions if each.pid == lost.pid]
    assert UUID(frozen.id) in lost_jobs
    assert lost_jobs - {each.job_id for each in begun}
    retry(db, list(lost_jobs))
    until(lambda: counts(db) == {"finished": 401})
    assert other.end()[0] == 0
    os.kill(lost.pid, signal.SIGCONT)

    # It goes on under a new id.
    [new] = enqueue(note, 1)
    until(lambda: counts(db) == {"finished": 402})
    assert process_of(db, "worker").pid == lost.pid
    assert process_of(db, "worker").pk != lost.pk
    frozen.refresh()
    assert frozen.return_value == "attempt 2"
    assert frozen.worker_ids == [str(lost.pk), frozen.worker_ids[1]]
    after = [each for each in records.executions if each.pid == lost.pid]
    assert after == [*begun, *records.of(new.id)]
    claim_lost = f"claim_lost backend=default database={db.alias} job={frozen.id}"
    until(lambda: claim_lost in stopped.output)
    check(db, records, enqueued=402)
    status, output = stopped.end()
    assert (status, output.count("process_given_up")) == (0, 1), output
    check_stopped(db)
