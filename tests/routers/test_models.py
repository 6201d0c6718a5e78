"""What the base model and its manager guard beyond the router."""

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError

from dj_queue.exceptions import AmbiguousRoute, CrossDatabaseRelation, WrongDatabase
from dj_queue.models import Attempt, Job, Pause, ReadyExecution
from dj_queue.routers import use_backend
from tests.jobs import EVERY, NOW, build
from tests.routers.conftest import ID, attempt

pytestmark = pytest.mark.django_db(**EVERY)


def pause(name="email"):
    return Pause(queue_name=name, paused_at=NOW)


def count(db, model):
    return db.objects(model).count()


# Rows that refuse to stray


@pytest.mark.parametrize("model", [Attempt, ReadyExecution])
def test_save_refuses_a_related_row_of_another_database(twins, queue, bulk, model):
    row = attempt() if model is Attempt else ReadyExecution(backend="bulk", priority=0)
    row.job = twins[0]

    with pytest.raises(CrossDatabaseRelation) as caught:
        row.save(using="bulk", force_insert=True)

    assert str(caught.value) == (
        f"expected {model._meta.label}.job to be a row of 'bulk', where this row is saved, got "
        "one of 'queue'"
    )
    assert (count(queue, model), count(bulk, model)) == (1, 1)


def test_bulk_create_refuses_a_related_row_of_another_database(twins, queue, bulk):
    rows = [attempt(job=twins[1]), attempt(job=twins[0])]

    with pytest.raises(CrossDatabaseRelation):
        bulk.objects(Attempt).bulk_create(rows)
    with pytest.raises(CrossDatabaseRelation), use_backend("bulk"):
        Attempt.objects.bulk_create(iter(rows))
    with pytest.raises(CrossDatabaseRelation):
        async_to_sync(Attempt.objects.using("bulk").abulk_create)(rows)

    assert (count(queue, Attempt), count(bulk, Attempt)) == (1, 1)


def test_related_rows_of_the_same_database_are_saved(twins, bulk):
    attempt(job=twins[1], number=2).save()
    bulk.objects(Attempt).bulk_create([attempt(job=twins[1], number=3)])

    assert [row.number for row in twins[1].attempts.order_by("number")] == [1, 2, 3]


@pytest.mark.parametrize("context", ["default", "alerts"])
def test_a_new_row_of_another_backend_is_refused_whatever_the_context_says(queue, bulk, context):
    with use_backend(context):
        with pytest.raises(WrongDatabase):
            build(bulk).save()
        with pytest.raises(WrongDatabase):
            Job.objects.create(backend="bulk", priority=0)
        with pytest.raises(WrongDatabase):
            Job.objects.bulk_create([build(queue), build(bulk)])
    with pytest.raises(WrongDatabase) as caught:
        build(bulk).save(using="queue")

    assert str(caught.value) == (
        "expected a Job of a backend on 'queue', where it is saved, got one of backend 'bulk', "
        "which lives on 'bulk'"
    )
    assert (count(queue, Job), count(bulk, Job)) == (0, 0)


def test_a_row_of_a_forgotten_backend_stays_usable_where_it_is(twins, queue, settings):
    """Its backend has moved to another database, or is gone; the old rows can still be tended."""
    settings.TASKS = {**settings.TASKS, "default": settings.TASKS["bulk"]}
    job = twins[0]
    job.priority = 5
    job.save()
    orphan = build(queue, backend="gone")
    orphan.save(using="queue")

    assert queue.objects(Job).get(pk=ID).priority == 5
    assert queue.objects(Job).get(pk=orphan.pk).backend == "gone"


def test_a_saved_row_is_saved_and_deleted_where_it_lives(twins, queue, bulk):
    job = twins[1]
    job.priority = 7

    with use_backend("default"):
        job.save()
        assert queue.objects(Job).get().priority == 0
        assert bulk.objects(Job).get().priority == 7

        job.delete()
    assert (count(queue, Job), count(queue, Attempt), count(queue, ReadyExecution)) == (1, 1, 1)
    assert (count(bulk, Job), count(bulk, Attempt), count(bulk, ReadyExecution)) == (0, 0, 0)


def test_asave_and_adelete_go_where_the_row_lives(twins, queue, bulk):
    job = twins[1]
    job.priority = 7

    async def work():
        async with use_backend("default"):
            await job.asave()
            assert (await Job.objects.using("bulk").aget()).priority == 7
            await job.adelete()

    async_to_sync(work)()
    assert queue.objects(Job).get().priority == 0
    assert count(bulk, Job) == 0


def test_bulk_update_refuses_rows_of_another_database(twins, queue, bulk):
    for job in twins:
        job.priority = 7

    with pytest.raises(WrongDatabase) as caught, use_backend("default"):
        Job.objects.bulk_update(twins, ["priority"])
    with pytest.raises(WrongDatabase):
        queue.objects(Job).bulk_update([twins[1]], ["priority"])
    assert bulk.objects(Job).bulk_update([twins[1]], ["priority"]) == 1

    assert str(caught.value) == (
        "expected rows of 'queue', where they are updated, got a Job of 'bulk'"
    )
    assert queue.objects(Job).get().priority == 0
    assert bulk.objects(Job).get().priority == 7


def test_bulk_writes_of_nothing_need_no_database():
    assert Job.objects.bulk_create([]) == []
    assert Job.objects.bulk_update([], ["priority"]) == 0


@pytest.mark.parametrize("context", ["default", "bulk"])
def test_refresh_follows_the_row(twins, context):
    with use_backend(context):
        for job, alias in zip(twins, ("queue", "bulk"), strict=True):
            job.queue_name = "?"
            job.refresh_from_db()
            assert job.queue_name == alias
            job.queue_name = "?"
            job.refresh_from_db(fields=["queue_name"], from_queryset=Job.objects.order_by("id"))
            assert (job.queue_name, job._state.db) == (alias, alias)
            async_to_sync(job.arefresh_from_db)()
            assert job.queue_name == alias


def test_refresh_from_a_queryset_with_a_name_goes_there(twins):
    twins[0].refresh_from_db(from_queryset=Job.objects.using("bulk"))

    assert twins[0]._state.db == "bulk"


def test_a_deferred_column_is_loaded_from_the_rows_database(twins, bulk):
    job = bulk.objects(Job).only("priority").get()

    with use_backend("default"):
        assert job.queue_name == "bulk"


# Validation


def test_duplicates_are_looked_for_on_the_rows_database(queue, bulk):
    pause().save(using="queue")
    for db in (queue, bulk):
        row = pause("other")
        row.save(using=db.alias)
        row.queue_name = "email"
        with use_backend("bulk"):
            assert is_valid(row) is (db is bulk)
        assert is_valid(row) is (db is bulk)


def test_duplicates_of_a_new_row_are_looked_for_where_it_will_be_saved(queue, bulk):
    pause().save(using="queue")
    with use_backend("default"):
        assert not is_valid(pause())
    with use_backend("bulk"):
        assert is_valid(pause())
    with pytest.raises(AmbiguousRoute):
        pause().full_clean()

    build(bulk, id=ID).save()
    with pytest.raises(ValidationError):
        build(bulk, id=ID).validate_unique()
    build(queue, id=ID).validate_unique()
    with use_backend("default"), pytest.raises(WrongDatabase):
        build(bulk).validate_unique()


def test_a_foreign_key_is_validated_on_the_rows_database(queue, bulk):
    build(bulk, id=ID).save()
    rows = [attempt(job_id=ID), attempt(job_id=ID)]
    for row, db in zip(rows, (queue, bulk), strict=True):
        row._state.db = db.alias

    with use_backend("default"):
        assert [is_valid(row) for row in rows] == [False, True]


def is_valid(row):
    try:
        row.full_clean()
    except ValidationError:
        return False
    return True
