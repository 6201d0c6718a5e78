"""The dashboard of a project without USE_TZ: its times are those of TIME_ZONE."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from dj_queue.admin import dashboard
from dj_queue.models import (
    Attempt,
    FailedExecution,
    FinishedExecution,
    Job,
    Pause,
    Process,
    QueueMinute,
    ScheduledExecution,
    Semaphore,
)
from dj_queue.models.ids import new_id
from dj_queue.observability.databases import Outage
from tests.admin.conftest import RAW, ROOT, Page
from tests.jobs import EVERY, ME, in_state
from tests.recurring import put

pytestmark = pytest.mark.django_db(**EVERY)

SECOND = datetime(2037, 10, 25, 1, 30, tzinfo=UTC)  # the second 02:30 of the day in Berlin
SHOWN = "2037-10-25 02:30:00"


@pytest.fixture(autouse=True)
def berlin(settings):
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Berlin"


@pytest.fixture
def read(operator, db):
    """Give a function that returns the text of one of the backend's pages."""

    def read(place=""):
        response = operator.get(f"{ROOT}{db.backend}/{place}")
        assert response.status_code == 200, place
        return response.content.decode()

    return read


def test_the_pages_show_local_times(db, read):
    [scheduled] = in_state(db, ScheduledExecution)
    db.objects(ScheduledExecution).update(run_after=SECOND)
    [failed] = in_state(db, FailedExecution)
    rows = {"started_at": SECOND, "ended_at": SECOND, "worker_id": ME}
    db.objects(Attempt).bulk_create([Attempt(job_id=failed.pk, number=1, **rows)])
    put(db, next_run_at=SECOND)

    assert SHOWN in read()
    assert SHOWN in read("queues/default/scheduled/")
    assert SHOWN in read(f"jobs/{scheduled.pk}/")
    assert read(f"jobs/{failed.pk}/").count(SHOWN) == 2  # in the timeline and of the attempt
    assert "2037-10-25T01:30:00Z" in read("stats.json")


def test_every_page_of_raw_rows_shows_local_times(db, read):
    in_state(db, FailedExecution)
    db.objects(FailedExecution).update(failed_at=SECOND)
    db.objects(Job).update(run_after=SECOND, enqueued_at=SECOND)
    db.objects(Pause).create(queue_name="mail", paused_at=SECOND)
    db.objects(Semaphore).create(key="key", held=1, expires_at=SECOND)
    process = Process(ME, "worker", "w", "", 1, "here", None, {}, SECOND, SECOND)
    db.objects(Process).bulk_create([process])
    put(db, next_run_at=SECOND)

    for name in RAW:
        html = read(f"rows/{name}/")
        assert "Oct. 25, 2037, 2:30 a.m." in html, name
        assert "1:30" not in html, name


def test_the_filter_takes_and_shows_local_times(db, read):
    early, late = in_state(db, FinishedExecution, count=2)
    present = datetime.now(UTC).replace(microsecond=0)
    for job, at in [(early, present - timedelta(seconds=20)), (late, present)]:
        db.objects(Job).filter(pk=job.pk).update(enqueued_at=at)
    since = (present - timedelta(seconds=10)).astimezone(dashboard.timezone.get_default_timezone())

    html = read(f"jobs/?state=finished&since={since:%Y-%m-%dT%H:%M:%S}")

    assert str(late.pk) in html
    assert str(early.pk) not in html
    assert f'name="since" step="1" value="{since:%Y-%m-%dT%H:%M:%S}"' in html
    [sent] = [dict(form["fields"]) for form in Page(html).forms if ("all", "yes") in form["fields"]]
    assert datetime.fromisoformat(sent["since"]) == since


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("2037-10-25T02:30", "2037-10-25T02:30:00"),
        ("2037-03-29T02:30", "2037-03-29T03:30:00"),
        ("9999-12-31T23:59", ""),
        ("0001-01-01T00:00", ""),
    ],
)
def test_a_local_time_that_comes_twice_or_never_breaks_no_page(read, typed, shown):
    assert f'name="until" step="1" value="{shown}"' in read(f"jobs/?until={typed}")


def test_charts_show_local_times(db, read):
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    db.objects(QueueMinute).create(
        backend=db.backend, queue_name="mail", minute=minute, process_id=new_id(), finished=3
    )
    local = dashboard.timezone.shown(minute)

    assert re.search(rf"{local:%H:%M}[^<]*3", read())


def test_an_outage_is_told_in_local_time(db, operator, monkeypatch):
    away = Outage(SECOND, "it is away")
    monkeypatch.setattr(dashboard, "outage_of", lambda *_, **__: away)

    response = operator.get(f"{ROOT}{db.backend}/jobs/")

    assert response.status_code == 503
    assert f"unreachable since {SHOWN}" in response.content.decode()
