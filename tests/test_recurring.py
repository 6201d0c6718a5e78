"""The API of recurring tasks: what it stores, and what it refuses at once."""

from datetime import UTC, datetime, timedelta

import pytest

from dj_queue import recurring
from dj_queue.compat import InvalidTask, task_backends
from dj_queue.exceptions import (
    InvalidSchedule,
    InvalidTaskPath,
    NotSerializable,
    RecurringRefused,
    UnknownBackend,
    UnknownRecurringTask,
)
from dj_queue.models import RecurringTask
from dj_queue.operations.recurring import synchronise
from dj_queue.tasks import Concurrency
from dj_queue.testing.spy import statements_only_on
from dj_queue.timezone import for_project
from tests.jobs import EVERY, NOW
from tests.recurring import changing, fire, runs, tasks
from tests.shop.retries import stumble
from tests.shop.tasks import add, sweep

pytestmark = pytest.mark.django_db(**EVERY)


@pytest.fixture
def change(db, settings):
    return changing(settings, db.backend)


@pytest.fixture(autouse=True)
def now(monkeypatch):
    """Let the API take NOW for the time."""
    monkeypatch.setattr(recurring, "present", lambda db: NOW)
    return NOW


def scheduled(db, **given):
    defaults = {"key": "sum", "task": add, "args": (1, 2), "schedule": "*/5 * * * *"}
    defaults["backend"] = db.backend
    return recurring.schedule(**defaults | given)


def test_a_task_is_scheduled_from_now_on(db):
    with statements_only_on(db.alias):
        row = scheduled(db, args=(1,), kwargs={"b": b"3"}, timezone="Europe/Berlin")

    assert row == tasks(db)["sum"]
    assert (row.task_path, row.schedule) == ("tests.shop.tasks.add", "*/5 * * * *")
    assert (row.args, row.kwargs) == ([1], {"b": "3"})
    assert (row.queue_name, row.priority, row.misfire) == ("default", 0, "latest")
    assert (row.timezone, row.is_static, row.is_enabled) == ("Europe/Berlin", False, True)
    assert row.next_run_at == NOW + timedelta(minutes=5)


def test_what_is_not_given_is_the_tasks_own():
    row = recurring.schedule(key="sweep", task=sweep, schedule="@daily")
    other = recurring.schedule(
        key="other", task="tests.shop.tasks.sweep", schedule="@daily", queue_name="q", priority=1
    )
    using = recurring.schedule(key="third", task=sweep.using(priority=-3), schedule="@daily")

    assert (row.backend, row.queue_name, row.priority) == ("bulk", "nightly", 5)
    assert (other.backend, other.queue_name, other.priority) == ("bulk", "q", 1)
    assert (using.queue_name, using.priority) == ("nightly", -3)
    assert row.timezone == "America/Chicago"  # Django's TIME_ZONE, where nobody sets it
    assert row._state.db == "bulk"


def test_scheduling_again_changes_the_task_and_keeps_its_cursor(db):
    first = scheduled(db)
    fire(db, NOW + timedelta(minutes=5))

    same = scheduled(db, priority=4)
    other = scheduled(db, priority=4, schedule="@hourly")

    assert first.pk == same.pk == other.pk
    assert (same.priority, same.next_run_at) == (4, NOW + timedelta(minutes=10))
    assert other.next_run_at == NOW + timedelta(hours=1)


def test_scheduling_joins_an_open_transaction(db):
    with pytest.raises(ZeroDivisionError), db.atomic():
        scheduled(db)
        raise ZeroDivisionError

    assert tasks(db) == {}


def test_a_disabled_task_does_not_fire_until_it_is_enabled_and_then_from_the_next_on(
    db, monkeypatch
):
    scheduled(db)
    recurring.disable("sum", db.backend)
    recurring.disable("sum", db.backend)
    scheduled(db, schedule="* * * * *")

    fire(db, NOW + timedelta(hours=1))
    assert (runs(db), tasks(db)["sum"].is_enabled) == ([], False)

    monkeypatch.setattr(recurring, "present", lambda db: NOW + timedelta(hours=2))
    recurring.enable("sum", db.backend)
    recurring.enable("sum", db.backend)
    fire(db, NOW + timedelta(hours=2, minutes=1))
    assert runs(db) == [NOW + timedelta(hours=2, minutes=1)]


def test_enabling_what_is_enabled_does_not_move_its_cursor(db, monkeypatch):
    scheduled(db)
    monkeypatch.setattr(recurring, "present", lambda db: NOW + timedelta(minutes=7))

    recurring.enable("sum", db.backend)

    assert tasks(db)["sum"].next_run_at == NOW + timedelta(minutes=5)


def test_an_unscheduled_task_is_gone_and_its_key_is_free(db):
    scheduled(db)
    fire(db, NOW + timedelta(minutes=5))

    assert recurring.unschedule("sum", db.backend)
    assert not recurring.unschedule("sum", db.backend)

    assert tasks(db) == {}
    assert scheduled(db).last_run_at is None


@pytest.mark.parametrize("is_enabled", [True, False])
def test_run_now_enqueues_one_job_and_leaves_the_schedule(db, is_enabled):
    before = scheduled(db, args=[1, 2], priority=3)
    if not is_enabled:
        recurring.disable("sum", db.backend)
        before.next_run_at = None

    result = recurring.run_now("sum", db.backend)

    assert (result.args, result.task.priority) == ([1, 2], 3)
    assert task_backends[db.backend].get_result(result.id).enqueued_at == for_project(NOW)
    assert tasks(db)["sum"].next_run_at == before.next_run_at


@pytest.mark.parametrize("act", [recurring.enable, recurring.disable, recurring.run_now])
def test_a_key_that_is_not_there_is_named(db, act):
    with pytest.raises(UnknownRecurringTask, match="expected the key of a recurring task of backe"):
        act("nothing", db.backend)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"schedule": "0 3 * *"}, InvalidSchedule, "croniter takes"),
        ({"schedule": None}, InvalidSchedule, "it is a NoneType"),
        ({"schedule": "0 0 31 2 *"}, InvalidSchedule, "comes some day"),
        ({"timezone": "Europe/Nowhere"}, InvalidSchedule, "'Europe/Nowhere'"),
        ({"misfire": "never"}, InvalidSchedule, "'latest', 'all', 'skip'"),
        ({"key": ""}, InvalidSchedule, "key: expected 1 to 64"),
        ({"key": "x" * 65}, InvalidSchedule, "key: expected 1 to 64"),
        ({"key": None}, InvalidSchedule, "key: expected 1 to 64"),
        ({"task": "tests.shop.gone.task"}, InvalidTaskPath, "to import"),
        ({"task": "os.system"}, InvalidTaskPath, "nothing was called"),
        ({"args": [datetime(2026, 1, 1, tzinfo=UTC)]}, NotSerializable, r"args\[0\]"),
        ({"kwargs": {1: 2}}, NotSerializable, "kwargs: expected keys"),
        ({"args": []}, InvalidTask, "expected arguments that tests.shop.tasks"),
        ({"queue_name": "x*"}, InvalidTask, "queue_name"),
        ({"priority": 101}, InvalidTask, "priority"),
        ({"backend": "mail"}, UnknownBackend, "'mail'"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_once(db, given, error, message):
    with statements_only_on(), pytest.raises(error, match=message):
        scheduled(db, **given)


USED = {
    "max_attempts": {"max_attempts": 5},
    "concurrency": {"concurrency": Concurrency(key="{message}")},
    "run_after": {"run_after": NOW},
}


@pytest.mark.parametrize(("name", "changes"), USED.items(), ids=USED)
def test_what_using_changed_and_no_row_keeps_is_refused(db, name, changes):
    with statements_only_on(), pytest.raises(InvalidTask, match=rf"task\.{name}: expected .+ got "):
        scheduled(db, task=stumble.using(backend=db.backend, **changes))


def test_a_path_to_what_using_changed_is_refused_as_well(db):
    with statements_only_on(), pytest.raises(InvalidTask, match=r"task\.max_attempts: .+ got 9"):
        scheduled(db, task="tests.shop.retries.often")


def test_what_using_changed_and_the_row_keeps_is_kept(db):
    task = stumble.using(queue_name="mail", priority=7, max_attempts=3)

    row = scheduled(db, task=task, args=("a",))

    assert (row.queue_name, row.priority) == ("mail", 7)


def test_a_queue_that_the_backend_does_not_allow_is_refused(db, settings):
    settings.TASKS = {**settings.TASKS, db.backend: {**settings.TASKS[db.backend], "QUEUES": ["a"]}}

    with pytest.raises(InvalidTask, match="expected one of TASKS"):
        scheduled(db, task="tests.shop.tasks.sweep")


def test_tasks_of_the_settings_are_not_for_the_api(db, change):
    change(
        recurring={
            "sum": {"task_path": "tests.shop.tasks.add", "schedule": "@daily", "args": [1, 2]}
        }
    )
    calls = [
        lambda: scheduled(db),
        lambda: recurring.unschedule("sum", db.backend),
        lambda: recurring.enable("sum", db.backend),
        lambda: recurring.disable("sum", db.backend),
    ]

    # Before the first scheduler has synchronised, after it, and in a process with other settings.
    for step in (lambda: None, lambda: synchronise(db, now=NOW), lambda: change(recurring={})):
        step()
        for call in calls:
            with pytest.raises(
                RecurringRefused, match=r"one of TASKS.*'recurring'.: change it there"
            ):
                call()

    assert tasks(db)["sum"].is_static
    assert recurring.run_now("sum", db.backend).task.name == "add"


def test_dynamic_tasks_that_are_not_enabled_are_refused(db, change):
    scheduled(db)
    recurring.disable("sum", db.backend)
    change(scheduler={"dynamic_tasks_enabled": False})

    for call in (lambda: scheduled(db), lambda: recurring.enable("sum", db.backend)):
        with pytest.raises(RecurringRefused, match=r"dynamic_tasks_enabled'.: expected True"):
            call()

    assert recurring.unschedule("sum", db.backend)
    assert not db.objects(RecurringTask).exists()


def test_backends_on_one_database_have_keys_of_their_own():
    default, alerts = (
        recurring.schedule(key="sum", task=sweep, schedule="@daily", backend=backend)
        for backend in ("default", "alerts")
    )

    assert default.pk != alerts.pk
    assert recurring.unschedule("sum", "alerts")
    assert RecurringTask.objects.using("queue").get() == default
