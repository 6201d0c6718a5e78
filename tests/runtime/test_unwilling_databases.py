"""Databases that answer and do not write: no outcome is blamed for it, and none is lost."""

import pytest
from django.db import InternalError, OperationalError

from dj_queue.models import Attempt, FailedExecution
from dj_queue.operations.finish import finish
from dj_queue.operations.processes import register
from dj_queue.runtime import blame
from dj_queue.runtime import finisher as module
from tests.jobs import EVERY, ME, counts
from tests.runtime.finishing import outcomes_of, record
from tests.runtime.units import registered

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

TRIES = 3 * module.TRIES
"""More than find out whether one outcome is to blame, and then refuse it."""


def error_of(db, trouble):
    """Give an error as the driver of this vendor raises it when that is the trouble."""
    cause = Exception()
    state = {"full": "53100", "read-only": "25006", "timeout": "57014", "serialization": "40001"}
    cause.sqlstate = state[trouble]
    number = {"full": 1114, "read-only": 1290, "timeout": 1205, "serialization": 1213}
    text = {"full": "database or disk is full", "read-only": "attempt to write a readonly database"}
    if db.vendor == "mysql":
        return OperationalError(number[trouble], "trouble")
    # So does psycopg: a transaction's state is "internal".
    is_internal = (db.vendor, trouble) == ("postgresql", "read-only")
    kind = InternalError if is_internal else OperationalError
    error = kind(text.get(trouble, "database is locked") if db.vendor == "sqlite" else trouble)
    error.__cause__ = cause
    return error


def refuse(monkeypatch, target, name, error, times=TRIES):
    """Let a function raise so many times instead of doing anything."""
    real, left = getattr(target, name), [error] * times

    def unwilling(*arguments, **keywords):
        if left:
            raise left.pop()
        return real(*arguments, **keywords)

    monkeypatch.setattr(target, name, unwilling)
    return left


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(module, "LONGEST_DELAY_SECONDS", 0.002)


def mixed_outcomes(db):
    """Give two outcomes, one of a failure: they are recorded in a transaction on every vendor."""
    register(db, [row_of_me(db)])
    return [*outcomes_of(db, 1), *outcomes_of(db, 1, task_path="tests.shop.tasks.fail", args=["x"])]


def row_of_me(db):
    row = registered(db).row(module_now())
    row.id = ME
    return row


def module_now():
    from dj_queue import timezone

    return timezone.now()


@pytest.mark.parametrize("message", ["full", "something that nobody has heard of"])
def test_no_outcome_is_blamed_for_what_fails_at_commit(db, monkeypatch, events, message):
    error = error_of(db, "full") if message == "full" else OperationalError(message)
    outcomes = mixed_outcomes(db)
    left = refuse(monkeypatch, type(db.connection), "_commit", error)

    finisher = record(db, outcomes)

    assert left == []
    assert (finisher.pending_count, counts(db)) == (0, {"finished": 1, "failed": 1})
    assert db.objects(FailedExecution).get().exception_path == "builtins.ValueError"
    assert db.objects(Attempt).count() == 1
    assert not {"outcome_refused", "outcome_lost"} & {name for name, _ in events()}


@pytest.mark.parametrize("trouble", ["full", "read-only", "timeout", "serialization"])
def test_no_outcome_is_blamed_for_what_a_database_is_in(db, monkeypatch, events, trouble):
    # A small write may succeed meanwhile: it is what the error says that counts.
    outcomes, real, left = mixed_outcomes(db), finish, [error_of(db, trouble)] * TRIES

    def unwilling(db, batch):
        if left:
            raise left.pop()
        return real(db, batch)

    monkeypatch.setattr(module, "finish", unwilling)
    monkeypatch.setattr(blame, "finish", unwilling)

    finisher = record(db, outcomes)

    assert left == []
    assert (finisher.pending_count, counts(db)) == (0, {"finished": 1, "failed": 1})
    assert not {"outcome_refused", "outcome_lost"} & {name for name, _ in events()}


@pytest.mark.parametrize(
    ("trouble", "began", "ended"),
    [
        ("full", "database_full", "database_writable"),
        ("read-only", "database_read_only", "database_writable"),
        ("timeout", "database_busy", "database_answers"),
    ],
)
def test_it_is_an_outage_of_its_own_name_with_a_line_each_way(
    db, monkeypatch, events, trouble, began, ended
):
    refuse(monkeypatch, module, "finish", error_of(db, trouble))
    refuse(monkeypatch, blame, "finish", error_of(db, trouble))

    record(db, mixed_outcomes(db))

    assert [name for name, _ in events()] == [began, ended]
    assert {payload["database"] for _, payload in events()} == {db.alias}
