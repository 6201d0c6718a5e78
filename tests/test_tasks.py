"""The task decorator: what may be said of attempts, on every Django."""

import copy
import pickle
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import django
import pytest
from django.test import override_settings

from dj_queue.backend import DjQueueBackend
from dj_queue.compat import BaseTaskBackend, InvalidTask, Task
from dj_queue.compat import task as django_task
from dj_queue.models import Job
from dj_queue.results import described_task, stored_task
from dj_queue.tasks import QueueTask, Retry, RetryPolicy, task
from tests.jobs import EVERY, build
from tests.shop import retries, tasks


def work() -> None:
    """Stand where a task's function stands."""


class OtherBackend(DjQueueBackend):
    """A backend derived from ours."""


class ForeignBackend(BaseTaskBackend):
    """A backend of somebody else."""

    def enqueue(self, task, args, kwargs):
        raise NotImplementedError


def other(path):
    return {"BACKEND": path, "QUEUES": [], "OPTIONS": {}}


def with_backend(settings, path):
    return override_settings(TASKS={**settings.TASKS, "other": other(path)})


def tasks_module():
    return "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"


def test_a_task_is_attempted_once_unless_it_says_more():
    plain = task(work)

    assert type(plain) is QueueTask
    assert (plain.max_attempts, plain.retry_on, plain.give_up_on) == (1, (Exception,), ())
    assert plain.backoff == RetryPolicy("exponential", seconds=10, ceiling=3600, jitter=0.2)


def test_the_decorator_passes_on_what_is_djangos():
    made = task(queue_name="mail", backend="bulk", priority=7, max_attempts=3)(work)

    assert (made.queue_name, made.backend, made.priority, made.max_attempts) == (
        "mail",
        "bulk",
        7,
        3,
    )
    assert (made.func, made.takes_context, made.run_after) == (work, False, None)


def test_a_number_is_a_constant_backoff_and_one_class_is_a_tuple():
    made = task(backoff=7200, retry_on=OSError, give_up_on=[PermissionError, KeyError])(work)

    assert made.backoff == RetryPolicy("constant", seconds=7200, ceiling=7200, jitter=0)
    assert made.retry_on == (OSError,)
    assert made.give_up_on == (PermissionError, KeyError)


def test_djangos_decorator_makes_a_queue_task_on_our_backend():
    assert type(django_task(work)) is QueueTask


@pytest.mark.skipif(
    django.VERSION[:2] == (6, 0),
    reason="needs keywords of a backend in Django's decorator: Django 6.0 has none",
)
def test_djangos_decorator_takes_our_keywords():
    made = django_task(max_attempts=4, backoff=5)(work)

    assert made == task(max_attempts=4, backoff=5)(work)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_attempts": 5},
        {"max_attempts": 2, "priority": 9, "backend": "bulk"},
    ],
)
def test_using_changes_what_it_names_only(changes):
    before = task(max_attempts=3, backoff=60, give_up_on=OSError, queue_name="mail")(work)

    after = before.using(**changes)

    assert after == replace(before, **changes)
    assert after != before
    assert {name: getattr(after, name) for name in changes} == changes


@pytest.mark.parametrize("name", ["backoff", "retry_on", "give_up_on"])
def test_using_refuses_what_is_not_stored_with_a_job(name):
    with pytest.raises(TypeError) as refused:
        task(work).using(**{name: OSError})

    assert str(refused.value) == (
        f"{name}: expected in the decorator, where a failed attempt looks for it, got it in "
        "using(), which changes single jobs"
    )


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_task_can_be_pickled_and_copied(duplicate):
    made = retries.deliver.using(priority=5, backend="bulk", max_attempts=7)

    assert duplicate(made) == made
    assert type(duplicate(made)) is QueueTask


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "max_attempts: expected a whole number from 1 to 1000, got 0"),
        ({"max_attempts": 1001}, "max_attempts: expected a whole number from 1 to 1000, got 1001"),
        ({"max_attempts": True}, "max_attempts: expected a whole number from 1 to 1000, got True"),
        ({"max_attempts": 2.0}, "max_attempts: expected a whole number from 1 to 1000, got 2.0"),
        ({"backoff": -1}, "backoff: expected a number of seconds from 0 to 31536000, got -1"),
        (
            {"backoff": float("inf")},
            "backoff: expected a number of seconds from 0 to 31536000, got inf",
        ),
        ({"backoff": "60"}, "backoff: expected a number of seconds from 0 to 31536000, got '60'"),
        ({"retry_on": "OSError"}, "retry_on: expected exception classes, got 'OSError'"),
        ({"retry_on": [OSError, int]}, "retry_on: expected exception classes, got <class 'int'>"),
        ({"give_up_on": OSError()}, "give_up_on: expected exception classes, got OSError()"),
    ],
)
def test_what_is_out_of_bounds_is_refused_where_it_is_said(options, message):
    with pytest.raises(InvalidTask) as decorating:
        task(**options)(work)
    assert str(decorating.value) == message


def test_using_refuses_attempts_out_of_bounds():
    with pytest.raises(InvalidTask) as refused:
        task(work).using(max_attempts=0)

    assert str(refused.value) == "max_attempts: expected a whole number from 1 to 1000, got 0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"growth": "cubic"},
            "growth: expected one of 'constant', 'linear', 'exponential', got 'cubic'",
        ),
        ({"seconds": -1}, "seconds: expected a number of seconds from 0 to 3600, got -1"),
        ({"seconds": 7200}, "seconds: expected a number of seconds from 0 to 3600, got 7200"),
        ({"ceiling": 1e9}, "ceiling: expected a number of seconds from 0 to 31536000, got 1000000"),
        ({"jitter": 1.1}, "jitter: expected a number from 0 to 1, got 1.1"),
        ({"jitter": float("nan")}, "jitter: expected a number from 0 to 1, got nan"),
        ({"jitter": True}, "jitter: expected a number from 0 to 1, got True"),
    ],
)
def test_a_policy_out_of_bounds_is_refused(options, message):
    with pytest.raises(InvalidTask) as refused:
        RetryPolicy(**options)

    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (RetryPolicy("constant", seconds=30, jitter=0), [30, 30, 30, 30, 30]),
        (RetryPolicy("linear", seconds=30, ceiling=100, jitter=0), [30, 60, 90, 100, 100]),
        (RetryPolicy("exponential", seconds=30, ceiling=250, jitter=0), [30, 60, 120, 240, 250]),
        (RetryPolicy("exponential", seconds=0, ceiling=0, jitter=0), [0, 0, 0, 0, 0]),
    ],
)
def test_delays_grow_as_the_policy_says(policy, delays):
    assert [policy.delay_seconds(attempt) for attempt in range(1, 6)] == delays


def test_jitter_leaves_off_up_to_its_share():
    policy = RetryPolicy("constant", seconds=100, jitter=0.25)

    assert policy.delay_seconds(1, draw=lambda: 0.0) == 100
    assert policy.delay_seconds(1, draw=lambda: 0.5) == 87.5
    assert policy.delay_seconds(1, draw=lambda: 1.0) == 75
    random.seed(1)
    assert len({policy.delay_seconds(1) for _ in range(10)}) == 10


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        (None, None),
        (90, timedelta(seconds=90)),
        (0.5, timedelta(seconds=0.5)),
        (timedelta(minutes=2), timedelta(minutes=2)),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_retry_keeps_its_reason_and_time(after, kept):
    error = pickle.loads(pickle.dumps(Retry("no file yet", after=after)))

    assert (str(error), error.after) == ("no file yet", kept)
    assert str(Retry()) == "the task asked to be run again"


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (-1, "after: expected a number of seconds from 0 to 31536000, got -1"),
        (timedelta(days=-1), "after: expected a number of seconds from 0 to 31536000, got -86400"),
        (float("nan"), "after: expected a number of seconds from 0 to 31536000, got nan"),
        ("soon", "after: expected a number of seconds from 0 to 31536000, got 'soon'"),
        (datetime(2026, 1, 1), "after: expected an aware datetime, got datetime.datetime(2026"),
    ],
)
def test_retry_refuses_a_time_that_is_none(settings, after, message):
    settings.USE_TZ = True

    with pytest.raises(ValueError, match="expected") as refused:
        Retry(after=after)

    assert str(refused.value).startswith(message)


@pytest.mark.parametrize("after", [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)])
def test_without_use_tz_retry_takes_a_naive_time_and_an_aware_one(settings, after):
    settings.USE_TZ = False

    assert Retry(after=after).after is after


def test_a_backend_that_is_not_ours_is_asked_for_one_attempt_only(settings):
    with with_backend(settings, "tests.test_tasks.ForeignBackend"):
        with pytest.raises(InvalidTask) as decorating:
            task(backend="other", max_attempts=3)(work)
        with pytest.raises(InvalidTask) as using:
            task(max_attempts=3)(work).using(backend="other")

        assert django_task(work).using(backend="other").backend == "other"
        assert task(backend="other")(work).backend == "other"

    message = (
        "max_attempts: expected 1 on backend 'other', which is a ForeignBackend, got 3: only a "
        "backend of dj_queue ('default', 'alerts', 'bulk') attempts a job again"
    )
    assert str(decorating.value) == str(using.value) == message


def test_a_backend_derived_from_ours_is_ours(settings):
    with with_backend(settings, "tests.test_tasks.OtherBackend"):
        assert task(backend="other", max_attempts=3)(work).max_attempts == 3


@pytest.mark.parametrize("kind", ["immediate.ImmediateBackend", "dummy.DummyBackend"])
def test_djangos_backends_for_tests_take_the_task(settings, kind):
    with with_backend(settings, f"{tasks_module()}.backends.{kind}"):
        made = task(backend="other", max_attempts=3)(tasks.add.func)
        result = made.enqueue(1, 2)

    assert (made.max_attempts, result.attempts) == (3, 1 if "immediate" in kind else 0)


@pytest.mark.django_db(**EVERY)
def test_a_job_keeps_the_attempts_it_was_enqueued_with(db):
    one = retries.stumble.using(backend=db.backend)
    calls = [(one, ["x"], {}), (one.using(max_attempts=9), ["x"], {}), (tasks.add, [1, 2], {})]
    calls = [(each.using(backend=db.backend), args, kwargs) for each, args, kwargs in calls]

    one.enqueue("x")
    DjQueueBackend(db.backend, {}).enqueue_all(calls)

    jobs = list(db.objects(Job).order_by("id"))
    assert [job.max_attempts for job in jobs] == [3, 3, 9, 1]
    assert stored_task(jobs[2]) == one.using(max_attempts=9)
    assert one.get_result(str(jobs[2].id)).task.max_attempts == 9


def test_a_stored_task_has_the_jobs_attempts_and_the_codes_rules(db):
    job = build(db, task_path="tests.shop.retries.deliver", max_attempts=8)

    stored = stored_task(job)

    assert (stored.max_attempts, stored.retry_on) == (8, (ConnectionError,))


def test_a_task_that_is_gone_is_described_all_the_same(db):
    job = build(db, task_path="tests.shop.retries.gone", max_attempts=8)

    assert type(described_task(job)) is Task
