"""The finisher: group commit."""

import time
from contextlib import suppress

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError, connections

from dj_queue.compat import TaskResultStatus, task_finished
from dj_queue.conf import WorkerOptions
from dj_queue.operations.claim import release
from dj_queue.operations.finish import finish
from dj_queue.runtime import blame
from dj_queue.runtime import finisher as module
from dj_queue.runtime.finisher import BATCH_SIZE, Finisher
from dj_queue.runtime.ledger import Ledger
from dj_queue.runtime.units import Unit
from tests.jobs import EVERY, counts, states
from tests.runtime.finishing import outcomes_of, record

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

    for each in (module, blame):
        monkeypatch.setattr(each, "finish", unwilling)
    monkeypatch.setattr(module, "LONGEST_DELAY_SECONDS", 0.01)

    finisher = record(db, outcomes_of(db, 3))

    assert (counts(db), finisher.pending_count, events()) == ({"finished": 3}, 0, [])


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
