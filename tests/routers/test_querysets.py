"""Querysets stay where they were built, and follow the rows that turn up."""

import pytest
from asgiref.sync import async_to_sync
from django.db import models
from django.db.models import Prefetch, prefetch_related_objects

from dj_queue.exceptions import AmbiguousRoute
from dj_queue.models import Attempt, Job, Pause, ReadyExecution
from dj_queue.routers import use_backend
from tests.jobs import EVERY, NOW, build
from tests.routers.conftest import ID, attempt

pytestmark = pytest.mark.django_db(**EVERY)

fetch_modes = pytest.mark.skipif(
    not hasattr(models, "FETCH_PEERS"), reason="needs_fetch_modes of Django 6.1"
)


def test_a_queryset_stays_where_it_was_built(twins):
    with use_backend("bulk"):
        rows = Job.objects.all()
        later = Job.objects.filter(pk=ID).exclude(queue_name="x").order_by("id")[:5]

    assert [job.queue_name for job in rows] == ["bulk"]
    with use_backend("default"):
        assert [job.queue_name for job in later] == ["bulk"]
        assert rows.filter(queue_name="bulk").exists()
        assert rows.first().queue_name == "bulk"


def test_a_queryset_built_outside_asks_the_context_it_is_evaluated_in(twins):
    rows = Job.objects.all()

    with use_backend("bulk"):
        assert rows.get().queue_name == "bulk"
    with use_backend("default"):
        assert rows.get().queue_name == "queue"
    with pytest.raises(AmbiguousRoute):
        rows.get()


def test_a_name_counts_more_than_the_context(twins):
    with use_backend("default"):
        assert Job.objects.using("bulk").get().queue_name == "bulk"
        assert Job.objects.db_manager("bulk").get().queue_name == "bulk"
        assert Job.objects.all().using("bulk").get().queue_name == "bulk"
        assert Job._base_manager.using("bulk").get().queue_name == "bulk"


def test_subqueries_of_two_databases_are_refused(twins):
    with use_backend("default"):
        jobs = Job.objects.all()

    with pytest.raises(ValueError, match="Subqueries aren't allowed across different databases"):
        list(Attempt.objects.using("bulk").filter(job__in=jobs))


@pytest.mark.parametrize("context", ["default", "bulk"])
def test_relations_follow_their_row_inside_any_context(twins, context):
    with use_backend(context):
        for job, alias in zip(twins, ("queue", "bulk"), strict=True):
            assert [row.message for row in job.attempts.all()] == [alias]
            assert job.attempts.get().job.queue_name == alias
            assert job.readyexecution.queue_name == alias
            lazy = job.attempts.filter(number=1)
    assert lazy.get().message == "bulk"


@pytest.mark.parametrize("context", ["default", "bulk"])
def test_a_related_manager_writes_where_its_row_lives(twins, queue, context):
    columns = {f: v for f, v in vars(attempt()).items() if f not in ("_state", "id", "job_id")}
    with use_backend(context):
        twins[1].attempts.create(**columns | {"number": 2})
        twins[1].attempts.get_or_create(number=3, defaults=columns | {"number": 3})
        twins[1].attempts.update_or_create(number=2, defaults={"message": "changed"})
        twins[1].attempts.filter(number=1).update(message="first")
        twins[1].attempts.filter(number=3).delete()

    messages = twins[1].attempts.order_by("number").values_list("message", flat=True)
    assert list(messages) == ["first", "changed"]
    assert queue.objects(Attempt).get().message == "queue"


@pytest.mark.parametrize("context", ["default", "bulk"])
@pytest.mark.parametrize("built", [None, "default", "bulk"])
def test_prefetching_follows_the_rows_inside_any_context(twins, bulk, context, built):
    lookups = ["readyexecution", "attempts__job"]
    if built:
        with use_backend(built):
            rows = Attempt.objects.filter(number=1)
        lookups = ["readyexecution", Prefetch("attempts", queryset=rows), "attempts__job"]

    with use_backend(context):
        job = bulk.objects(Job).prefetch_related(*lookups).get()
        state = bulk.objects(ReadyExecution).get()
        prefetch_related_objects([state], "job__attempts")

    [row] = job.attempts.all()
    assert (row.message, row.job.queue_name, job.readyexecution.queue_name) == ("bulk",) * 3
    assert (state.job.queue_name, state.job.attempts.all()[0].message) == ("bulk", "bulk")


def test_joined_rows_come_from_the_same_database(twins, bulk):
    with use_backend("default"):
        row = bulk.objects(Attempt).select_related("job__readyexecution").get()

    assert row.job._state.db == row.job.readyexecution._state.db == "bulk"
    assert row.job.readyexecution.queue_name == "bulk"


@fetch_modes
@pytest.mark.parametrize("context", ["default", "bulk"])
def test_peers_are_fetched_from_the_rows_database(bulk, context):
    for number in range(2):
        build(bulk, queue_name="bulk").save()
        bulk.objects(Attempt).bulk_create(
            [attempt(job=bulk.objects(Job).last(), number=number, message="bulk")]
        )
    rows = bulk.objects(Attempt).only("number", "job").fetch_mode(models.FETCH_PEERS)

    with use_backend(context):
        found = list(rows)
        assert [row.message for row in found] == ["bulk", "bulk"]
        assert [row.job.queue_name for row in found] == ["bulk", "bulk"]


def test_get_or_create_and_update_or_create_stay_in_their_context(queue, bulk):
    with use_backend("bulk"):
        rows = Pause.objects.all()
    with use_backend("default"):
        assert rows.get_or_create(queue_name="a", defaults={"paused_at": NOW})[1]
        assert rows.update_or_create(queue_name="a", defaults={"paused_at": NOW})[1] is False
        assert Pause.objects.update_or_create(queue_name="b", defaults={"paused_at": NOW})[1]

    assert bulk.objects(Pause).get().queue_name == "a"
    assert queue.objects(Pause).get().queue_name == "b"


def test_asynchronous_reads_stay_in_their_context(twins):
    async def work():
        async with use_backend("bulk"):
            rows = Job.objects.all()
        async with use_backend("default"):
            here = [job.queue_name async for job in Job.objects.all()]
            return here, (await rows.aget()).queue_name, await rows.acount()

    assert async_to_sync(work)() == (["queue"], "bulk", 1)
