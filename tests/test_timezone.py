"""Projects with and without USE_TZ, in any time zone, see the same queue."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from django.core import serializers
from django.core.management import call_command
from django.db import connections
from django.db.models import Max, Min
from django.test import override_settings

from dj_queue import timezone
from dj_queue.compat import InvalidTask, TaskResultStatus, task_backends
from dj_queue.engines import engine_for
from dj_queue.engines.semaphores import SemaphoreLocks
from dj_queue.models import (
    Attempt,
    ClaimedExecution,
    FinishedExecution,
    Job,
    Process,
    QueueMinute,
    RecurringTask,
    ScheduledExecution,
    Semaphore,
)
from dj_queue.models.ids import new_id
from dj_queue.observability.minutes import DAY, HOUR, read_series
from dj_queue.operations.claim import claim
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.operations.processes import silent_processes
from dj_queue.operations.prune import prune_ended
from dj_queue.operations.transitions import in_transaction, move
from dj_queue.recurring import schedule
from dj_queue.tasks import Retry
from dj_queue.testing import drain
from tests.jobs import EVERY, ME, NOW, build, in_state, states
from tests.recurring import changing, fire
from tests.shop import retries, tasks

pytestmark = pytest.mark.django_db(**EVERY)

BERLIN, KOLKATA = "Europe/Berlin", "Asia/Kolkata"
# The clock of Berlin shows 02:30 twice on 25 October, and not at all on 29 March.
FIRST = datetime(2037, 10, 25, 0, 30, 0, 250_000, tzinfo=UTC)
SECOND = FIRST + timedelta(hours=1)
TWICE = datetime(2037, 10, 25, 2, 30, 0, 250_000)
NEVER = datetime(2037, 3, 29, 2, 30)
ALL_JOBS = "SELECT * FROM dj_queue_job ORDER BY id"
PROJECTS = [
    (True, "UTC", None),
    (True, "UTC", BERLIN),
    (False, BERLIN, None),
    (False, "America/Chicago", None),
    (False, KOLKATA, None),
]
"""USE_TZ, TIME_ZONE, and TIME_ZONE of the databases, which Django allows with USE_TZ only."""


@contextmanager
def project(use_tz, zone, database_zone=None):
    """Be a project with these settings, on its connections too."""
    for each in connections.all():
        each.settings_dict["TIME_ZONE"] = database_zone
    try:
        # The change of a setting is what makes Django look at the connections.
        with override_settings(USE_TZ=use_tz, TIME_ZONE=zone):
            yield
    finally:
        for each in connections.all():
            each.settings_dict["TIME_ZONE"] = None
        with override_settings(USE_TZ=True, TIME_ZONE="UTC"):
            pass


@pytest.fixture
def berlin(settings):
    settings.USE_TZ = False
    settings.TIME_ZONE = BERLIN


@pytest.mark.parametrize("writer", PROJECTS)
def test_every_project_reads_the_time_that_another_wrote(db, writer):
    times = [FIRST, SECOND]
    with project(*writer):
        enqueue(db, [build(db, run_after=at, enqueued_at=at) for at in times], now=NOW)

    for reader in PROJECTS:
        with project(*reader):
            rows = db.objects(ScheduledExecution).order_by("run_after")
            found = [
                [row.run_after for row in rows],
                list(db.objects(Job).order_by("id").values_list("enqueued_at", flat=True)),
                [row.run_after for row in db.objects(Job).raw(ALL_JOBS)],
                [rows.filter(run_after=at).get().run_after for at in times],
                [*rows.aggregate(Min("run_after"), Max("run_after")).values()],
            ]
            assert found == [times] * 5, reader
            assert {at.tzinfo for each in found for at in each} == {UTC}


@pytest.mark.parametrize("worker", PROJECTS)
def test_the_engines_keep_times_in_every_project(db, worker):
    with project(*worker):
        jobs = [build(db, run_after=at, enqueued_at=FIRST) for at in (FIRST, SECOND)]
        enqueue(db, jobs, now=SECOND)
        claimed = claim(db, ["*"], limit=2, process_id=ME, now=SECOND)
        assert [row.job.run_after for row in claimed] == [FIRST, SECOND]
        assert {row.claimed_at for row in db.objects(ClaimedExecution)} == {SECOND}

        ticks = iter([FIRST, SECOND, FIRST, SECOND])
        outcomes = [execute(db, row, clock=lambda: next(ticks)) for row in claimed]
        assert len(finish(db, outcomes)) == 2

        rows = list(db.objects(FinishedExecution))
        assert [(row.started_at, row.finished_at) for row in rows] == [(FIRST, SECOND)] * 2
        minute = db.objects(QueueMinute).get()
        assert (minute.minute, minute.finished) == (SECOND.replace(microsecond=0), 2)
        assert minute.running_seconds == pytest.approx(7200)


@pytest.mark.parametrize("worker", PROJECTS)
def test_rows_that_a_statement_takes_keep_their_times(db, worker):
    with project(*worker):
        in_state(db, ScheduledExecution)
        db.objects(ScheduledExecution).update(run_after=SECOND)
        ids = [row.pk for row in db.objects(ScheduledExecution)]
        [taken] = in_transaction(db, lambda: move(db, ScheduledExecution, ids, lambda row: []))
        assert taken.run_after == SECOND

        with db.atomic():
            found = engine_for(db).lock_semaphores(db, ["key"], SECOND)
            again = SemaphoreLocks.lock_semaphores(engine_for(db), db, ["key"], FIRST)
        assert {row.expires_at for row in [*found.values(), *again.values()]} == {SECOND}
        assert db.objects(Semaphore).get().expires_at == SECOND


def test_jobs_are_dispatched_in_order_and_not_an_hour_early_when_clocks_are_set_back(db, berlin):
    task = tasks.add.using(backend=db.backend)
    late = task.using(run_after=TWICE.replace(fold=1)).enqueue(1, 1)
    early = task.using(run_after=TWICE).enqueue(1, 1)

    assert [result.id for result in drain(db.backend, now=FIRST)] == [early.id]
    assert drain(db.backend, now=SECOND - timedelta(seconds=1)) == []
    assert [result.id for result in drain(db.backend, now=TWICE.replace(fold=1))] == [late.id]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (datetime(2037, 7, 1, 14), datetime(2037, 7, 1, 12, tzinfo=UTC)),
        (TWICE, FIRST),
        (TWICE.replace(fold=1), SECOND),
        (NEVER, datetime(2037, 3, 29, 1, 30, tzinfo=UTC)),
        (SECOND, SECOND),
        (SECOND.astimezone(ZoneInfo(KOLKATA)), SECOND),
    ],
)
def test_without_use_tz_run_after_is_a_local_time_or_any_aware_one(db, berlin, given, meant):
    task = tasks.add.using(backend=db.backend, run_after=given)

    one, [many] = task.enqueue(1, 2), task.get_backend().enqueue_all([(task, (1, 2), {})])

    assert {row.run_after for row in db.objects(Job)} == {meant}
    local = meant.astimezone(ZoneInfo(BERLIN)).replace(tzinfo=None)
    for result in (one, many):
        again = task.get_result(result.id).task.run_after
        assert (again, again.tzinfo, again.fold) == (local, None, local.fold)


def test_with_use_tz_a_naive_run_after_is_refused(db):
    with project(True, BERLIN), pytest.raises(InvalidTask, match="aware"):
        tasks.add.using(backend=db.backend, run_after=TWICE)


def test_without_use_tz_a_result_tells_local_times(db, berlin):
    task = tasks.add.using(backend=db.backend)
    before = datetime.now()
    result = task.enqueue(1, 2)
    [ran] = drain(db.backend)

    found = task.get_result(result.id)

    result.refresh()
    for each in (ran, found, result):
        moments = [each.enqueued_at, each.started_at, each.last_attempted_at, each.finished_at]
        assert {at.tzinfo for at in moments} == {None}
        instants = map(timezone.to_utc, [before, *moments, datetime.now()])
        assert all(one <= other for one, other in pairwise(instants))


def test_without_use_tz_the_second_half_past_two_can_be_told_from_the_first(db, berlin):
    [job] = in_state(db, FinishedExecution)
    db.objects(FinishedExecution).update(started_at=FIRST, finished_at=SECOND)

    found = task_backends[db.backend].get_result(str(job.id))

    assert (found.started_at, found.started_at.fold) == (TWICE, 0)
    assert (found.finished_at, found.finished_at.fold) == (TWICE, 1)


def test_with_use_tz_a_result_tells_aware_times(db):
    with project(True, BERLIN, BERLIN):
        task = tasks.add.using(backend=db.backend)
        found = task.get_result(task.enqueue(1, 2).id)

        assert found.enqueued_at.tzinfo is UTC


@pytest.mark.parametrize("after", [TWICE.replace(fold=1), SECOND])
def test_without_use_tz_a_retry_is_at_a_local_time_or_an_aware_one(db, berlin, monkeypatch, after):
    monkeypatch.setattr(retries, "Retry", partial(Retry, after=after))
    [job] = in_state(
        db, ClaimedExecution, task_path="tests.shop.retries.ask_again", args=[], max_attempts=3
    )
    claimed = db.objects(ClaimedExecution).select_related("job").get()

    outcome = execute(db, claimed, clock=lambda: FIRST)
    finish(db, [outcome])

    assert outcome.retry_at == db.objects(ScheduledExecution).get().run_after == SECOND
    attempt = db.objects(Attempt).get()
    assert (attempt.started_at, attempt.ended_at) == (FIRST, FIRST)
    result = task_backends[db.backend].get_result(str(job.id))
    assert (result.status, result.started_at) == (TaskResultStatus.READY, TWICE)


def test_without_use_tz_a_static_recurring_task_passes_the_checks_and_fires(settings, db, berlin):
    nightly = {"task_path": "tests.shop.tasks.sweep", "schedule": "30 2 * * *"}
    changing(settings, db.backend)(recurring={"nightly": nightly})

    call_command("check", "--database", db.alias, stdout=StringIO(), stderr=StringIO())
    call_command("dj_queue_migrate", stdout=StringIO())
    dynamic = schedule(key="dynamic", task=tasks.sweep, schedule="30 2 * * *", backend=db.backend)
    assert dynamic.timezone == BERLIN
    db.objects(RecurringTask).update(next_run_at=FIRST.replace(microsecond=0))

    assert len(fire(db, FIRST).fired) == 1
    assert drain(db.backend)
    row = db.objects(RecurringTask).get()
    assert row.last_run_at == FIRST.replace(microsecond=0)
    assert row.next_run_at == datetime(2037, 10, 26, 1, 30, tzinfo=UTC)  # 02:30 comes once


@pytest.mark.parametrize("looker", PROJECTS)
@pytest.mark.parametrize("span", [HOUR, DAY])
def test_the_statistics_of_a_day_are_those_of_all_time_zones(db, looker, span):
    now = datetime(2037, 10, 25, 1, 45, tzinfo=UTC)
    with project(*looker):
        for back, finished in [(0, 1), (20, 2), (44, 4), (50, 8)]:
            minute = now - timedelta(minutes=back)
            db.objects(QueueMinute).create(
                backend=db.backend, queue_name="mail", minute=minute, process_id=ME,
                finished=finished,
            )  # fmt: skip

        together, [mail] = read_series(db, span, now=now)

    counts = {step.at: step.finished for step in together.steps if step.finished}
    hours = {now.replace(minute=0): 7, now.replace(hour=0, minute=0): 8}
    minutes = {now - timedelta(minutes=back): n for back, n in [(0, 1), (20, 2), (44, 4), (50, 8)]}
    assert counts == (minutes if span is HOUR else hours)
    assert mail.ended_count == together.ended_count == 15


@pytest.mark.parametrize("looker", PROJECTS)
def test_what_is_old_is_old_in_every_project(db, looker):
    with project(*looker):
        old, young = in_state(db, FinishedExecution, count=2)
        db.objects(FinishedExecution).filter(pk=old.pk).update(finished_at=FIRST)
        db.objects(FinishedExecution).filter(pk=young.pk).update(finished_at=SECOND)
        rows = [
            Process(new_id(), "worker", name, "", 1, "here", None, {}, FIRST, at)
            for name, at in [("silent", FIRST), ("beating", SECOND)]
        ]
        db.objects(Process).bulk_create(rows)

        later = SECOND + timedelta(minutes=10)
        silent = silent_processes(db, now=later, alive_threshold_seconds=1800)
        prune_ended(db, FinishedExecution, before=SECOND, after_id=None, limit=10)

    assert silent == {rows[0].id: FIRST}
    assert states(db) == {young.pk: ["finished"]}


def test_naive_arguments_of_a_queryset_are_local_times(db, berlin):
    in_state(db, ScheduledExecution)
    db.objects(ScheduledExecution).update(run_after=SECOND)

    rows = db.objects(ScheduledExecution)
    assert rows.filter(run_after__gt=TWICE).count() == 1
    assert rows.filter(run_after__gt=TWICE.replace(fold=1)).count() == 0


def test_a_fixture_of_one_project_is_loaded_by_another(db):
    with project(False, BERLIN):
        [job] = in_state(db, ScheduledExecution)
        db.objects(ScheduledExecution).update(run_after=SECOND.replace(microsecond=0))
        text = serializers.serialize("json", db.objects(ScheduledExecution))
    with project(False, KOLKATA):
        [loaded] = serializers.deserialize("json", text, using=db.alias)

    assert loaded.object.run_after == SECOND.replace(microsecond=0)
    assert loaded.object.pk == job.pk


def test_the_ends_of_the_calendar_do_not_break_a_result():
    with project(False, "Pacific/Kiritimati"):
        end = datetime.max.replace(tzinfo=UTC)

        assert timezone.for_project(end) == datetime.max
