"""Lanes: the threads in which coroutines' synchronous calls run, the ORM's among them."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from dj_queue.operations.forked import ForkedProcessesEndHere
from dj_queue.runtime.connections import close_connections, tidy_connections


class Lane(Executor):
    """A thread that makes calls one after the other, with connections of its own.

    Not ThreadPoolExecutor: the interpreter would not end before a call that hangs.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call it when the calls before it are done; returns at once."""
        future: Future[Any] = Future()
        self._calls.put(partial(_call, future, partial(fn, *args, **kwargs)))
        return future

    def close(self) -> None:
        """Close the connections and end, after the calls before; returns at once."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
        close_connections()


class Lanes:
    """As many lanes as jobs have needed at once. Not for several threads."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._all: list[Lane] = []
        self._free: deque[Lane] = deque()

    @property
    def threads(self) -> list[threading.Thread]:
        """The threads of all lanes."""
        return [lane._thread for lane in self._all]

    def take(self) -> Lane:
        """Return a lane that is nobody else's, the last one used if there is a choice."""
        if self._free:
            return self._free.pop()
        self._all.append(Lane(f"{self._name} {len(self._all)}"))
        return self._all[-1]

    def put_back(self, lane: Lane) -> None:
        """Let another job have the lane, after the calls that are still to be made."""
        lane.submit(self._free.append, lane)

    def close(self) -> None:
        """Tell all lanes to end."""
        for lane in self._all:
            lane.close()


class JobLane(Executor):
    """The lane of one job, from its first call to its end, as an ASGI request has its thread.

    So another job's slow query, transaction or end does not touch it. Stale connections are closed
    before and after, as between the jobs of a worker's thread.
    """

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._lane: Lane | None = None
        self._key = ThreadSensitiveContext()

    def enter(self) -> None:
        """Make this context's thread-sensitive calls, the default of `sync_to_async`, go here."""
        # As ThreadSensitiveContext does on entry, with a pool of its own for each context.
        SyncToAsync.context_to_thread_executor[self._key] = self
        SyncToAsync.thread_sensitive_context.set(self._key)

    def leave(self) -> None:
        """Let the lane go; what the job has left running gets another thread from asgiref."""
        SyncToAsync.context_to_thread_executor.pop(self._key, None)
        if self._lane is not None:
            self._lane.submit(tidy_connections)
            self._lanes.put_back(self._lane)

    async def last(self, call: Callable[[], None]) -> None:
        """Call it after the job's calls, those too that it has not waited for; if there are any."""
        if self._lane is not None:
            await asyncio.wrap_future(self._lane.submit(call))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call it in the job's lane; returns at once."""
        if self._lane is None:
            self._lane = self._lanes.take()
            self._lane.submit(tidy_connections)
        return self._lane.submit(fn, *args, **kwargs)


def _call(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        with ForkedProcessesEndHere():
            value = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(value)
