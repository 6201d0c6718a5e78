"""Hosts whose clocks are minutes off run the jobs of a server whose clock is right."""

from datetime import UTC, datetime, timedelta

import pytest

from dj_queue.models import FinishedExecution
from dj_queue.routers import queue_database
from dj_queue.timezone import for_project
from tests.jobs import EVERY, counts
from tests.processes.records import check_stopped
from tests.shop.recorded import note
from tests.waiting import until

pytestmark = [
    pytest.mark.django_db(transaction=True, **EVERY),
    pytest.mark.usefixtures("needs_server"),
]


@pytest.mark.parametrize("ahead", [600, -600])
def test_a_job_runs_when_it_is_due_whatever_the_hosts_clock_shows(start, records, ahead):
    db = queue_database("default")
    environment = {"DJ_QUEUE_TEST_AHEAD": str(ahead)}
    settings = "tests.processes.wrong_clock"
    command = start("dj_queue", "--backend", "default", settings=settings, environment=environment)
    # When this has run everything is up: the job that is due later was seen not to be due.
    note.enqueue()
    until(lambda: counts(db) == {"finished": 1})
    due = datetime.now(UTC) + timedelta(seconds=2)
    note.using(run_after=for_project(due)).enqueue()
    later = note.using(run_after=for_project(due + timedelta(minutes=5))).enqueue()

    until(lambda: len(records.executions) == 2)

    assert datetime.now(UTC) >= due
    until(lambda: counts(db) == {"finished": 2, "scheduled": 1})
    times = (
        db.objects(FinishedExecution).order_by("started_at").values_list("started_at", flat=True)
    )
    assert times[1] >= due
    assert records.of(later.id) == []
    assert command.end()[0] == 0
    check_stopped(db)
