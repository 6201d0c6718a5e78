"""Outcomes that cannot be stored: their jobs fail, and no other."""

import dataclasses

import pytest
from django.db import DataError, OperationalError

from dj_queue.models import Attempt, FailedExecution
from dj_queue.operations.finish import finish
from dj_queue.runtime import blame
from dj_queue.runtime import finisher as module
from tests.jobs import EVERY, counts
from tests.runtime.finishing import outcomes_of, record

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


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
    monkeypatch.setattr(blame, "finish", flaky)

    finisher = record(db, [bad])

    assert (finisher.pending_count, counts(db)) == (0, {"failed": 1})
    assert [name for name, _ in events()] == ["outcome_refused"]


def test_an_outcome_whose_refusal_is_refused_is_lost(db, monkeypatch, events):
    def never(db, outcomes):
        raise DataError("no")

    monkeypatch.setattr(module, "finish", never)
    monkeypatch.setattr(blame, "finish", never)

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


def test_an_outcome_too_large_for_the_server_is_told_from_a_server_in_trouble(db, monkeypatch):
    outcomes = outcomes_of(db, 2)
    large = outcomes[0]

    def refusing(db, outcomes):
        if any(each is large for each in outcomes):
            raise OperationalError("packet too large")
        return finish(db, outcomes)

    monkeypatch.setattr(module, "finish", refusing)
    monkeypatch.setattr(blame, "finish", refusing)
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.001)

    finisher = record(db, outcomes)

    assert (counts(db), finisher.pending_count) == ({"failed": 1, "finished": 1}, 0)
    assert "packet too large" in db.objects(FailedExecution).get().message
