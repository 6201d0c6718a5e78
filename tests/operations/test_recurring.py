"""Static tasks follow the settings, and each backend keeps its own."""

from datetime import timedelta

import pytest

from dj_queue.compat import InvalidTask
from dj_queue.exceptions import InvalidSchedule, InvalidTaskPath
from dj_queue.models import Job, RecurringRun, RecurringTask
from dj_queue.operations.recurring import is_needed, strangers, synchronise
from dj_queue.routers import QueueDatabase, queue_database
from dj_queue.testing.spy import statements_only_on
from tests.jobs import EVERY, NOW
from tests.recurring import changing, fire, minutes, put, runs, tasks

pytestmark = pytest.mark.django_db(**EVERY)

NIGHTLY = {"task_path": "tests.shop.tasks.add", "schedule": "0 3 * * *", "args": [1, 2]}


@pytest.fixture
def change(db, settings):
    return changing(settings, db.backend)


def counted(done):
    return done.inserted_count, done.updated_count, done.deleted_count


def test_tasks_of_the_settings_are_inserted_with_their_tasks_own_queue_and_priority(db, change):
    change(
        recurring={
            "nightly": NIGHTLY,
            "sweep": {"task_path": "tests.shop.tasks.sweep", "schedule": "@hourly"},
            "other": {**NIGHTLY, "queue_name": "mail", "priority": -7, "misfire": "all"},
        }
    )

    with statements_only_on(db.alias):
        assert counted(synchronise(db, now=NOW)) == (3, 0, 0)

    rows = tasks(db)
    assert {row.is_static for row in rows.values()} == {True}
    assert {(key, row.queue_name, row.priority) for key, row in rows.items()} == {
        ("nightly", "default", 0),
        ("sweep", "nightly", 5),
        ("other", "mail", -7),
    }
    assert (rows["nightly"].timezone, rows["nightly"].misfire) == ("America/Chicago", "latest")
    assert rows["nightly"].next_run_at == NOW.replace(hour=9) + timedelta(days=1)
    assert rows["other"].misfire == "all"


def test_synchronising_again_changes_nothing(db, change):
    change(recurring={"nightly": NIGHTLY})
    synchronise(db, now=NOW)
    before = tasks(db)["nightly"].pk

    assert not synchronise(db, now=NOW + timedelta(days=9))

    after = tasks(db)["nightly"]
    assert (after.pk, after.next_run_at) == (before, NOW.replace(hour=9) + timedelta(days=1))


@pytest.mark.parametrize(
    "changed",
    [
        {"task_path": "tests.shop.tasks.echo"},
        {"args": [True, 2]},
        {"args": [1], "kwargs": {"b": 3}},
        {"queue_name": "mail"},
        {"priority": 9},
        {"misfire": "skip"},
    ],
)
def test_what_changed_is_updated_and_the_cursor_stays(db, change, changed):
    change(recurring={"nightly": NIGHTLY})
    synchronise(db, now=NOW)
    change(recurring={"nightly": {**NIGHTLY, **changed}})

    assert counted(synchronise(db, now=NOW + timedelta(days=9))) == (0, 1, 0)

    after = tasks(db)["nightly"]
    for name, value in changed.items():
        assert repr(getattr(after, name)) == repr(value)
    assert after.next_run_at == NOW.replace(hour=9) + timedelta(days=1)


@pytest.mark.parametrize("changed", [{"schedule": "0 4 * * *"}, {"timezone": "UTC"}])
def test_a_changed_schedule_or_time_zone_counts_from_now(db, change, changed):
    change(recurring={"nightly": NIGHTLY})
    synchronise(db, now=NOW)
    change(recurring={"nightly": {**NIGHTLY, **changed}})

    synchronise(db, now=NOW + timedelta(days=9))

    hour = 10 if "schedule" in changed else 3
    assert tasks(db)["nightly"].next_run_at == NOW.replace(hour=hour) + timedelta(days=10)


def test_what_is_not_in_the_settings_any_more_is_deleted_with_its_runs_and_not_its_jobs(db, change):
    change(recurring={"minutely": {**NIGHTLY, "schedule": "* * * * *"}, "nightly": NIGHTLY})
    synchronise(db, now=NOW)
    fire(db, NOW + timedelta(minutes=1))
    change(recurring={"nightly": NIGHTLY})

    assert counted(synchronise(db, now=NOW)) == (0, 0, 1)

    assert set(tasks(db)) == {"nightly"}
    assert not db.objects(RecurringRun).exists()
    assert db.objects(Job).count() == 1


def test_dynamic_rows_and_those_of_siblings_are_left_alone(settings):
    default, alerts = queue_database("default"), queue_database("alerts")
    changing(settings, "default")(recurring={"nightly": NIGHTLY})
    changing(settings, "alerts")(recurring={"nightly": {**NIGHTLY, "schedule": "0 5 * * *"}})
    put(alerts, "dynamic")
    put(QueueDatabase(alias="queue", backend="stranger"), "theirs", is_static=True)

    for db in (default, alerts, default):
        synchronise(db, now=NOW)
    changing(settings, "default")(recurring={})
    synchronise(default, now=NOW)

    assert set(tasks(default)) == set()
    assert set(tasks(alerts)) == {"nightly", "dynamic"}
    assert tasks(alerts)["nightly"].schedule == "0 5 * * *"
    assert set(tasks(QueueDatabase(alias="queue", backend="stranger"))) == {"theirs"}
    assert strangers(default) == {"stranger": 1}


def test_a_dynamic_row_of_the_same_key_becomes_static(db, change):
    row = put(db, "nightly", priority=3)
    change(recurring={"nightly": NIGHTLY})

    assert counted(synchronise(db, now=NOW)) == (0, 1, 0)

    after = tasks(db)["nightly"]
    assert (after.pk, after.is_static, after.priority) == (row.pk, True, 0)


def test_a_disabled_row_stays_disabled(db, change):
    put(db, "nightly", is_static=True, is_enabled=False, next_run_at=None)
    change(recurring={"nightly": NIGHTLY})

    synchronise(db, now=NOW)

    after = tasks(db)["nightly"]
    assert (after.schedule, after.is_enabled, after.next_run_at) == ("0 3 * * *", False, None)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"schedule": "0 3 * *"}, InvalidSchedule),
        ({"timezone": "Europe/Nowhere"}, InvalidSchedule),
        ({"task_path": "tests.shop.gone.task"}, InvalidTaskPath),
        ({"task_path": "tests.shop.retries.often"}, InvalidTask),
        ({"task_path": "tests.shop.tasks.add", "args": [1]}, InvalidTask),
        ({"task_path": "tests.shop.tasks.add", "args": [1, 2], "kwargs": {"c": 3}}, InvalidTask),
    ],
)
def test_a_task_that_cannot_be_kept_leaves_its_row_and_the_others_alone(db, change, bad, error):
    row = put(db, "bad", is_static=True)
    change(recurring={"bad": {**NIGHTLY, **bad}, "nightly": NIGHTLY})

    done = synchronise(db, now=NOW)

    assert [(key, type(each)) for key, each in done.refused] == [("bad", error)]
    assert counted(done) == (1, 0, 0)
    assert tasks(db)["bad"].schedule == row.schedule
    fire(db, NOW)
    assert runs(db) == minutes(0)


def test_a_scheduler_is_needed_for_static_tasks_or_where_dynamic_ones_are_enabled(db, change):
    assert is_needed(db)

    change(scheduler={"dynamic_tasks_enabled": False})
    assert not is_needed(db)

    change(recurring={"nightly": NIGHTLY})
    assert is_needed(db)
    assert not db.objects(RecurringTask).exists()
