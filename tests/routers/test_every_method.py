"""Every public method of our managers and querysets refuses to guess, found by introspection.

A method that a later Django adds makes this fail until it has its arguments here.
"""

import inspect

import pytest
from asgiref.sync import async_to_sync
from django.db import NotSupportedError, models
from django.db.models import Count, QuerySet, Value
from django.db.models.query import RawQuerySet

from dj_queue.exceptions import AmbiguousRoute
from dj_queue.models import Job
from dj_queue.models.base import QueueManager, QueueQuerySet
from tests.jobs import NOW
from tests.routers.conftest import Asked

pytestmark = [pytest.mark.django_db(databases="__all__"), pytest.mark.usefixtures("silence")]

# What they return holds no rows, or is for Django itself.
ASK_NOTHING = {
    "as_manager",
    "check",
    "contribute_to_class",
    "db_manager",
    "deconstruct",
    "from_queryset",
    "none",
    "resolve_expression",
    "using",
}


def job():
    return Job(priority=0)


def jobs():
    return Job.objects.all()


def defaults():
    return {"defaults": {"priority": 1}, "id": job().id}


# Arguments of each method, made when it is called; `a` in front makes the asynchronous one.
ARGUMENTS = {
    "aggregate": lambda: ([Count("pk")], {}),
    "alias": lambda: ([], {"one": Value(1)}),
    "all": lambda: ([], {}),
    "annotate": lambda: ([], {"one": Value(1)}),
    "bulk_create": lambda: ([[job()]], {}),
    "bulk_update": lambda: ([[job()], ["priority"]], {}),
    "complex_filter": lambda: ([{"priority": 1}], {}),
    "contains": lambda: ([job()], {}),
    "count": lambda: ([], {}),
    "create": lambda: ([], {"priority": 1}),
    "dates": lambda: (["enqueued_at", "year"], {}),
    "datetimes": lambda: (["enqueued_at", "hour"], {}),
    "defer": lambda: (["args"], {}),
    "delete": lambda: ([], {}),
    "difference": lambda: ([jobs()], {}),
    "distinct": lambda: ([], {}),
    "earliest": lambda: (["enqueued_at"], {}),
    "exclude": lambda: ([], {"priority": 1}),
    "exists": lambda: ([], {}),
    "explain": lambda: ([], {}),
    "extra": lambda: ([], {"select": {"one": "1"}}),
    "fetch_mode": lambda: ([models.FETCH_ONE], {}),
    "filter": lambda: ([], {"priority": 1}),
    "first": lambda: ([], {}),
    "get": lambda: ([], {"priority": 1}),
    "get_or_create": lambda: ([], defaults()),
    "get_queryset": lambda: ([], {}),
    "in_bulk": lambda: ([[job().id]], {}),
    "intersection": lambda: ([jobs()], {}),
    "iterator": lambda: ([], {}),
    "last": lambda: ([], {}),
    "latest": lambda: (["enqueued_at"], {}),
    "only": lambda: (["priority"], {}),
    "order_by": lambda: (["priority"], {}),
    "prefetch_related": lambda: (["attempts"], {}),
    "raw": lambda: (["SELECT * FROM dj_queue_job"], {}),
    "reverse": lambda: ([], {}),
    "select_for_update": lambda: ([], {}),
    "select_related": lambda: (["readyexecution"], {}),
    "union": lambda: ([jobs()], {}),
    "update": lambda: ([], {"enqueued_at": NOW}),
    "update_or_create": lambda: ([], defaults()),
    "values": lambda: (["id"], {}),
    "values_list": lambda: (["id"], {}),
}


def methods(kind):
    members = inspect.getmembers(kind, callable)
    return [name for name, _ in members if not name.startswith("_") and name not in ASK_NOTHING]


def arguments(name):
    known = ARGUMENTS.get(name) or ARGUMENTS.get(name.removeprefix("a"))
    assert known, f"expected arguments for the public method {name}() in ARGUMENTS, got none"
    return known()


def evaluate(method, args, kwargs):
    """Call a method and make whatever it returns show its rows."""
    if inspect.isasyncgenfunction(method):
        return async_to_sync(exhaust)(method(*args, **kwargs))
    if inspect.iscoroutinefunction(method):
        return async_to_sync(method)(*args, **kwargs)
    result = method(*args, **kwargs)
    if isinstance(result, QuerySet | RawQuerySet) or inspect.isgenerator(result):
        return list(result)
    if inspect.isasyncgen(result):
        return async_to_sync(exhaust)(result)
    if inspect.iscoroutine(result):
        return async_to_sync(wait_for)(result)
    return result


async def exhaust(rows):
    return [row async for row in rows]


async def wait_for(coroutine):
    return await coroutine


@pytest.mark.parametrize("name", methods(QueueManager))
def test_every_manager_method_refuses_without_a_hint_and_sends_nothing(name):
    args, kwargs = arguments(name)

    with pytest.raises(AmbiguousRoute, match="'queue', 'bulk'"):
        evaluate(getattr(Job.objects, name), args, kwargs)
    with pytest.raises(AmbiguousRoute, match="'queue', 'bulk'"):
        evaluate(getattr(Job._base_manager, name), *arguments(name))


@pytest.mark.parametrize("name", methods(QueueQuerySet))
def test_every_queryset_method_refuses_without_a_hint_and_sends_nothing(name):
    args, kwargs = arguments(name)

    with pytest.raises(AmbiguousRoute, match="'queue', 'bulk'"):
        evaluate(getattr(jobs(), name), args, kwargs)


@pytest.mark.parametrize("rows", [Job.objects, Job.objects.all()], ids=["manager", "queryset"])
def test_the_database_of_rows_without_a_hint_is_refused(rows):
    with pytest.raises(AmbiguousRoute):
        _ = rows.db


@pytest.mark.parametrize(
    "look", [list, len, bool, repr, lambda rows: rows[0], lambda r: r[:2].get()]
)
def test_every_look_at_a_queryset_refuses_without_a_hint(look):
    with pytest.raises(AmbiguousRoute):
        look(Job.objects.order_by("id"))


def test_no_method_is_listed_that_django_does_not_have():
    known = {*methods(QueueManager), *methods(QueueQuerySet)}

    # Django 6.1 has fetch_mode().
    assert set(ARGUMENTS) - known <= {"fetch_mode"}


@pytest.mark.parametrize("name", methods(QueueQuerySet))
def test_every_queryset_method_does_ask_where_there_is_one_database(settings, name):
    """The proof that the arguments above are good and that silence is noticed."""
    settings.TASKS = {"bulk": settings.TASKS["bulk"]}

    with pytest.raises((Asked, NotSupportedError), match=r"bulk was asked|not supported"):
        evaluate(getattr(jobs(), name), *arguments(name))
