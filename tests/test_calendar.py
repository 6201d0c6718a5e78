"""The ends of the calendar: moments beyond them are refused, and spoil no list."""

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from itertools import count
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.db.models import Min
from django.test import Client

from dj_queue.admin.links import Links
from dj_queue.compat import InvalidTask, task_backends
from dj_queue.models import Job, ScheduledExecution
from dj_queue.observability.jobs import JobFilter, find_jobs
from dj_queue.observability.snapshot import snapshot
from dj_queue.observability.timeline import timeline_of
from dj_queue.operations.claim import claim
from dj_queue.operations.dispatch import run_now
from dj_queue.operations.retry import next_attempt_at
from dj_queue.tasks import Retry, RetryPolicy, task
from dj_queue.timezone import for_project, to_utc
from tests.jobs import EVERY, LATER, ME, NOW, build, in_state
from tests.shop import tasks

pytestmark = pytest.mark.django_db(**EVERY)

WEST, EAST = timezone(timedelta(hours=-12)), timezone(timedelta(hours=14))
PLACES = [UTC, WEST, EAST, ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")]
FIRST, LAST = datetime(1000, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, 23, 59, 59, 999_999, UTC)
"""The ends of what is kept."""
DAY = timedelta(days=1, microseconds=1)


class Broken(tzinfo):
    """A time zone that answers nothing."""

    def utcoffset(self, when):
        raise LookupError

    tzname = dst = utcoffset


def beyond():
    yield from (datetime.max.replace(tzinfo=each) for each in PLACES)
    yield from (datetime.min.replace(tzinfo=each) for each in PLACES)
    yield datetime(9999, 1, 1, tzinfo=UTC)
    yield datetime(999, 12, 31, tzinfo=UTC)
    yield datetime.max.replace(tzinfo=Broken())


BEYOND = list(beyond())
PAGES = [
    "",
    "stats.json",
    "jobs/",
    "jobs/?state=scheduled",
    "jobs/{id}/",
    "rows/jobs/",
    "jobs/?since=9999-12-31T23:59:59&until=9999-12-31T23:59:59",
    "jobs/?since=0001-01-01T00:00:00&until=0001-01-01T00:00:00",
]
EXPECTED = "expected a datetime of the years 1000 to 9998, got "


@pytest.mark.parametrize("moment", BEYOND, ids=count())
def test_a_run_after_beyond_the_calendar_is_refused(db, moment):
    with pytest.raises(InvalidTask) as refused:
        tasks.add.using(backend=db.backend, run_after=moment)

    assert str(refused.value).startswith(f"run_after: {EXPECTED}")
    assert not db.objects(Job).exists()


@pytest.mark.parametrize("moment", BEYOND, ids=count())
def test_a_retry_beyond_the_calendar_is_refused(moment):
    with pytest.raises(ValueError, match=f"^after: {EXPECTED}"):
        Retry(after=moment)


@pytest.mark.parametrize("wrong", [date(2026, 1, 1), "2026-01-01", 5, 1.5, True, object()])
def test_what_is_no_moment_is_refused(wrong):
    with pytest.raises(InvalidTask, match=r"^run_after: expected a datetime or a timedelta, got "):
        tasks.add.using(run_after=wrong)


@pytest.mark.parametrize("zone", PLACES, ids=count())
@pytest.mark.parametrize("moment", [FIRST, LAST])
def test_the_first_and_the_last_moment_are_kept_exactly(db, moment, zone):
    moment = moment.replace(tzinfo=zone)
    result = tasks.add.using(backend=db.backend, run_after=moment).enqueue(1, 2)

    stored = task_backends[db.backend].get_result(result.id)

    assert stored.task.run_after == for_project(moment)


class Patient(RetryPolicy):
    """Waits for ever."""

    def delay_seconds(self, attempt, *, draw=None):
        return (datetime(9999, 6, 1, tzinfo=UTC) - NOW).total_seconds()


def test_rules_that_wait_beyond_the_calendar_wait_as_long_as_usual(db, events):
    patient = task(max_attempts=2, backoff=Patient())(tasks.add.func)
    job = build(db, max_attempts=2)

    due = next_attempt_at(patient, job, 1, ValueError(), now=NOW)

    assert NOW <= due <= NOW + timedelta(seconds=10)
    assert [name for name, _ in events()] == ["backoff_failed"]


@pytest.fixture(
    params=["9999-12-31 23:59:59.999999", "10000-01-01 04:00:00", "infinity", "0001-01-01"]
)
def beyond_job(request, db, settings):
    """Store a job whose row has such a moment, beside one that is in order."""
    if db.vendor != "postgresql" and request.param in ("infinity", "10000-01-01 04:00:00"):
        pytest.skip("needs a column for moments that Python has none for")
    settings.TIME_ZONE = "America/New_York" if "0001" in request.param else "Europe/Berlin"
    bad, good = in_state(db, ScheduledExecution, count=2, run_after=LATER)
    with db.cursor() as cursor:
        for table, key in (("job", "id"), ("scheduledexecution", "job_id")):
            cursor.execute(
                f"UPDATE dj_queue_{table} SET run_after = %s WHERE {key} = %s",
                [request.param, Job._meta.pk.get_db_prep_value(bad.id, db.connection)],
            )
    return bad, good


def test_a_row_beyond_the_calendar_spoils_no_list(db, beyond_job):
    bad, good = beyond_job

    rows = db.objects(Job).filter(pk__in=[bad.id, good.id])
    page = find_jobs(db, JobFilter(state="scheduled"))
    result = task_backends[db.backend].get_result(str(bad.id))

    assert {each.id for each in rows} == {each.pk for each in page.jobs} == {bad.id, good.id}
    run_after = to_utc(result.task.run_after)
    assert FIRST - DAY <= run_after <= LAST + DAY
    assert rows.aggregate(Min("run_after"))["run_after__min"] <= LATER
    assert set(rows.values_list("run_after", flat=True)) == {run_after, LATER}
    assert timeline_of(db, bad.id).job.run_after == run_after
    assert snapshot(db, now=NOW)


def test_a_row_beyond_the_calendar_spoils_no_page(db, beyond_job):
    bad, _ = beyond_job
    viewer = User.objects.create_superuser("viewer")
    client = Client()
    client.force_login(viewer)
    root = Links("admin", db.backend).overview()

    for path in PAGES:
        response = client.get(f"{root}{path.format(id=bad.id)}")
        assert response.status_code == 200, path


def test_a_row_beyond_the_calendar_can_be_run_now_and_claimed(db, beyond_job):
    bad, good = beyond_job

    run_now(db, [bad.id, good.id], now=NOW)
    rows = claim(db, ["*"], limit=5, process_id=ME, now=NOW)

    assert {row.job_id for row in rows} == {bad.id, good.id}
