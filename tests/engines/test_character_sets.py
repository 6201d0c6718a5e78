"""Queue databases that cannot store every character: found by a check, and errors are stored."""

from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import connections

from dj_queue.checks import live
from dj_queue.models import Attempt, FailedExecution
from dj_queue.operations.failure import Failure
from dj_queue.routers import QueueDatabase, queue_database
from tests.jobs import EVERY, counts
from tests.runtime.finishing import outcomes_of, record

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

NARROW = {
    "postgresql": "ENCODING '{}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
    "mysql": "CHARACTER SET {}",
}
TEXT = "naïve Ω 😀"


@pytest.fixture(params=["latin1", "utf8mb3"])
def narrow(request: pytest.FixtureRequest) -> Iterator[str]:
    """Put the queue of `default` on a new database of this character set, without tables."""
    connection, name = connections["queue"], request.param
    if connection.vendor not in NARROW or (connection.vendor, name) == ("postgresql", "utf8mb3"):
        pytest.skip("needs a character set: this database has none of this name")
    before = connection.settings_dict["NAME"]
    other = f"{before}_{name}"
    made = NARROW[connection.vendor].format(name)
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {other}")
        cursor.execute(f"CREATE DATABASE {other} {made}")
    connection.close()
    connection.settings_dict["NAME"] = other
    yield name
    connection.close()
    connection.settings_dict["NAME"] = before
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"DROP DATABASE {other}")


@pytest.fixture
def db() -> QueueDatabase:
    return queue_database("default")


def found() -> list[str]:
    return [each.msg for each in live.check_character_sets(databases=["queue"])]


def test_a_database_that_stores_everything_is_not_reported(db):
    assert found() == []


def test_it_is_found_before_there_are_tables_and_after(db, narrow):
    is_postgresql = db.vendor == "postgresql"
    place = f"of database 'queue' to be {'UTF8' if is_postgresql else 'utf8mb4'}"

    [before] = found()
    call_command("dj_queue_migrate", backend=["default"], verbosity=0)
    [after] = found()

    assert place in before
    assert before.partition(", got ")[2].lower().startswith(narrow)
    if not is_postgresql:
        assert f"got {narrow} for dj_queue_attempt.exception_path, dj_queue_a" in after
        # Names are utf8mb4 in any case, and ids have no other characters than digits.
        assert ".queue_name" not in after
        assert ".job_id" not in after


@pytest.mark.parametrize("has_more", [False, True], ids=["last attempt", "more attempts"])
def test_errors_with_any_characters_are_stored_escaped(db, narrow, events, has_more):
    call_command("dj_queue_migrate", backend=["default"], verbosity=0)
    odd = type("Fehler☠", (ValueError,), {"__module__": "shop"})
    columns = {"task_path": "tests.shop.tasks.fail", "args": ["x"]}
    bad, plain = outcomes_of(db, 2, **columns)
    [fine] = outcomes_of(db, 1)
    bad.failure = Failure.of(odd(TEXT))
    if has_more:
        bad.retry_at = bad.ended_at

    record(db, [bad, plain, fine])

    attempt = db.objects(Attempt).get(job_id=bad.claimed.job_id)
    assert attempt.exception_path == r"shop.Fehler\u2620"
    assert attempt.message == r"na\xefve \u03a9 \U0001f600"
    assert r"\U0001f600" in attempt.traceback
    assert db.objects(Attempt).get(job_id=plain.claimed.job_id).message == "x"
    failed = db.objects(FailedExecution).filter(pk=bad.claimed.job_id)
    assert [row.message for row in failed] == ([] if has_more else [attempt.message])
    assert counts(db) == {"finished": 1, "failed": 1 if has_more else 2} | (
        {"ready": 1} if has_more else {}
    )
    assert "outcome_refused" not in [name for name, _ in events()]


def test_a_return_value_that_cannot_be_stored_is_refused_at_once(db, narrow, monkeypatch):
    call_command("dj_queue_migrate", backend=["default"], verbosity=0)
    good, bad = outcomes_of(db, 2)
    bad.return_value = TEXT
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it was tried again"))

    record(db, [good, bad])

    assert counts(db) == {"finished": 1, "failed": 1}
    assert "could not be stored" in db.objects(FailedExecution).get().message


@pytest.mark.parametrize("client", ["latin1", "utf8mb3"])
def test_connections_that_carry_fewer_characters_are_found_and_errors_stored(db, client):
    connection = db.connection
    if connection.vendor != "mysql":
        pytest.skip("needs a choice of character sets: connections to this database have UTF-8")
    before = connection.settings_dict["OPTIONS"]
    outcomes = outcomes_of(db, 1, task_path="tests.shop.tasks.fail", args=["x"])
    outcomes[0].failure = Failure.of(ValueError(TEXT))
    connection.close()
    connection.settings_dict["OPTIONS"] = {**before, "charset": client}
    try:
        messages = found()
        record(db, outcomes)
    finally:
        connection.close()
        connection.settings_dict["OPTIONS"] = before

    assert len(messages) == 1
    assert client in messages[0].lower()
    assert db.objects(Attempt).get().message == r"na\xefve \u03a9 \U0001f600"


def test_the_name_of_an_exception_may_have_any_characters(db):
    odd = type("Odd", (ValueError,), {"__module__": "shop", "__qualname__": "Odd\x00\ud800"})
    [outcome] = outcomes_of(db, 1, task_path="tests.shop.tasks.fail", args=["x"])
    outcome.failure = Failure.of(odd("x"))

    record(db, [outcome])

    assert db.objects(Attempt).get().exception_path == r"shop.Odd\x00\ud800"
