"""What was enqueued is found where it is, and a failure shows what is there instead."""

from datetime import date, timedelta
from threading import Thread

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from dj_queue.compat import TaskResultStatus, task_enqueued
from dj_queue.exceptions import NotSerializable, UnknownBackend
from dj_queue.operations.claim import claim
from dj_queue.testing import assert_enqueued, capture_enqueues, drain
from tests.jobs import LATER, ME, store
from tests.shop.tasks import add, echo, fail, sweep

pytestmark = pytest.mark.dj_queue


def test_a_job_is_found_on_the_backend_of_its_task():
    default, bulk = add.enqueue(1, 2), sweep.enqueue()

    assert [result.id for result in assert_enqueued(add)] == [default.id]
    assert [result.id for result in assert_enqueued(sweep)] == [bulk.id]


def test_a_job_is_found_on_the_backend_that_is_named():
    result = add.using(backend="bulk").enqueue(1, 2)

    assert [each.id for each in assert_enqueued(add, backend="bulk")] == [result.id]
    assert_enqueued(add.using(backend="bulk"))
    assert_enqueued(add, count=0)
    assert_enqueued(add, backend="alerts", count=0)


def test_ready_scheduled_and_claimed_jobs_are_found_and_others_are_not(db):
    here = echo.using(backend=db.backend)
    tomorrow = timezone.now() + timedelta(days=1)
    fail.using(backend=db.backend).enqueue("x")
    here.enqueue("finished")
    drain(db.backend)
    here.enqueue("claimed")
    claim(db, ["*"], limit=1, process_id=ME, now=LATER)
    here.enqueue("ready")
    here.using(run_after=tomorrow).enqueue("scheduled")

    found = assert_enqueued(here, count=3)

    assert [result.args for result in found] == [["claimed"], ["ready"], ["scheduled"]]
    running, ready = TaskResultStatus.RUNNING, TaskResultStatus.READY
    assert [result.status for result in found] == [running, ready, ready]
    assert found[2].task.run_after == tomorrow
    assert_enqueued(fail, backend=db.backend, count=0)


def test_arguments_and_queue_narrow_what_is_found(db):
    here = echo.using(backend=db.backend)
    here.enqueue((1, 2), a="b")
    here.using(queue_name="mail").enqueue()

    assert_enqueued(here, count=2)
    assert_enqueued(here, args=[[1, 2]], kwargs={"a": "b"}, queue_name="default", count=1)
    assert_enqueued(here, args=((1, 2),), count=1)
    assert_enqueued(here, args=[], kwargs={}, queue_name="mail", count=1)
    for wrong in [{"args": [1, 2]}, {"kwargs": {"a": "c"}}, {"queue_name": "Mail"}]:
        assert_enqueued(here, **wrong, count=0)
        with pytest.raises(AssertionError):
            assert_enqueued(here, **wrong)


def test_a_failure_lists_what_is_on_the_database_instead():
    add.enqueue(1, 2)
    add.using(backend="alerts", queue_name="pager", run_after=LATER.replace(year=2100)).enqueue(
        a=1, b=2
    )
    sweep.enqueue()

    with pytest.raises(AssertionError) as raised:
        assert_enqueued(add, args=[3], queue_name="mail")

    assert str(raised.value) == (
        "expected at least 1 unfinished on backend 'default' of task_path='tests.shop.tasks.add', "
        "args=[3], queue_name='mail', got 0; unfinished on database 'queue': 2\n"
        "  ready tests.shop.tasks.add: backend='default', queue_name='default', args=[1, 2], "
        "kwargs={}\n"
        "  scheduled tests.shop.tasks.add: backend='alerts', queue_name='pager', args=[], "
        "kwargs={'a': 1, 'b': 2}"
    )


@pytest.mark.parametrize(("count", "got"), [(0, 1), (2, 1)])
def test_another_number_of_jobs_is_a_failure(count, got):
    add.enqueue(1, 2)

    with pytest.raises(AssertionError, match=rf"^expected {count} unfinished .*, got {got}; "):
        assert_enqueued(add, count=count)


def test_a_long_list_and_long_arguments_are_cut(db):
    store(db, 52, args=["x" * 500])

    with pytest.raises(AssertionError) as raised:
        assert_enqueued(echo, backend=db.backend)

    lines = str(raised.value).splitlines()
    assert len(lines) == 52
    assert lines[-1] == "  and 2 more"
    assert max(map(len, lines)) < 400


def test_arguments_that_no_job_can_have_are_refused():
    with pytest.raises(NotSerializable, match=r"args\[0\]"):
        assert_enqueued(add, args=[date(2026, 1, 1)])


def test_an_unknown_backend_is_refused():
    with pytest.raises(UnknownBackend, match="got 'mail'"):
        assert_enqueued(add, backend="mail")


def test_enqueues_on_every_backend_are_captured_in_order():
    with capture_enqueues() as captured:
        assert captured == []
        results = [add.enqueue(1, 2), sweep.enqueue()]

    add.enqueue(3, 4)

    assert captured == results
    assert [result.backend for result in captured] == ["default", "bulk"]


def test_captures_nest():
    with capture_enqueues() as outer:
        first = add.enqueue(1, 2)
        with capture_enqueues() as inner:
            second = add.enqueue(3, 4)
        third = add.enqueue(5, 6)

    assert inner == [second]
    assert outer == [first, second, third]


def test_an_error_ends_the_capture():
    before = len(task_enqueued.receivers)

    with pytest.raises(ZeroDivisionError), capture_enqueues() as captured:
        raise ZeroDivisionError

    add.enqueue(1, 2)
    assert captured == []
    assert len(task_enqueued.receivers) == before


def test_asynchronous_enqueues_are_captured():
    async def enqueue():
        with capture_enqueues() as captured:
            await add.aenqueue(1, 2)
        return captured

    assert [result.args for result in async_to_sync(enqueue)()] == [[1, 2]]


@pytest.mark.django_db(transaction=True)
def test_enqueues_of_other_threads_are_captured(db):
    def enqueue():
        try:
            for number in range(5):
                add.using(backend=db.backend).enqueue(number, 0)
        finally:
            db.connection.close()

    threads = [Thread(target=enqueue) for _ in range(4)]
    with capture_enqueues() as captured:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(result.args[0] for result in captured) == sorted([*range(5)] * 4)
    assert_enqueued(add, backend=db.backend, count=20)
