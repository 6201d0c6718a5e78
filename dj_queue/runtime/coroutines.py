"""The loop: many coroutines at once, on one event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any
from weakref import WeakMethod

from dj_queue.models import ClaimedExecution
from dj_queue.operations.execute import Outcome
from dj_queue.operations.forked import end_process
from dj_queue.runtime.connections import close_connections
from dj_queue.runtime.lanes import JobLane, Lanes
from dj_queue.runtime.pool import Pool

CLEANUP_SECONDS = 1.0
"""How long coroutines that are cancelled at a stop have to clean up."""

Begin = Callable[[ClaimedExecution, JobLane], Coroutine[Any, Any, Outcome]]
Ending = asyncio.Future[Outcome] | Future[Outcome]


class Loop(Pool):
    """A pool whose jobs are coroutines. One thread begins them, in order; another has the loop.

    What comes before the task may wait for a heartbeat, or for receivers that use the ORM: the
    first thread has no event loop, which would refuse that, and holds up no coroutine.
    """

    def __init__(
        self,
        name: str,
        concurrency: int,
        *,
        may_start: Callable[[ClaimedExecution], bool],
        begin: Begin,
        end: Callable[[ClaimedExecution, Ending], None],
        ended: Callable[[], None],
    ) -> None:
        """Run at most `concurrency` coroutines at once.

        `begin` gives a job's coroutine, and `end` takes what came of it: quickly, for it holds up
        the others. It is not called for a job that `close` has returned.
        """
        super().__init__(f"{name} begin", 1, may_start=may_start, run=self._launch, ended=ended)
        self._begin = begin
        self._end = end
        self._slots = threading.Semaphore(concurrency)
        self._lanes = Lanes(f"{name} calls")
        self._tasks: set[asyncio.Task[Outcome]] = set()
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop: asyncio.AbstractEventLoop
        self._is_closing = asyncio.Event()
        self._has_begun_all = asyncio.Event()
        self._server = threading.Thread(target=self._serve, name=f"{name} loop", daemon=True)

    @property
    def threads(self) -> list[threading.Thread]:
        """Those that begin jobs, run them and make their synchronous calls."""
        return [*self._threads, self._server, *self._lanes.threads]

    def start(self) -> None:
        """Start the threads, once; raise RuntimeError where the system has none left."""
        with self._lock:
            if self._server.ident is None and not self._is_closed:
                self._loop = self._runner.get_loop()
                self._server.start()
        super().start()

    def close(self) -> tuple[list[ClaimedExecution], list[ClaimedExecution]]:
        """Start nothing more; return the jobs that run, and those that had not started.

        Those that run are cancelled, and have a moment to clean up.
        """
        running, unstarted = super().close()
        if self._server.ident is not None:
            self._server.join(CLEANUP_SECONDS)
        return running, unstarted

    def _tell_to_end(self) -> None:
        super()._tell_to_end()
        self._slots.release()
        self._call_soon(self._is_closing.set)

    def _work(self) -> None:
        while self._slots.acquire() and (row := self._waiting.get()) is not None:
            if self._begins(row):
                self._launch(row)
            elif self._is_closed:
                self._slots.release()  # As in the pool: `close` returns it.
            else:
                self._let_go(row)
                self._leave()
        self._call_soon(self._has_begun_all.set)
        close_connections()

    def _launch(self, row: ClaimedExecution) -> None:
        context, lane = Context(), JobLane(self._lanes)
        try:
            coroutine = context.run(self._begin, row, lane)
        except BaseException as error:
            problem: Future[Outcome] = Future()
            problem.set_exception(error)
            self._settle(row, problem)
        else:
            self._call_soon(self._create_task, row, coroutine, context, lane)

    def _create_task(
        self,
        row: ClaimedExecution,
        coroutine: Coroutine[Any, Any, Outcome],
        context: Context,
        lane: JobLane,
    ) -> None:
        context.run(lane.enter)
        task = self._loop.create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(partial(self._task_done, row, lane))
        if self._is_closing.is_set():
            task.cancel()

    def _task_done(self, row: ClaimedExecution, lane: JobLane, task: asyncio.Task[Outcome]) -> None:
        self._tasks.discard(task)
        lane.leave()
        self._settle(row, task)

    def _settle(self, row: ClaimedExecution, ending: Ending) -> None:
        # Either `close` finds it among the running ones, or what came of it counts.
        with self._lock:
            if not self._is_closed:
                self._end(row, ending)
            self._let_go(row)
        self._leave()

    def _leave(self) -> None:
        self._slots.release()
        self._ended()

    def _call_soon(self, call: Callable[..., object], *args: Any) -> None:
        if self._server.ident is not None:
            with suppress(RuntimeError):  # The loop has ended.
                self._loop.call_soon_threadsafe(call, *args)

    def _serve(self) -> None:
        end_child = WeakMethod(self._end_child)
        os.register_at_fork(after_in_child=lambda: (end_child() or bool)())
        with self._runner:
            main = self._loop.create_task(self._main())
            while not main.done():
                # What a task that some job has started raises: the job is told, the loop goes on.
                # RuntimeError when a job has stopped it.
                with suppress(SystemExit, KeyboardInterrupt, RuntimeError):
                    self._loop.run_until_complete(main)
            self._lanes.close()
        close_connections()

    def _end_child(self) -> None:
        """Let a process that a coroutine forks end when it returns to the loop, its parent's.

        It would run the other coroutines as well, and wait on a selector that both share.
        """
        if threading.current_thread() is self._server:
            getattr(self._loop, "_ready", deque()).clear()
            self._loop.call_soon(end_process, 1)

    async def _main(self) -> None:
        await self._is_closing.wait()
        for task in self._tasks:
            task.cancel()
        await self._has_begun_all.wait()
        if self._tasks:
            await asyncio.wait(self._tasks)
