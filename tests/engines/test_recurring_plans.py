"""10,000 recurring tasks that are not due: a scheduler's poll is one statement by index."""

from datetime import timedelta

import pytest
from django.test.utils import CaptureQueriesContext

from dj_queue.models import RecurringTask
from dj_queue.runtime import scheduler as module
from dj_queue.runtime.scheduler import Scheduler
from tests.engines import reading
from tests.engines.reading import cost_of, faults_of
from tests.jobs import EVERY, NOW
from tests.recurring import put, tasks
from tests.runtime.units import registered

pytestmark = pytest.mark.django_db(**EVERY)

COUNT = 10_000
MOST = {"sqlite": 400}
"""Rows that a look may read, on SQLite the steps it takes; all rows would be a hundred times it."""


@pytest.fixture
def scheduler(db, monkeypatch):
    """Give a scheduler that has synchronised, in front of many tasks that come tomorrow."""
    monkeypatch.setattr(reading, "BIG", [RecurringTask._meta.db_table])
    monkeypatch.setattr(module, "present", lambda db: NOW)
    row = put(db)
    columns = {f.attname: getattr(row, f.attname) for f in RecurringTask._meta.concrete_fields}
    del columns["id"]
    rows = [
        RecurringTask(**{**columns, "key": f"t{number}", "next_run_at": NOW + timedelta(days=1)})
        for number in range(COUNT)
    ]
    db.objects(RecurringTask).bulk_create(rows, batch_size=1_000)
    db.objects(RecurringTask).filter(pk=row.pk).update(next_run_at=NOW + timedelta(hours=1))
    scheduler = Scheduler(registered(db))
    scheduler.poll()
    return scheduler


def test_a_poll_of_tasks_that_are_not_due_is_one_statement(db, scheduler):
    with CaptureQueriesContext(db.connection) as sent:
        assert scheduler.poll() == 5

    assert len(sent) == 1
    assert len(tasks(db)) == COUNT + 1


@pytest.mark.parametrize("has_statistics", [False, True])
def test_it_finds_what_is_due_by_index_and_reads_nothing_else(db, scheduler, has_statistics):
    if db.vendor == "postgresql":  # Elsewhere it would commit the rows.
        if not has_statistics:
            pytest.skip("needs statistics: the plan is a guess, by those of an earlier moment")
        with db.cursor() as cursor:
            cursor.execute(f"ANALYZE {RecurringTask._meta.db_table}")

    # What is due is sorted, over the backends; what is not is not even read.
    scans = ("Seq Scan", "SCAN ", "'type': 'ALL'", "'type': 'index'")
    faults = faults_of(db, scheduler.poll)
    assert [each for each in faults if any(scan in each for scan in scans)] == []
    assert cost_of(db, scheduler.poll) <= MOST.get(db.vendor, 20)
