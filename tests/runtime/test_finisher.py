"""The finisher: group commit."""

import dataclasses
import time
from contextlib import suppress

import pytest
from django.db import DatabaseError, DataError, InterfaceError, OperationalError, connections

from dj_queue.compat import TaskResultStatus, task_finished
from dj_queue.conf import WorkerOptions
from dj_queue.models import Attempt, FailedExecution
from dj_queue.operations.claim import claim, release
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.runtime import finisher as module
from dj_queue.runtime.finisher import BATCH_SIZE, Finisher
from dj_queue.runtime.ledger import Ledger
from dj_queue.runtime.units import Unit
from tests.jobs import EVERY, ME, NOW, counts, states, store

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


@pytest.fixture
def batches(monkeypatch):
    """The sizes of the transactions the finisher makes."""
    sizes = []

    def counted(db, outcomes):
        sizes.append(len(outcomes))
        return finish(db, outcomes)

    monkeypatch.setattr(module, "finish", counted)
    return sizes


def outcomes_of(db, count, **columns):
    store(db, count=count, **columns)
    claimed = claim(db, ["*"], limit=count, process_id=ME, now=NOW)
    return [execute(db, row, clock=lambda: NOW) for row in claimed]


def record(db, outcomes, seconds=20.0):
    """Hand in all outcomes before the finisher starts, then let it end."""
    finisher = Finisher(db)
    for outcome in outcomes:
        finisher.hand_in(outcome)
    finisher.start()
    finisher.stop(time.monotonic() + seconds)
    finisher.join(30)
    assert not finisher.is_alive()
    return finisher


def test_what_has_piled_up_is_recorded_in_one_transaction(db, batches):
    record(db, outcomes_of(db, 40))

    assert batches == [40]
    assert counts(db) == {"finished": 40}


def test_a_job_that_ended_is_not_given_back(db):
    [outcome] = outcomes_of(db, 1)
    finisher = Finisher(db)
    finisher.hand_back([outcome.claimed], Ledger(Unit("worker", db, "worker", WorkerOptions())))

    finisher.hand_in(outcome)
    finisher.start()
    finisher.stop(time.monotonic() + 20)
    finisher.join(30)

    assert counts(db) == {"finished": 1}


def test_a_batch_has_a_size_at_most(db, batches):
    record(db, outcomes_of(db, BATCH_SIZE + 1))

    assert batches == [BATCH_SIZE, 1]


def test_an_outcome_alone_is_recorded_at_once(db):
    [outcome] = outcomes_of(db, 1)
    finisher = Finisher(db)
    finisher.start()
    seen = []

    def receiver(**_):
        # After the commit: another connection sees it.
        seen.append(states(db))
        connections[db.alias].close()

    task_finished.connect(receiver)
    try:
        finisher.hand_in(outcome)
        finisher.stop(time.monotonic() + 20)
        finisher.join(30)
    finally:
        task_finished.disconnect(receiver)

    assert seen == [{outcome.claimed.job_id: ["finished"]}]


def test_one_outcome_that_cannot_be_stored_fails_its_own_job_only(db, events):
    outcomes = outcomes_of(db, 3)
    bad = outcomes[1] = dataclasses.replace(outcomes[1], return_value=object())

    record(db, outcomes)

    assert counts(db) == {"failed": 1, "finished": 2}
    failed = db.objects(FailedExecution).get()
    assert failed.job_id == bad.claimed.job_id
    assert failed.exception_path == "dj_queue.exceptions.InvalidReturnValue"
    assert failed.message.startswith("the outcome could not be stored: ")
    assert [name for name, _ in events()] == ["outcome_refused"]


def test_that_an_outcome_was_refused_waits_for_a_database_that_is_away(db, monkeypatch, events):
    outcomes = outcomes_of(db, 1)
    bad = dataclasses.replace(outcomes[0], return_value=object())
    answers = iter([None, OperationalError("gone"), OperationalError("gone"), None])

    def flaky(db, outcomes):
        if error := next(answers):
            raise error
        return finish(db, outcomes)

    monkeypatch.setattr(module, "finish", flaky)

    finisher = record(db, [bad])

    assert (finisher.pending_count, counts(db)) == (0, {"failed": 1})
    assert [name for name, _ in events()] == ["outcome_refused"]


def test_an_outcome_whose_refusal_is_refused_is_lost(db, monkeypatch, events):
    def never(db, outcomes):
        raise DataError("no")

    monkeypatch.setattr(module, "finish", never)

    finisher = record(db, outcomes_of(db, 1))

    assert (finisher.pending_count, counts(db)) == (1, {"claimed": 1})
    assert [name for name, _ in events()] == ["outcome_refused", "outcome_lost"]


def test_an_outcome_that_the_database_refuses_fails_its_job(db):
    [outcome] = outcomes_of(db, 1, task_path="tests.shop.tasks.fail", args=["x"])
    # What no column takes on any vendor: a NUL on PostgreSQL, too long a path on the others.
    failure = dataclasses.replace(outcome.failure, exception_path="x\x00" * 300)
    refused = dataclasses.replace(outcome, failure=failure)

    record(db, [refused])

    if db.vendor == "sqlite":  # SQLite takes anything.
        assert db.objects(Attempt).get().exception_path == "x\x00" * 300
    else:
        assert db.objects(Attempt).get().exception_path.endswith("InvalidReturnValue")
    assert counts(db) == {"failed": 1}


def test_outcomes_wait_for_a_database_that_is_away(db, monkeypatch, events):
    answers = iter([OperationalError("gone"), OperationalError("gone")])

    def flaky(db, outcomes):
        for error in answers:
            raise error
        return finish(db, outcomes)

    monkeypatch.setattr(module, "finish", flaky)

    record(db, outcomes_of(db, 3))

    assert counts(db) == {"finished": 3}
    assert events() == []  # It was only this write that failed: the database answers.


def test_outcomes_that_could_not_be_recorded_in_time_are_counted_and_logged(
    db, monkeypatch, events
):
    def gone(db, outcomes):
        raise OperationalError("gone")

    monkeypatch.setattr(module, "finish", gone)

    finisher = record(db, outcomes_of(db, 3), seconds=0)

    assert (finisher.pending_count, counts(db)) == (3, {"claimed": 3})
    assert [name for name, _ in events()] == ["outcome_lost"] * 3


def test_a_lost_claim_is_logged_and_sends_no_signal(db, events):
    outcomes = outcomes_of(db, 2)
    finish(db, outcomes[:1])
    told = []

    def receiver(task_result, **_):
        told.append((task_result.id, task_result.status))

    task_finished.connect(receiver)
    try:
        record(db, outcomes)
    finally:
        task_finished.disconnect(receiver)

    assert [name for name, _ in events()] == ["claim_lost"]
    assert told == [(str(outcomes[1].claimed.job_id), TaskResultStatus.SUCCESSFUL)]


def test_a_database_that_takes_no_writes_for_a_while_loses_nothing(db, monkeypatch, events):
    # Longer than the tries that find out whether one outcome is to blame.
    answers = iter([OperationalError("read-only")] * 30)

    def unwilling(db, outcomes):
        for error in answers:
            raise error
        return finish(db, outcomes)

    monkeypatch.setattr(module, "finish", unwilling)
    monkeypatch.setattr(module, "LONGEST_DELAY_SECONDS", 0.01)

    finisher = record(db, outcomes_of(db, 3))

    assert (counts(db), finisher.pending_count, events()) == ({"finished": 3}, 0, [])


def test_an_outcome_too_large_for_the_server_is_told_from_a_server_in_trouble(db, monkeypatch):
    outcomes = outcomes_of(db, 2)
    large = outcomes[0]

    def refusing(db, outcomes):
        if any(each is large for each in outcomes):
            raise OperationalError("packet too large")
        return finish(db, outcomes)

    monkeypatch.setattr(module, "finish", refusing)
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.001)

    finisher = record(db, outcomes)

    assert (counts(db), finisher.pending_count) == ({"failed": 1, "finished": 1}, 0)
    assert "packet too large" in db.objects(FailedExecution).get().message


def test_a_receiver_that_ends_the_program_does_not_end_the_finisher(db, events):
    def receiver(**_):
        raise SystemExit

    task_finished.connect(receiver)
    try:
        record(db, outcomes_of(db, 3))
    finally:
        task_finished.disconnect(receiver)

    assert counts(db) == {"finished": 3}
    assert [name for name, _ in events()] == ["receiver_failed"] * 3


def test_the_exception_of_a_failed_task_is_in_djangos_log(db, caplog):
    record(db, outcomes_of(db, 1, task_path="tests.shop.tasks.fail", args=["boom"]))

    [logged] = [each for each in caplog.records if "state=FAILED" in each.getMessage()]
    assert logged.exc_info[0] is ValueError


def end_connection(db):
    """Let the server end this thread's connection; SQLite has none, so it is closed under us."""
    db.connection.ensure_connection()
    if db.vendor == "sqlite":
        db.connection.connection.close()
        return
    ending = {
        "postgresql": "SELECT pg_terminate_backend(pg_backend_pid())",
        "mysql": "KILL CONNECTION_ID()",
    }
    with suppress(DatabaseError, InterfaceError), db.cursor() as cursor:
        cursor.execute(ending[db.vendor])


def test_a_broken_connection_is_replaced_at_the_next_try(db, monkeypatch):
    tries = []

    def breaking(db, outcomes):
        tries.append(len(outcomes))
        if len(tries) == 1:
            end_connection(db)
        return finish(db, outcomes)

    monkeypatch.setattr(module, "finish", breaking)

    record(db, outcomes_of(db, 3))

    assert (tries, counts(db)) == ([3, 3], {"finished": 3})


def test_an_outcome_whose_answer_was_lost_is_announced_once_and_not_called_lost(
    db, monkeypatch, events
):
    # The first try commits, but its answer never comes; then somebody else's claim is gone too.
    good, bad, stolen = [
        *outcomes_of(db, 1),
        *outcomes_of(db, 1, task_path="tests.shop.tasks.fail", args=["x"]),
        *outcomes_of(db, 1),
    ]
    release(db, stolen.claimed.claim_token)
    real, tries, told = module.finish, [], []

    def answer_lost(db, outcomes):
        recorded = real(db, outcomes)
        tries.append(recorded)
        if len(tries) == 1:
            raise OperationalError("the connection was lost during the commit")
        return recorded

    monkeypatch.setattr(module, "finish", answer_lost)
    monkeypatch.setattr(module, "announce", lambda db, outcome: told.append(outcome))
    record(db, [good, bad, stolen])

    assert [len(recorded) for recorded in tries] == [2, 0]
    assert told == [good, bad]
    lost = [payload["job"] for name, payload in events() if name == "claim_lost"]
    assert lost == [stolen.claimed.job_id]
    assert counts(db) == {"finished": 1, "failed": 1, "ready": 1}
