"""Lanes: in which thread a coroutine's synchronous calls run, and with whose connections."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextvars import copy_context
from threading import Barrier, Event, Thread, current_thread
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections

from dj_queue.routers import QueueDatabase
from dj_queue.runtime.lanes import JobLane, Lanes
from tests.jobs import EVERY
from tests.waiting import until

SECONDS = 20


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes("test")
    yield lanes
    lanes.close()
    for lane in lanes._all:
        lane._thread.join(SECONDS)
        assert not lane._thread.is_alive()


async def job(lanes: Lanes, work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine as a job is run: in a context and with a lane of its own."""
    lane, context = JobLane(lanes), copy_context()
    context.run(lane.enter)
    try:
        return await asyncio.get_running_loop().create_task(work, context=context)
    finally:
        lane.leave()


def test_all_calls_of_a_job_are_made_in_one_thread(lanes):
    async def work() -> set[Thread]:
        own = asyncio.create_task(sync_to_async(current_thread)())
        return {await sync_to_async(current_thread)(), await own}

    [thread] = asyncio.run(job(lanes, work()))

    assert (thread.name, thread.daemon) == ("test 0", True)


def test_jobs_make_their_calls_at_the_same_time(lanes):
    barrier = Barrier(5)

    async def work() -> int:
        return await sync_to_async(barrier.wait)(SECONDS)

    async def together() -> list[int]:
        return await asyncio.gather(*(job(lanes, work()) for _ in range(5)))

    assert set(asyncio.run(together())) == set(range(5))


def test_one_job_after_the_other_uses_the_same_thread(lanes):
    async def one_by_one() -> list[Thread]:
        threads = []
        for _ in range(5):
            threads.append(await job(lanes, sync_to_async(current_thread)()))
            until(lambda: lanes._free)
        return threads

    assert len(set(asyncio.run(one_by_one()))) == 1


def test_a_job_that_makes_no_call_has_no_thread(lanes):
    asyncio.run(job(lanes, asyncio.sleep(0)))

    assert lanes._all == []


def test_a_call_that_its_job_did_not_wait_for_keeps_the_thread_from_others(lanes):
    goes_on, is_called = Event(), Event()

    def hang() -> None:
        is_called.set()
        assert goes_on.wait(SECONDS)

    async def give_up() -> None:
        call = asyncio.create_task(sync_to_async(hang)())
        while not is_called.is_set():
            await asyncio.sleep(0.001)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    async def both() -> Thread:
        await job(lanes, give_up())
        return await job(lanes, sync_to_async(current_thread)())

    thread = asyncio.run(both())
    goes_on.set()

    assert thread.name == "test 1"
    until(lambda: len(lanes._free) == 2)


def test_the_last_call_is_made_after_those_that_the_job_did_not_wait_for(lanes):
    order: list[str] = []

    def slow() -> None:
        time.sleep(0.05)
        order.append("slow")

    async def work() -> None:
        lane = JobLane(lanes)
        lane.submit(slow)
        await lane.last(lambda: order.append("last"))
        lane.leave()

    asyncio.run(work())

    assert order == ["slow", "last"]


def test_the_last_call_is_not_made_for_a_job_without_calls(lanes):
    asyncio.run(JobLane(lanes).last(lambda: pytest.fail("called")))

    assert lanes._all == []


def test_an_exception_goes_back_to_the_job(lanes):
    async def work() -> None:
        await sync_to_async(int)("x")

    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(job(lanes, work()))


def test_a_call_may_wait_for_a_coroutine_that_makes_a_call(lanes):
    async def inner() -> Thread:
        return await sync_to_async(current_thread)()

    async def work() -> list[Thread]:
        outer = sync_to_async(lambda: [current_thread(), async_to_sync(inner)()])
        return await asyncio.wait_for(outer(), SECONDS)

    first, second = asyncio.run(job(lanes, work()))

    assert first is second


def test_what_a_job_has_left_running_does_not_use_the_thread_of_the_next(lanes):
    ended = asyncio.Event()

    async def outlive() -> Thread:
        await ended.wait()
        return await sync_to_async(current_thread)()

    async def work() -> asyncio.Task[Thread]:
        await sync_to_async(current_thread)()
        return asyncio.create_task(outlive())

    async def both() -> Thread:
        left = await job(lanes, work())
        ended.set()
        return await left

    assert asyncio.run(both()) not in {lane._thread for lane in lanes._all}


@pytest.mark.django_db(transaction=True, **EVERY)
@pytest.mark.parametrize(("age", "is_kept"), [(0, False), (None, True)])
def test_connections_are_closed_between_jobs_as_conn_max_age_says(
    lanes, db: QueueDatabase, monkeypatch, age, is_kept
):
    def look() -> tuple[Any, Any]:
        connection = db.connection
        was_open = connection.connection
        connection.ensure_connection()
        return connection, was_open

    async def one_by_one() -> list[tuple[Any, Any]]:
        seen = []
        for _ in range(2):
            seen.append(await job(lanes, sync_to_async(look)()))
            until(lambda: lanes._free)
        return seen

    monkeypatch.setitem(connections[db.alias].settings_dict, "CONN_MAX_AGE", age)
    (first, _), (second, was_open) = asyncio.run(one_by_one())
    after = second.connection
    lanes.close()
    lanes._all[0]._thread.join(SECONDS)

    assert first is second
    assert (bool(was_open), bool(after)) == (is_kept, is_kept)
    assert second.connection is None
