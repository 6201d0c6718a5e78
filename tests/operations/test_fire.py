"""Fire: which instants of a due task become jobs, and what is left for later."""

import sys
from datetime import timedelta

import pytest

from dj_queue.compat import TaskResultStatus, task_backends, task_enqueued
from dj_queue.models import Job, ReadyExecution, RecurringRun, RecurringTask
from dj_queue.operations import fire as operation
from dj_queue.operations.claim import claim
from dj_queue.operations.execute import execute
from dj_queue.operations.fire import fingerprint
from dj_queue.routers import QueueDatabase, queue_database
from dj_queue.testing.spy import statements_only_on
from tests.jobs import EVERY, ME, NOW
from tests.recurring import changing, fire, minutes, put, runs, tasks

pytestmark = pytest.mark.django_db(**EVERY)


@pytest.fixture
def change(db, settings):
    return changing(settings, db.backend)


def test_a_due_task_becomes_a_ready_job_and_its_cursor_advances(db):
    row = put(db, priority=7, queue_name="nightly", args=[{"a": "é"}], kwargs={"b": 2})

    found = fire(db, NOW + timedelta(seconds=3))

    assert [(plan.task.key, count) for plan, count in found.fired] == [("sweep", 1)]
    assert found.next_run_at == NOW + timedelta(minutes=1)
    [job] = db.objects(Job)
    assert (job.backend, job.task_path, job.queue_name) == (db.backend, row.task_path, "nightly")
    assert (job.priority, job.args, job.kwargs) == (7, [{"a": "é"}], {"b": 2})
    assert (job.enqueued_at, job.run_after) == (NOW + timedelta(seconds=3), None)
    assert db.objects(ReadyExecution).get().job_id == job.id
    [run] = db.objects(RecurringRun)
    assert (run.task_id, run.run_at, run.job_id) == (row.pk, NOW, job.id)
    after = tasks(db)["sweep"]
    assert (after.last_run_at, after.next_run_at) == (NOW, NOW + timedelta(minutes=1))


def test_a_task_that_is_not_due_not_enabled_or_has_ended_does_not_fire(db):
    put(db, "soon", next_run_at=NOW + timedelta(seconds=3))
    put(db, "later", next_run_at=NOW + timedelta(hours=3))
    put(db, "off", is_enabled=False)
    put(db, "ended", next_run_at=None)

    found = fire(db, NOW)

    assert found.fired == ()
    assert found.next_run_at == NOW + timedelta(seconds=3)
    assert runs(db) == []


def test_a_schedule_that_ends_leaves_no_cursor(db):
    put(db, schedule="0 12 1 1 * 0 2026")

    fire(db, NOW)

    assert runs(db) == [NOW]
    assert tasks(db)["sweep"].next_run_at is None


@pytest.mark.parametrize(
    ("misfire", "fired", "is_missed"),
    [("latest", minutes(10), True), ("all", minutes(*range(11)), False), ("skip", [], True)],
)
def test_what_was_missed_fires_by_the_policy(db, misfire, fired, is_missed):
    # The last instant is 90 s ago, and missed too.
    put(db, misfire=misfire, schedule="0-10 12 * * *")

    found = fire(db, NOW + timedelta(minutes=11, seconds=30))

    assert runs(db) == fired
    assert [bool(plan.missed_since) for plan, _ in found.fired] == [is_missed]
    assert tasks(db)["sweep"].next_run_at == NOW + timedelta(days=1)
    assert fire(db, NOW + timedelta(minutes=12)).fired == ()


@pytest.mark.parametrize("misfire", ["latest", "all", "skip"])
def test_what_is_not_missed_yet_fires_whatever_the_policy(db, misfire):
    put(db, misfire=misfire, schedule="* * * * * */20")

    fire(db, NOW + timedelta(seconds=59))

    assert runs(db) == [NOW + timedelta(seconds=each) for each in (0, 20, 40)]


def test_latest_fires_no_missed_instant_where_a_later_one_is_in_time(db):
    put(db, misfire="latest", schedule="0 * * * *")

    fire(db, NOW + timedelta(hours=3, seconds=10))

    assert runs(db) == [NOW + timedelta(hours=3)]


@pytest.mark.parametrize("misfire", ["latest", "all"])
def test_nothing_fires_past_the_limit(db, change, misfire):
    change(scheduler={"misfire_limit": 3600})
    put(db, misfire=misfire, schedule="0 12 * * *")

    fire(db, NOW + timedelta(hours=1, seconds=1))

    assert runs(db) == []
    assert tasks(db)["sweep"].next_run_at == NOW + timedelta(days=1)


def test_all_fires_those_within_the_limit(db, change):
    change(scheduler={"misfire_limit": 3600, "misfire_after": 1})
    put(db, misfire="all", schedule="*/20 * * * *")

    fire(db, NOW + timedelta(hours=2, minutes=10))

    assert runs(db) == minutes(80, 100, 120)


def test_a_flood_comes_in_portions(db, monkeypatch):
    monkeypatch.setattr(operation, "MOST_INSTANTS", 4)
    put(db, misfire="all")
    now = NOW + timedelta(minutes=9)

    portions = [sum(count for _, count in fire(db, now).fired) for _ in range(4)]

    assert portions == [4, 4, 2, 0]
    assert runs(db) == minutes(*range(10))


def test_a_round_takes_the_longest_overdue_and_says_that_more_are_due(db):
    for number in range(5):
        put(db, f"t{number}", next_run_at=NOW - timedelta(seconds=number))

    found = fire(db, NOW, limit=2)

    assert [plan.task.key for plan, _ in found.fired] == ["t4", "t3"]
    assert found.next_run_at == NOW - timedelta(seconds=2)


def test_an_instant_that_fired_before_its_cursor_went_back_does_not_fire_again(db):
    row = put(db)
    fire(db, NOW)
    db.objects(RecurringTask).filter(pk=row.pk).update(next_run_at=NOW)

    fire(db, NOW + timedelta(seconds=1))

    assert runs(db) == [NOW]
    assert tasks(db)["sweep"].next_run_at == NOW + timedelta(minutes=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"next_run_at": NOW + timedelta(hours=1)},
        {"schedule": "0 0 * * *"},
        {"timezone": "Europe/Berlin"},
        {"misfire": "skip"},
        {"is_enabled": False},
    ],
)
def test_a_task_that_changes_after_it_was_read_is_left_as_it_is(db, monkeypatch, changes):
    row = put(db)

    def planned(own, seen, now):
        plan = original(own, seen, now)
        db.objects(RecurringTask).filter(pk=row.pk).update(**changes)
        return plan

    original = operation.planned
    monkeypatch.setattr(operation, "planned", planned)

    assert fire(db, NOW).fired == ()
    assert runs(db) == []
    after = tasks(db)["sweep"]
    assert {name: getattr(after, name) for name in changes} == changes


def test_rows_of_all_our_backends_on_the_database_fire_and_no_others(settings):
    queue, alerts = queue_database("default"), queue_database("alerts")
    put(queue)
    put(alerts)
    put(QueueDatabase(alias="queue", backend="stranger"))

    found = fire(alerts, NOW)

    assert sorted(plan.task.backend for plan, _ in found.fired) == ["alerts", "default"]
    assert sorted(queue.objects(Job).values_list("backend", flat=True)) == ["alerts", "default"]
    assert tasks(QueueDatabase(alias="queue", backend="stranger"))["sweep"].next_run_at == NOW


def test_dynamic_tasks_fire_only_where_they_are_enabled(db, change):
    change(scheduler={"dynamic_tasks_enabled": False})
    put(db, "dynamic")
    put(db, "static", is_static=True)

    found = fire(db, NOW)

    assert [plan.task.key for plan, _ in found.fired] == ["static"]


def test_two_queue_databases_with_the_same_key_stay_independent():
    queue, bulk = queue_database("default"), queue_database("bulk")
    put(queue)
    put(bulk, schedule="0 * * * *")

    with statements_only_on("queue"):
        fire(queue, NOW)
    assert (runs(queue), runs(bulk)) == ([NOW], [])
    assert tasks(bulk)["sweep"].next_run_at == NOW

    with statements_only_on("bulk"):
        fire(bulk, NOW)
    assert (runs(queue), runs(bulk)) == ([NOW], [NOW])
    assert tasks(queue)["sweep"].next_run_at == NOW + timedelta(minutes=1)
    assert tasks(bulk)["sweep"].next_run_at == NOW + timedelta(hours=1)


@pytest.mark.parametrize("broken", [{"schedule": "6o * * * *"}, {"timezone": "Mars/Olympus"}])
def test_a_row_that_cannot_be_read_is_told_of_and_holds_nobody_up(db, broken):
    put(db, "broken", next_run_at=NOW - timedelta(hours=1), **broken)
    put(db)

    found = fire(db, NOW)

    assert [plan.task.key for plan, _ in found.fired] == ["sweep"]
    [(row, _)] = found.broken
    assert row.key == "broken"

    put(db, "next")
    again = fire(db, NOW, limit=1, passed_over=frozenset([fingerprint(row)]))

    assert again.broken == ()
    assert [plan.task.key for plan, _ in again.fired] == ["next"]
    assert again.next_run_at == NOW + timedelta(minutes=1)


@pytest.mark.parametrize("path", ["tests.shop.gone.sweep", "tests.shop.quits.task"])
def test_a_path_that_does_not_import_is_enqueued_and_fails_when_run(db, path):
    # Imported by nobody yet: a module that quits would end the scheduler otherwise.
    sys.modules.pop("tests.shop.quits", None)
    put(db, task_path=path)

    fire(db, NOW)

    assert runs(db) == [NOW]
    [claimed] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    failure = execute(db, claimed, clock=lambda: NOW).failure
    assert failure.exception_path == "dj_queue.exceptions.InvalidTaskPath"


def test_jobs_have_the_attempts_of_the_task(db):
    put(db, "once")
    put(db, "thrice", task_path="tests.shop.retries.stumble")

    fire(db, NOW)

    assert sorted(db.objects(Job).values_list("max_attempts", flat=True)) == [1, 3]


def test_task_enqueued_is_sent_with_the_backend_as_sender(db):
    put(db)
    heard = []

    def hear(sender, task_result, **_):
        heard.append((sender, task_result))

    task_enqueued.connect(hear)
    try:
        fire(db, NOW)
    finally:
        task_enqueued.disconnect(hear)

    [(sender, result)] = heard
    assert sender is type(task_backends[db.backend])
    assert result.status is TaskResultStatus.READY
    assert task_backends[db.backend].get_result(result.id).args == [1, 2]
