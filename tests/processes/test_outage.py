"""A server that goes away in mid-run and comes back: everything goes on where it was."""

from datetime import timedelta

import pytest
from django.db import connections

from dj_queue import timezone
from dj_queue.models import Attempt, FinishedExecution, Process
from dj_queue.routers import queue_database
from tests.jobs import EVERY, counts
from tests.processes.records import check, check_stopped
from tests.shop.recorded import hold, note
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

ALL = ("dj_queue", "--backend", "default")
TWO_THREADS = [{"threads": 2}]


@pytest.fixture
def db():
    return queue_database("default")


def run_into_an_outage(start, records, db, queue, **options):
    """Start a command on a queue; two jobs run and others wait when this returns."""
    command = start(*ALL, queue=queue, workers=TWO_THREADS, **options)
    for _ in range(2):
        hold.enqueue("outage")
    until(lambda: len(records.executions) == 2)
    note.get_backend().enqueue_all([(note, [], {})] * 20)
    return command


def through(proxy) -> dict[str, object]:
    return {"HOST": "127.0.0.1", "PORT": proxy.port}


def check_unharmed(command, db, records):
    """Check that every job ran once, though the outcomes of two came when nobody was there."""
    until(lambda: counts(db) == {"finished": 22})
    assert len(records.executions) == 22
    assert set(db.objects(FinishedExecution).values_list("attempt", flat=True)) == {1}
    assert not db.objects(Attempt).exists()
    check(db, records, enqueued=22)
    status, output = command.end()
    assert status == 0, output
    for event in ("database_down", "database_up"):
        assert output.count(f"{event} database={db.alias}") == 1, output
    assert not {"process_died", "process_pruned", "claim_lost"} & set(output.split())
    check_stopped(db)


def test_what_ends_during_an_outage_is_recorded_after_it(start, records, proxy, db):
    command = run_into_an_outage(start, records, db, through(proxy))

    proxy.shut()
    until(lambda: "database_down" in command.output)
    records.open("outage")
    proxy.open()

    check_unharmed(command, db, records)


def test_an_outage_longer_than_the_threshold_costs_nobody_its_claims(start, records, proxy, db):
    # Every heart is silent meanwhile; the dispatcher must not take that for their death.
    command = run_into_an_outage(
        start,
        records,
        db,
        through(proxy),
        process_alive_threshold=1,
    )

    proxy.shut()
    until(lambda: is_silent(db, seconds=1.5))
    records.open("outage")
    proxy.open()

    check_unharmed(command, db, records)


def is_silent(db, seconds: float) -> bool:
    oldest = timezone.now() - timedelta(seconds=seconds)
    return not db.objects(Process).filter(last_heartbeat_at__gte=oldest).exists()


def test_stopping_during_an_outage_says_what_is_lost_and_the_next_start_recovers(
    start, records, proxy, db
):
    command = run_into_an_outage(
        start,
        records,
        db,
        through(proxy),
        process_alive_threshold=1,
    )

    proxy.shut()
    records.open("outage")
    until(lambda: "database_down" in command.output)
    status, output = command.end()
    until(lambda: command.is_over)
    assert (status, output.count("outcome_lost")) == (1, 2), output
    assert counts(db) == {"claimed": 2, "ready": 20}
    lost = set(db.objects(Process).values_list("pk", flat=True))

    proxy.open()
    second = start(*ALL, process_alive_threshold=1)
    until(lambda: counts(db) == {"finished": 20, "failed": 2})
    until(lambda: not db.objects(Process).filter(pk__in=lost).exists())
    check(db, records, enqueued=22)
    assert second.end()[0] == 0
    check_stopped(db)


def test_a_server_that_is_stopped_and_started_again_ends_nothing(start, records, server, db):
    command = run_into_an_outage(start, records, db, server.settings)

    server.stop()
    records.open("outage")
    until(lambda: "database_down" in command.output)
    server.start()
    connections["queue"].close()

    check_unharmed(command, db, records)
