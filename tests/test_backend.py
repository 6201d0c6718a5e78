"""The backend: the Tasks contract."""

import json
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from dj_queue.compat import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
)
from dj_queue.exceptions import InvalidOption, NotMigrated, NotSerializable
from dj_queue.models import Job, ReadyExecution
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.operations.pauses import pause
from dj_queue.routers import queue_database
from dj_queue.timezone import for_project
from tests.jobs import EVERY, LATER, ME, NOW, ids, states, store
from tests.shop import tasks

pytestmark = pytest.mark.django_db(**EVERY)


@pytest.fixture
def backend(db):
    return task_backends[db.backend]


@pytest.fixture
def add(db):
    return tasks.add.using(backend=db.backend)


def test_enqueue_stores_the_job_and_returns_its_result(db, add):
    result = add.using(queue_name="mail", priority=7).enqueue(1, b=2)

    job = db.objects(Job).get()
    assert (str(job.id), job.backend, job.task_path) == (
        result.id,
        db.backend,
        "tests.shop.tasks.add",
    )
    assert (job.queue_name, job.priority, job.args, job.kwargs) == ("mail", 7, [1], {"b": 2})
    assert (result.status, result.args, result.kwargs) == (TaskResultStatus.READY, [1], {"b": 2})
    assert result.enqueued_at == for_project(job.enqueued_at)
    assert UUID(result.id).version == 7
    assert states(db) == {job.id: ["ready"]}


def test_enqueue_all_keeps_the_order_given(db, backend, add):
    later = add.using(run_after=datetime(2100, 1, 1, tzinfo=UTC))

    results = backend.enqueue_all(
        [(add, (1, 1), {}), (later, (), {"a": 2, "b": 2}), (add, [3, 3], {})]
    )

    assert [result.id for result in results] == [str(each) for each in ids(db)]
    assert list(states(db).values()) == [["ready"], ["scheduled"], ["ready"]]


def test_enqueue_all_takes_a_generator(db, backend, add):
    results = backend.enqueue_all((add, (n, n), {}) for n in range(3))

    assert [result.args for result in results] == [[0, 0], [1, 1], [2, 2]]
    assert len(ids(db)) == 3


def test_a_large_batch_of_large_jobs_is_stored_whole(db, backend):
    # 24 MB: more than MariaDB takes in one statement, unless it is told otherwise.
    echo = tasks.echo.using(backend=db.backend)
    backend.enqueue_all((echo, ("x" * 20_000,), {}) for _ in range(1200))

    assert db.objects(Job).count() == db.objects(ReadyExecution).count() == 1200


def test_enqueue_all_of_nothing_stores_nothing(db, backend):
    assert backend.enqueue_all([]) == []
    assert ids(db) == []


def test_one_bad_call_keeps_all_from_being_stored(db, backend, add):
    with pytest.raises(NotSerializable):
        backend.enqueue_all([(add, (1, 2), {}), (add, (object(), 2), {})])

    assert ids(db) == []


def test_task_enqueued_is_sent_for_each_job_with_the_backend_as_sender(backend, add):
    seen = []

    def receiver(sender, task_result, **_):
        seen.append((sender, task_result.id))

    task_enqueued.connect(receiver)
    try:
        results = backend.enqueue_all([(add, (1, 2), {}), (add, (3, 4), {})])
    finally:
        task_enqueued.disconnect(receiver)

    assert seen == [(type(backend), result.id) for result in results]


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ([datetime(2026, 1, 1)], {}, "args[0]: expected a JSON value, got datetime.datetime(2026"),
        ([1, [{"x": {1, 2}}]], {}, "args[1][0]['x']: expected a JSON value, got {1, 2} (set)"),
        ([], {"a": float("nan")}, "kwargs['a']: expected a JSON value, got nan (float)"),
        ([], {"a": {1: 2}}, "kwargs['a']: expected keys to be str, got 1 (int)"),
        ([b"\xff"], {}, "args[0]: expected a JSON value, got b'\\xff' (bytes)"),
        ([10**5000], {}, "args[0]: expected at most 4,200 digits, got a number of 16610 bits"),
    ],
)
def test_arguments_that_do_not_survive_json_are_refused_by_path(db, add, args, kwargs, message):
    with pytest.raises(NotSerializable) as caught:
        add.enqueue(*args, **kwargs)

    assert str(caught.value).startswith(message)
    assert ids(db) == []


def test_arguments_nested_without_end_are_refused(db, add):
    endless = []
    endless.append(endless)

    with pytest.raises(NotSerializable, match="expected at most 100 levels, got more"):
        add.enqueue(endless)

    assert ids(db) == []


def test_arguments_come_back_as_json_gives_them(db):
    result = tasks.echo.using(backend=db.backend).enqueue((1, 2), b"text", UUIDish="x")

    stored = db.objects(Job).get()
    assert stored.args == result.args == [[1, 2], "text"]
    assert stored.args == json.loads(json.dumps(stored.args))


def test_a_queue_outside_queues_is_refused_by_name(settings):
    settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["mail", "web"]}}

    with pytest.raises(InvalidTask) as caught:
        tasks.add.using(queue_name="other")

    assert str(caught.value) == (
        "queue_name: expected one of TASKS['default']['QUEUES'] ('mail', 'web'), got 'other'"
    )


@pytest.mark.parametrize("name", ["", " ", "mail ", "mail*", "x" * 65])
def test_a_queue_name_that_cannot_be_kept_exactly_is_refused(name):
    with pytest.raises(InvalidTask, match="queue_name: expected 1 to 64 characters"):
        tasks.add.using(queue_name=name)


def test_a_task_of_another_backend_is_refused(db, backend, add):
    other = tasks.add.using(backend="alerts")

    with pytest.raises(InvalidTask) as caught:
        backend.enqueue_all([(add, (1, 2), {}), (other, (1, 2), {})])

    assert str(caught.value) == (
        f"calls[1]: expected a task of backend {db.backend!r}, got one of 'alerts': "
        f"use task.using(backend={db.backend!r})"
    )
    assert ids(db) == []


def test_a_task_path_that_no_column_holds_is_refused(monkeypatch):
    monkeypatch.setattr(tasks.add.func, "__module__", "m" * 255)

    with pytest.raises(InvalidTask, match="func: expected a path of at most 255 characters"):
        tasks.add.using(priority=1)


def test_enums_and_other_kinds_of_text_and_number_become_plain_ones(db, add):
    class Size(IntEnum):
        BIG = 3

    class Colour(StrEnum):
        RED = "red"

    result = add.enqueue(Size.BIG, Colour.RED)

    assert [type(each) for each in result.args] == [int, str]
    assert db.objects(Job).get().args == [3, "red"]


def test_a_database_that_is_not_there_is_named_with_its_setting(settings):
    own = settings.TASKS["default"]
    options = {**own["OPTIONS"], "database_alias": "nowhere"}
    settings.TASKS = {"default": {**own, "OPTIONS": options}}

    with pytest.raises(InvalidOption) as caught:
        tasks.add.enqueue(1, 2)

    assert str(caught.value) == (
        "TASKS['default']['OPTIONS']['database_alias']: expected an alias of DATABASES "
        "('default', 'queue', 'bulk'), got 'nowhere'"
    )


@pytest.mark.django_db(transaction=True, **EVERY)
def test_a_database_without_our_tables_is_named_with_the_remedy(settings):
    # The application's database has none, that is what the whole suite stands on.
    own = settings.TASKS["default"]
    astray = {"default": {**own, "OPTIONS": {}}}
    with override_settings(TASKS=astray):
        with pytest.raises(NotMigrated) as caught:
            tasks.add.enqueue(1, 2)

        with pytest.raises(NotMigrated):
            task_backends["default"].get_result(str(new_id()))
        with pytest.raises(NotMigrated):
            pause(queue_database("default"), ["mail"], now=NOW)

    assert "tables on database 'default' (backend 'default')" in str(caught.value)
    assert "manage.py dj_queue_migrate" in str(caught.value)


def test_a_result_follows_its_job_to_success(db, backend, add):
    job_id = add.enqueue(20, 22).id
    assert (backend.get_result(job_id).status, backend.get_result(job_id).worker_ids) == (
        TaskResultStatus.READY,
        [],
    )

    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    running = backend.get_result(job_id)
    assert (running.status, running.started_at) == (TaskResultStatus.RUNNING, for_project(NOW))
    assert running.worker_ids == [str(ME)]

    times = iter([NOW, LATER])
    finish(db, [execute(db, row, clock=lambda: next(times))])
    done = backend.get_result(job_id)
    assert (done.status, done.return_value) == (TaskResultStatus.SUCCESSFUL, 42)
    times = [done.started_at, done.last_attempted_at, done.finished_at]
    assert times == [*map(for_project, (NOW, NOW, LATER))]
    assert (done.worker_ids, done.errors, done.attempts) == ([str(ME)], [], 1)
    assert done.task.func is tasks.add.func
    assert add.get_result(job_id) == done


def test_a_result_follows_its_job_to_failure(db, backend):
    job_id = tasks.fail.using(backend=db.backend).enqueue("broken").id
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    finish(db, [execute(db, row, clock=lambda: LATER)])

    result = backend.get_result(job_id)

    assert result.status == TaskResultStatus.FAILED
    assert result.started_at == result.finished_at == for_project(LATER)
    assert result.worker_ids == [str(ME)]
    [error] = result.errors
    assert error.exception_class is ValueError
    assert "ValueError: broken" in error.traceback
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


def test_a_result_is_readable_although_its_task_is_gone(db, backend):
    [job] = store(db, task_path="shop.tasks.removed", queue_name="old")

    result = backend.get_result(str(job.id))

    assert result.task.module_path == "shop.tasks.removed"
    assert (result.task.queue_name, result.task.backend) == ("old", db.backend)


def test_a_result_is_readable_although_its_queue_is_no_longer_allowed(settings, db, backend):
    [job] = store(db, queue_name="old")
    settings.TASKS = {
        **settings.TASKS,
        db.backend: {**settings.TASKS[db.backend], "QUEUES": ["new"]},
    }

    assert task_backends[db.backend].get_result(str(job.id)).task.queue_name == "old"


@pytest.mark.parametrize("other", ["alerts", "bulk"])
def test_another_backends_id_does_not_exist_and_no_other_database_is_asked(other):
    result = tasks.add.enqueue(1, 2)
    backend = task_backends[other]
    alias = backend.database.alias
    watched = [CaptureQueriesContext(connections[each]) for each in connections if each != alias]

    for each in watched:
        each.__enter__()
    with pytest.raises(TaskResultDoesNotExist, match=f"backend '{other}' has no job {result.id}"):
        backend.get_result(result.id)
    for each in watched:
        each.__exit__(None, None, None)

    assert [len(each) for each in watched] == [0, 0]


@pytest.mark.parametrize("wrong", ["", "7", "no uuid", None, "x" * 500])
def test_what_is_no_id_does_not_exist_and_asks_no_database(
    backend, django_assert_num_queries, wrong
):
    with (
        django_assert_num_queries(0, using=backend.database.alias),
        pytest.raises(TaskResultDoesNotExist, match="expected a job id"),
    ):
        backend.get_result(wrong)


def test_an_unknown_id_does_not_exist(backend):
    with pytest.raises(TaskResultDoesNotExist):
        backend.get_result(str(new_id()))


def test_the_async_forms_do_the_same(backend, add):
    async def use() -> None:
        first = await add.aenqueue(1, 2)
        [second] = await backend.aenqueue_all([(add, (3, 4), {})])
        assert (await backend.aget_result(first.id)).args == [1, 2]
        assert (await add.aget_result(second.id)).args == [3, 4]

    async_to_sync(use)()


def test_the_features_of_the_tasks_framework_are_all_there(backend):
    assert backend.supports_defer
    assert backend.supports_priority
    assert backend.supports_get_result
    assert backend.supports_async_task


@pytest.mark.parametrize("ask", ["enqueue", "enqueue_all", "get_result", "guarantee"])
def test_a_misplaced_database_alias_stops_the_backend_instead_of_leading_to_default(ask, settings):
    settings.TASKS = {
        "default": {"BACKEND": "dj_queue.backend.DjQueueBackend", "database_alias": "bulk"}
    }
    backend = task_backends["default"]
    call = (tasks.add, [1, 2], {})
    asked = {
        "enqueue": lambda: backend.enqueue(*call),
        "enqueue_all": lambda: backend.enqueue_all([call]),
        "get_result": lambda: backend.get_result(str(new_id())),
        "guarantee": backend.guarantee,
    }

    expected = r"did you mean TASKS\['default'\]\['OPTIONS'\]\['database_alias'\]\?"
    with pytest.raises(InvalidOption, match=expected):
        asked[ask]()
