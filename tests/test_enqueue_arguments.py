"""What is refused before a job is stored: arguments that its function does not take among it."""

import functools
import inspect
import pickle
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import pytest
from asgiref.sync import async_to_sync
from django.test import override_settings
from django.utils.connection import ConnectionDoesNotExist

from dj_queue import timezone
from dj_queue.compat import InvalidTask, Task, task_backends
from dj_queue.models import Job, ScheduledExecution
from dj_queue.routers import queue_database
from dj_queue.signatures import require_arguments
from dj_queue.tasks import task
from tests.jobs import EVERY, NOW, ids
from tests.shop import tasks

pytestmark = pytest.mark.django_db(**EVERY)

SOON = timedelta(hours=1)


def adding_a_client(func):
    """Call a function with an argument more than it is given."""

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        return func("client", *args, **kwargs)

    return wrapper


def nothing():
    """Take nothing."""


def two(a, b=2):
    """Take one or two."""


def by_place(a, /, b):
    """Take the first by its place."""


def by_name(a, *, b, c=3):
    """Take a keyword."""


def places(a, *rest):
    """Take one or more."""


def names(a, **rest):
    """Take any keyword."""


async def later(a):
    """Take one, as a coroutine."""


def told(context, a):
    """Take the context and one more."""


def told_more(context, *args, b=1):
    """Take the context and any number."""


@adding_a_client
def helped(client, a):
    """Take one, for another is added."""


def unlike(*args):
    """Say that it takes what it does not."""


unlike.__signature__ = inspect.Signature()


def annotated(a: "no.such.type") -> "nor.such":  # noqa: F821
    """Take one of a type that is not there."""


GOOD = [
    (nothing, (), {}), (two, (1,), {}), (two, (), {"a": 1}), (two, (1, 2), {}),
    (two, (1,), {"b": 2}),
    (by_place, (1,), {"b": 2}), (by_name, (1,), {"b": 2}), (by_name, (), {"a": 1, "b": 2, "c": 3}),
    (places, (1, 2, 3), {}), (names, (1,), {"x": 1}), (later, (1,), {}),
    (told, (1,), {}), (told, (), {"a": 1}), (told_more, (1, 2, 3), {"b": 2}), (told_more, (), {}),
    (helped, (1,), {}), (unlike, (1, 2), {}), (annotated, (1,), {}),
]  # fmt: skip
BAD = [
    (nothing, (1,), {}, "too many positional arguments"),
    (nothing, (), {"a": 1}, "got an unexpected keyword argument 'a'"),
    (two, (), {}, "missing a required argument: 'a'"),
    (two, (1, 2, 3), {}, "too many positional arguments"),
    (two, (1,), {"a": 1}, "multiple values for argument 'a'"),
    (two, (1,), {"c": 1}, "got an unexpected keyword argument 'c'"),
    (by_place, (), {"a": 1, "b": 2}, "positional"),
    (by_name, (1,), {}, "missing a required"),
    (by_name, (1, 2), {}, "too many positional arguments"),
    (places, (), {}, "missing a required argument: 'a'"),
    (names, (), {"b": 1}, "missing a required argument: 'a'"),
    (later, (), {}, "missing a required argument: 'a'"),
    (told, (), {}, "missing a required argument: 'a'"),
    (told, (1, 2), {}, "too many positional arguments"),
    (told, (1,), {"context": 1}, "multiple values for argument 'context'"),
    (annotated, (), {}, "missing a required argument: 'a'"),
]


def made(func):
    return task(takes_context=func.__name__.startswith("told"))(func)


@pytest.mark.parametrize(("func", "args", "kwargs"), GOOD)
def test_arguments_that_the_function_takes_are_taken(func, args, kwargs):
    made(func).enqueue(*args, **kwargs)

    assert len(ids(queue_database())) == 1


@pytest.mark.parametrize(("func", "args", "kwargs", "why"), BAD)
def test_arguments_that_the_function_does_not_take_are_refused(func, args, kwargs, why):
    with pytest.raises(
        InvalidTask, match=rf"^expected arguments that .*{func.__name__} takes"
    ) as no:
        made(func).enqueue(*args, **kwargs)

    assert why in str(no.value)
    assert ids(queue_database()) == []


def test_the_refusal_names_what_the_function_takes():
    with pytest.raises(InvalidTask) as refused:
        made(told).enqueue()

    assert str(refused.value).startswith(
        f"expected arguments that {__name__}.told takes (a), got: missing a required argument: 'a'"
    )


def test_a_refusal_is_short_whatever_the_names_are():
    with pytest.raises(InvalidTask) as refused:
        tasks.add.enqueue(1, 2, **{"x" * 1_000_000: 3})

    assert len(str(refused.value)) < 1000


def test_a_function_whose_signature_cannot_be_had_takes_anything():
    class Uncommon(Task):
        pass

    builtin = object.__new__(Uncommon)
    object.__setattr__(builtin, "func", print)
    object.__setattr__(builtin, "takes_context", False)

    require_arguments(builtin, [1, 2], {"nonsense": 3})


def test_all_ways_to_enqueue_refuse(db):
    add, backend = tasks.add.using(backend=db.backend), task_backends[db.backend]

    for enqueue in (
        lambda: add.enqueue(1),
        lambda: async_to_sync(add.aenqueue)(1),
        lambda: backend.enqueue(add, [1], {}),
        lambda: backend.enqueue_all([(add, [1, 2], {}), (add, [1], {})]),
        lambda: async_to_sync(backend.aenqueue_all)([(add, [1], {})]),
    ):
        with pytest.raises(InvalidTask, match=r"takes \(a, b\), got: missing a required argument"):
            enqueue()

    assert ids(db) == []


@pytest.mark.parametrize("wrong", [True, False, 1.5, 5.0, "5", [1], 101, -101, float("nan")])
def test_a_priority_that_is_no_whole_number_within_bounds_is_refused(wrong):
    with pytest.raises(InvalidTask, match="priority"):
        tasks.add.using(priority=wrong)


def test_a_priority_may_be_an_enums(db):
    class Level(IntEnum):
        HIGH = 70

    tasks.add.using(backend=db.backend, priority=Level.HIGH).enqueue(1, 2)

    assert db.objects(Job).get().priority == 70


def test_a_timedelta_counts_from_the_enqueue(db, monkeypatch):
    soon = tasks.add.using(backend=db.backend, run_after=SOON)
    backend = task_backends[db.backend]
    monkeypatch.setattr(timezone, "now", lambda: NOW)

    results = [
        soon.enqueue(1, 2),
        soon.using(priority=5).enqueue(1, 2),
        pickle.loads(pickle.dumps(soon)).enqueue(1, 2),
        async_to_sync(soon.aenqueue)(1, 2),
        backend.enqueue(soon, [1, 2], {}),
        *backend.enqueue_all([(soon, [1, 2], {}), (soon, [3, 4], {})]),
    ]

    due = set(db.objects(ScheduledExecution).values_list("run_after", flat=True))
    assert due == {NOW + SOON}
    local = timezone.for_project(NOW + SOON)
    assert {each.task.run_after for each in results} == {local}
    assert backend.get_result(results[0].id).task.run_after == local
    assert db.objects(ScheduledExecution).count() == len(results) == 7


def test_a_timedelta_that_is_past_means_now(db):
    tasks.add.using(backend=db.backend, run_after=-SOON).enqueue(1, 2)

    assert not db.objects(ScheduledExecution).exists()


@pytest.mark.parametrize(
    "delay", [timedelta.max, timedelta.min, datetime(9999, 6, 1) - datetime.now()]
)
def test_a_timedelta_beyond_the_calendar_is_refused(delay):
    with pytest.raises(InvalidTask, match=r"^run_after: expected "):
        tasks.add.using(run_after=delay)


def test_a_timedelta_is_a_moment_to_another_backend():
    dummy = {"BACKEND": f"{Task.__module__.rpartition('.')[0]}.backends.dummy.DummyBackend"}
    with override_settings(TASKS={"default": {**dummy, "QUEUES": []}}):
        before = timezone.now()
        result = tasks.add.using(run_after=SOON).enqueue(1, 2)

    due = timezone.to_utc(result.task.run_after)
    assert before + SOON <= due <= timezone.now() + SOON


@pytest.mark.parametrize("wrong", ["nope", "", None, 5, ["default"], "x" * 1_000_000])
def test_the_guarantee_of_what_is_no_database_is_refused(db, wrong):
    for asked in (task_backends[db.backend], db):
        with pytest.raises(ConnectionDoesNotExist) as refused:
            asked.guarantee(wrong)

        assert "using: expected an alias of DATABASES ('default', 'queue', 'bulk')" in str(
            refused.value
        )
        assert len(str(refused.value)) < 1000


def test_a_moment_is_still_taken_as_it_is(db):
    moment = datetime(2100, 1, 1, tzinfo=UTC)

    assert tasks.add.using(run_after=moment).run_after == moment
