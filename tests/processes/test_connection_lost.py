"""A connection that is lost in the middle: nothing is lost with it, and nothing runs twice."""

import pytest

from dj_queue.models import Attempt, FinishedExecution
from dj_queue.routers import queue_database
from tests.jobs import EVERY, counts
from tests.processes import sessions
from tests.processes.records import check, check_stopped
from tests.shop.recorded import hold, note, use_the_queue
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

ALL = ("dj_queue", "--backend", "default")
READY, CLAIMED, FINISHED = (
    f"dj_queue_{name}execution" for name in ("ready", "claimed", "finished")
)


@pytest.fixture
def db():
    return queue_database("default")


def write(table: str) -> list[bytes]:
    """Give the texts by which a connection writes to this table for good."""
    insert = f"INSERT INTO {table}".encode()
    is_one_statement = queue_database("default").vendor == "postgresql"
    return [insert] if is_one_statement else [insert, b"COMMIT"]


def at_once(db) -> bool:
    """Whether each job ran in its first attempt, and no attempt failed."""
    attempts = set(db.objects(FinishedExecution).values_list("attempt", flat=True))
    return attempts == {1} and not db.objects(Attempt).exists()


def through(proxy) -> dict[str, object]:
    return {"HOST": "127.0.0.1", "PORT": proxy.port}


def end(command, db, records, enqueued):
    """End the command and check that all is as it must be."""
    check(db, records, enqueued=enqueued)
    status, output = command.end()
    assert status == 0, output
    check_stopped(db)
    return output


def test_a_claim_whose_answer_is_lost_is_released_and_made_again(start, records, proxy, db):
    note.get_backend().enqueue_all([(note, [], {})] * 10)
    proxy.cut_answer_of(*write(CLAIMED))

    command = start(*ALL, queue=through(proxy))
    until(lambda: counts(db) == {"finished": 10})

    assert proxy.cut_count == 1
    assert at_once(db)
    assert len(records.executions) == 10
    end(command, db, records, 10)


def test_outcomes_whose_answer_is_lost_are_recorded_once_and_not_called_lost(
    start, records, proxy, db
):
    note.get_backend().enqueue_all([(note, [], {})] * 10)
    proxy.cut_answer_of(*write(FINISHED))

    command = start(*ALL, queue=through(proxy))
    until(lambda: counts(db) == {"finished": 10})
    until(lambda: proxy.cut_count == 1)

    assert at_once(db)
    assert len(records.executions) == 10
    output = end(command, db, records, 10)
    assert "claim_lost" not in output


def test_a_connection_that_the_server_ends_during_a_claim(start, records, needs_server, db):
    note.get_backend().enqueue_all([(note, [], {})] * 10)
    with sessions.locked_table(db.alias, READY):
        command = start(*ALL, "--only", "workers")
        until(lambda: sessions.waiting(db.alias))
        [claiming] = sessions.waiting(db.alias)
        sessions.terminate(db.alias, claiming)
        # It asks again, on another connection.
        until(lambda: set(sessions.waiting(db.alias)) - {claiming})
    until(lambda: counts(db) == {"finished": 10})

    assert at_once(db)
    assert "database_down" not in end(command, db, records, 10)


def test_a_connection_that_the_server_ends_during_a_finish(start, records, needs_server, db):
    running = hold.enqueue("end")
    command = start(*ALL, "--only", "workers")
    until(lambda: records.of(running.id))
    with sessions.locked_table(db.alias, FINISHED):
        records.open("end")
        until(lambda: sessions.waiting(db.alias))
        [finishing] = sessions.waiting(db.alias)
        sessions.terminate(db.alias, finishing)
        until(lambda: set(sessions.waiting(db.alias)) - {finishing})
    until(lambda: counts(db) == {"finished": 1})

    assert at_once(db)
    assert len(records.executions) == 1
    assert "claim_lost" not in end(command, db, records, 1)


def test_a_connection_that_the_server_ends_during_a_task_costs_one_attempt(
    start, records, needs_server, db
):
    once = use_the_queue.enqueue("once")
    twice = use_the_queue.using(max_attempts=2).enqueue("twice")
    command = start(*ALL, "--only", "workers")
    files = [records.directory / f"{gate}.session" for gate in ("once", "twice")]
    until(lambda: all(file.exists() and file.read_text() for file in files))

    for file in files:
        sessions.terminate(db.alias, int(file.read_text()))
    for gate in ("once", "twice"):
        records.open(gate)
    until(lambda: counts(db) == {"finished": 1, "failed": 1})

    assert [len(records.of(each.id)) for each in (once, twice)] == [1, 2]
    twice.refresh()
    assert len(twice.errors) == 1
    assert note.enqueue()
    until(lambda: counts(db) == {"finished": 2, "failed": 1})
    end(command, db, records, 3)
