"""`use_backend`: for one block, one task, one thread."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import sync_to_async

from dj_queue.exceptions import UnknownBackend
from dj_queue.routers import use_backend
from dj_queue.routers.context import active_alias, active_backend
from tests.routers.conftest import backend


def test_without_a_block_no_backend_is_active():
    assert active_backend() is None
    assert active_alias() is None


def test_blocks_nest_and_the_innermost_counts():
    with use_backend("default"):
        with use_backend("bulk"):
            assert (active_backend(), active_alias()) == ("bulk", "bulk")
            with use_backend("alerts"):
                assert (active_backend(), active_alias()) == ("alerts", "queue")
            assert active_backend() == "bulk"
        assert active_backend() == "default"
    assert active_backend() is None


def test_one_block_may_be_entered_again_inside_itself():
    bulk = use_backend("bulk")

    with bulk, use_backend("default"), bulk:
        assert active_backend() == "bulk"

    assert active_backend() is None


def test_an_exception_leaves_every_block():
    with pytest.raises(ZeroDivisionError), use_backend("default"):
        with pytest.raises(KeyError), use_backend("bulk"):
            raise KeyError
        assert active_backend() == "default"
        _ = 1 / 0

    assert active_backend() is None


def test_an_unknown_backend_is_refused_before_the_block():
    with pytest.raises(UnknownBackend, match="got 'blk'"):
        use_backend("blk")

    assert active_backend() is None


def test_the_database_is_looked_up_when_it_is_needed(tasks):
    with use_backend("bulk"):
        tasks(bulk=backend("queue"))

        assert active_alias() == "queue"


def test_a_block_may_be_asynchronous():
    async def work():
        async with use_backend("bulk"):
            async with use_backend("default"):
                assert active_backend() == "default"
            await asyncio.sleep(0)
            seen = active_backend(), await sync_to_async(active_backend)()
        return seen, active_backend()

    assert asyncio.run(work()) == (("bulk", "bulk"), None)


def test_concurrent_tasks_do_not_see_each_others_blocks():
    """Each task enters its block before any may leave, and looks again after."""

    async def work(name, barrier):
        async with use_backend(name):
            await barrier.wait()
            inside = active_backend()
            await barrier.wait()
        await barrier.wait()
        return inside, active_backend()

    async def together():
        barrier = asyncio.Barrier(3)
        names = ("default", "alerts", "bulk")
        return await asyncio.gather(*(work(name, barrier) for name in names))

    assert asyncio.run(together()) == [("default", None), ("alerts", None), ("bulk", None)]


def test_threads_do_not_inherit_the_block():
    with use_backend("bulk"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(active_backend).result() is None
        assert pool.submit(active_alias).result() is None
