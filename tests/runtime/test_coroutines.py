"""The loop: what runs at once, in which order and context, and what becomes of it at the end."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from threading import Event
from typing import Any

import pytest

from dj_queue.models import ClaimedExecution
from dj_queue.models.ids import new_id
from dj_queue.runtime import coroutines
from dj_queue.runtime.coroutines import Ending, Loop
from dj_queue.runtime.lanes import JobLane
from tests.waiting import until

SECONDS = 20


def rows(count: int) -> list[ClaimedExecution]:
    return [ClaimedExecution(job_id=new_id(), claim_token=new_id()) for _ in range(count)]


class Stage:
    """What a loop runs: each job waits while the gate is shut, or does what it was told to."""

    def __init__(self) -> None:
        self.loops: list[Loop] = []
        self.begun: list[ClaimedExecution] = []
        self.running: list[ClaimedExecution] = []
        self.results: dict[ClaimedExecution, Any] = {}
        self.cleaned_up: list[ClaimedExecution] = []
        self.ended_count = 0
        self.gate = Event()
        self.deeds: dict[ClaimedExecution, Callable[[], Coroutine[Any, Any, Any]]] = {}
        self.may_start: Callable[[ClaimedExecution], bool] = lambda row: True

    def loop(self, concurrency: int) -> Loop:
        loop = Loop(
            "test",
            concurrency,
            may_start=lambda row: self.may_start(row),
            begin=self.begin,
            end=self.end,
            ended=self.count,
        )
        self.loops.append(loop)
        loop.start()
        return loop

    def begin(self, row: ClaimedExecution, lane: JobLane) -> Coroutine[Any, Any, Any]:
        self.begun.append(row)
        return self.deeds.get(row, lambda: self.wait(row))()

    async def wait(self, row: ClaimedExecution) -> ClaimedExecution:
        self.running.append(row)
        try:
            while not self.gate.is_set():
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            self.cleaned_up.append(row)
            raise
        return row

    def end(self, row: ClaimedExecution, ending: Ending) -> None:
        try:
            self.results[row] = ending.result()
        except BaseException as error:
            self.results[row] = type(error)

    def count(self) -> None:
        self.ended_count += 1


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.gate.set()
    for loop in stage.loops:
        loop.close()
        for thread in (*loop._threads, loop._server):
            thread.join(SECONDS)
            assert not thread.is_alive()


def numbers(loop: Loop) -> tuple[int, int, int]:
    """Give how many jobs wait, are held, and have ended."""
    return loop.waiting_count, loop.held_count, loop.ended_count


def test_as_many_coroutines_run_at_once_as_may(stage):
    loop, jobs = stage.loop(100), rows(130)

    loop.put(jobs)
    until(lambda: len(stage.running) == 100)
    before = numbers(loop), list(stage.running)
    stage.gate.set()
    until(lambda: stage.ended_count == 130)

    assert before == ((30, 130, 0), jobs[:100])
    assert numbers(loop) == (0, 0, 130)
    assert stage.results == {row: row for row in jobs}


def test_one_at_a_time_coroutines_keep_the_order_in_which_they_were_put_in(stage):
    loop, jobs = stage.loop(1), rows(60)
    stage.gate.set()

    for start in range(0, 60, 7):
        loop.put(jobs[start : start + 7])
    until(lambda: stage.ended_count == 60)

    assert (stage.begun, stage.running, list(stage.results)) == (jobs, jobs, jobs)


def test_the_last_jobs_that_wait_are_taken_back(stage):
    loop, jobs = stage.loop(1), rows(10)
    loop.put(jobs)
    until(lambda: stage.running)

    taken = loop.take_back(4)
    before = numbers(loop)
    stage.gate.set()
    until(lambda: stage.ended_count == 6)

    assert (taken, before) == (jobs[6:], (5, 6, 0))
    assert stage.running == jobs[:6]


def test_a_job_that_may_not_start_yet_holds_up_no_coroutine(stage):
    loop, [first, second] = stage.loop(2), rows(2)
    is_asked, answer = Event(), Event()

    def may_start(row: ClaimedExecution) -> bool:
        if row is second:
            is_asked.set()
            answer.wait(SECONDS)
        return row is first

    stage.may_start = may_start
    loop.put([first, second])
    assert is_asked.wait(SECONDS)
    stage.gate.set()
    until(lambda: stage.results == {first: first})
    before = numbers(loop)
    answer.set()
    until(lambda: stage.ended_count == 2)

    assert before == (0, 1, 1)
    assert (numbers(loop), stage.begun) == ((0, 0, 2), [first])


def test_a_job_that_does_not_begin_ends_with_its_error_and_frees_its_place(stage):
    loop, [bad, good] = stage.loop(1), rows(2)

    def refuse() -> Any:
        raise OSError("no more")

    stage.deeds[bad] = refuse
    stage.gate.set()
    loop.put([bad, good])
    until(lambda: stage.ended_count == 2)

    assert stage.results == {bad: OSError, good: good}


async def start_what_exits() -> Any:
    try:
        await asyncio.create_task(exit_now())
    except SystemExit:
        return "told"


async def exit_now() -> None:
    raise SystemExit(3)


def test_the_loop_goes_on_when_a_task_that_a_job_has_started_exits(stage):
    loop, [exiting, waiting, later] = stage.loop(3), rows(3)
    stage.deeds[exiting] = start_what_exits

    loop.put([waiting, exiting])
    until(lambda: exiting in stage.results)
    loop.put([later])
    stage.gate.set()
    until(lambda: stage.ended_count == 3)

    assert stage.results == {exiting: "told", waiting: waiting, later: later}


async def cancel_all_others() -> str:
    for each in asyncio.all_tasks() - {asyncio.current_task()}:
        if each.get_coro().__qualname__ == "Stage.wait":
            each.cancel()
    return "done"


def test_a_job_that_another_cancels_before_its_first_step_has_an_end_too(stage):
    # Both tasks are made in one turn of the loop, the one that cancels first.
    loop, [holding, cancelling, victim] = stage.loop(3), rows(3)
    is_held, release = Event(), Event()

    async def hold() -> None:
        is_held.set()
        release.wait(SECONDS)

    stage.deeds |= {holding: hold, cancelling: cancel_all_others}
    loop.put([holding])
    assert is_held.wait(SECONDS)
    loop.put([cancelling, victim])
    until(lambda: len(stage.begun) == 3)
    release.set()
    until(lambda: stage.ended_count == 3)

    assert stage.results == {holding: None, cancelling: "done", victim: asyncio.CancelledError}
    assert stage.running == []


COLOUR: ContextVar[str] = ContextVar("colour", default="none")


def test_each_job_has_a_context_of_its_own_from_its_beginning_on(stage):
    loop, jobs = stage.loop(1), rows(2)
    seen: list[str] = []

    async def look() -> str:
        return COLOUR.get()

    def begin() -> Coroutine[Any, Any, str]:
        seen.append(COLOUR.get())
        COLOUR.set("red")
        return look()

    stage.deeds = dict.fromkeys(jobs, begin)
    loop.put(jobs)
    until(lambda: stage.ended_count == 2)

    assert seen == ["none", "none"]
    assert list(stage.results.values()) == ["red", "red"]


def test_a_coroutine_that_stops_the_loop_does_not_keep_others_from_running(stage):
    loop, jobs = stage.loop(2), rows(3)

    async def stop_the_loop() -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return "went on"

    stage.deeds[jobs[0]] = stop_the_loop
    stage.gate.set()
    loop.put(jobs[:1])
    until(lambda: stage.ended_count == 1)
    loop.put(jobs[1:])
    until(lambda: stage.ended_count == 3)

    assert stage.results == {jobs[0]: "went on", jobs[1]: jobs[1], jobs[2]: jobs[2]}


def test_close_tells_what_runs_from_what_waits_and_lets_the_first_clean_up(stage):
    loop, jobs = stage.loop(2), rows(5)
    loop.put(jobs)
    until(lambda: len(stage.running) == 2)

    running, unstarted = loop.close()

    assert (running, unstarted) == (jobs[:2], jobs[2:])
    assert set(stage.cleaned_up) == set(jobs[:2])
    assert (stage.begun, stage.results) == (jobs[:2], {})
    assert loop.put(rows(1)) is False


class Held(dict[int, ClaimedExecution]):
    """A dict that lets nothing go for a while: long enough for a `close` that has not to wait."""

    def __init__(self) -> None:
        self.is_leaving = Event()

    def __delitem__(self, key: int) -> None:
        self.is_leaving.set()
        time.sleep(0.2)
        super().__delitem__(key)


def test_a_job_that_ends_while_the_loop_is_closed_did_run(stage):
    loop, [row] = stage.loop(2), rows(1)
    loop._held = held = Held()
    stage.gate.set()
    loop.put([row])
    assert held.is_leaving.wait(SECONDS)

    assert loop.close() == ([], [])
    assert stage.results == {row: row}


def test_a_job_that_starts_while_the_loop_is_closed_did_not_run(stage, monkeypatch):
    is_closing = Event()
    stage.may_start = lambda row: is_closing.wait(SECONDS)
    loop, [row] = stage.loop(2), rows(1)
    take_waiting = loop._take_waiting

    def take_waiting_and_give_way() -> list[ClaimedExecution]:
        is_closing.set()
        time.sleep(0.2)  # What could let the job go has to wait for the loop by now.
        return take_waiting()

    monkeypatch.setattr(loop, "_take_waiting", take_waiting_and_give_way)
    loop.put([row])
    until(lambda: loop.waiting_count == 0)

    assert loop.close() == ([], [row])
    assert stage.begun == []


def test_whatever_threads_do_at_close_a_coroutine_ran_or_is_returned_and_not_both(stage):
    interval = sys.getswitchinterval()
    stage.gate.set()
    sys.setswitchinterval(1e-6)  # Threads take turns at nearly every step.
    try:
        for spin in range(100):
            loop, jobs = stage.loop(2), rows(6)
            loop.put(jobs)
            for _ in range(spin * 100):
                pass
            running, unstarted = loop.close()

            ended = [row for row in jobs if row in stage.results]
            assert {*ended, *running, *unstarted} == set(jobs)
            assert len(ended) + len(running) + len(unstarted) == 6
            assert not {*unstarted} & {*stage.begun}
    finally:
        sys.setswitchinterval(interval)


def test_a_job_that_is_just_beginning_at_close_counts_as_running_and_takes_no_step(stage):
    loop, [row] = stage.loop(2), rows(1)
    is_begun, go_on = Event(), Event()

    def begin() -> Coroutine[Any, Any, Any]:
        is_begun.set()
        go_on.wait(SECONDS)
        return stage.wait(row)

    stage.deeds[row] = begin
    loop.put([row])
    assert is_begun.wait(SECONDS)
    threading.Timer(0.05, go_on.set).start()

    assert loop.close() == ([row], [])
    assert (stage.running, stage.results) == ([], {})


def test_a_coroutine_that_does_not_let_itself_be_cancelled_does_not_hold_up_close(
    stage, monkeypatch
):
    monkeypatch.setattr(coroutines, "CLEANUP_SECONDS", 0.05)
    loop, [row] = stage.loop(1), rows(1)
    is_stubborn = Event()

    async def stay() -> None:
        while not stage.gate.is_set():
            is_stubborn.set()
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                continue

    stage.deeds[row] = stay
    loop.put([row])
    assert is_stubborn.wait(SECONDS)

    assert loop.close() == ([row], [])
    assert loop._server.is_alive()


def test_a_blocked_loop_does_not_hold_up_close(stage, monkeypatch):
    monkeypatch.setattr(coroutines, "CLEANUP_SECONDS", 0.05)
    loop, [row] = stage.loop(1), rows(1)
    is_blocked = Event()

    async def block() -> None:
        is_blocked.set()
        stage.gate.wait(SECONDS)

    stage.deeds[row] = block
    loop.put([row])
    assert is_blocked.wait(SECONDS)

    assert loop.close() == ([row], [])
    assert stage.results == {}


def test_close_of_an_idle_loop_ends_its_threads(stage):
    loop = stage.loop(3)
    stage.gate.set()
    loop.put(rows(3))
    until(lambda: stage.ended_count == 3)

    assert loop.close() == ([], [])
    assert not any(thread.is_alive() for thread in (*loop._threads, loop._server))
    assert loop._loop.is_closed()


def test_a_loop_that_never_started_can_be_closed():
    def nothing(*args: Any) -> Any:
        raise AssertionError

    loop = Loop("test", 1, may_start=nothing, begin=nothing, end=nothing, ended=nothing)

    assert loop.close() == ([], [])
