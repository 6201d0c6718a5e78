"""The pool: order, what is given back, and the end of its threads."""

import sys
from collections.abc import Callable, Iterator
from threading import Barrier, Event, Semaphore, Thread

import pytest
from django.db import connections

from dj_queue.models import ClaimedExecution
from dj_queue.models.ids import new_id
from dj_queue.routers import queue_database
from dj_queue.runtime.pool import Pool, Run
from tests.jobs import EVERY
from tests.waiting import until

SECONDS = 20
"""How long another thread may take before the test gives up."""


def rows(count: int) -> list[ClaimedExecution]:
    return [ClaimedExecution(job_id=new_id(), claim_token=new_id()) for _ in range(count)]


def started_pool(threads: int, run: Run, ended: Callable[[], object]) -> Pool:
    pool = Pool("test", threads, may_start=lambda row: True, run=run, ended=ended)
    pool.start()
    return pool


class Recorder:
    """What a pool runs: notes each job, and keeps it running while the gate is shut."""

    def __init__(self) -> None:
        self.started: list[ClaimedExecution] = []
        self.begun, self.ended = Semaphore(0), Semaphore(0)
        self.gate = Event()
        self.pools: list[Pool] = []

    def pool(self, threads: int) -> Pool:
        self.pools.append(started_pool(threads, self.run, self.ended.release))
        return self.pools[-1]

    def run(self, row: ClaimedExecution) -> None:
        self.started.append(row)
        self.begun.release()
        assert self.gate.wait(SECONDS)

    def wait(self, semaphore: Semaphore, count: int) -> None:
        for _ in range(count):
            assert semaphore.acquire(timeout=SECONDS)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.gate.set()
    for pool in recorder.pools:
        pool.close()
        for thread in pool._threads:
            if thread.ident is not None:
                thread.join(SECONDS)
                assert not thread.is_alive()


def numbers(pool: Pool) -> tuple[int, int, int]:
    """Give how many jobs wait, are held, and have ended."""
    return pool.waiting_count, pool.held_count, pool.ended_count


def test_one_thread_runs_jobs_in_the_order_they_are_put_in(recorder):
    pool, jobs = recorder.pool(1), rows(200)
    recorder.gate.set()

    for start in range(0, 200, 7):
        assert pool.put(jobs[start : start + 7])
    recorder.wait(recorder.ended, 200)

    assert recorder.started == jobs
    assert numbers(pool) == (0, 0, 200)


def test_as_many_jobs_run_at_once_as_there_are_threads(recorder):
    pool, jobs = recorder.pool(3), rows(5)

    pool.put(jobs)
    recorder.wait(recorder.begun, 3)

    assert numbers(pool) == (2, 5, 0)
    assert set(recorder.started) == set(jobs[:3])


def test_the_last_jobs_are_taken_back_and_the_rest_keep_their_order(recorder):
    pool, jobs = recorder.pool(1), rows(10)
    pool.put(jobs)
    recorder.wait(recorder.begun, 1)

    taken = pool.take_back(4)
    numbers_then = numbers(pool)
    recorder.gate.set()
    recorder.wait(recorder.ended, 6)

    assert taken == jobs[6:]
    assert numbers_then == (5, 6, 0)
    assert recorder.started == jobs[:6]
    assert numbers(pool) == (0, 0, 6)


def test_running_jobs_are_not_taken_back(recorder):
    pool, jobs = recorder.pool(2), rows(3)
    pool.put(jobs)
    recorder.wait(recorder.begun, 2)

    assert pool.take_back(3) == jobs[2:]
    assert pool.take_back(3) == []
    assert numbers(pool) == (0, 2, 0)


def test_a_job_taken_back_may_be_put_in_again(recorder):
    pool, jobs = recorder.pool(1), rows(3)
    pool.put(jobs)
    recorder.wait(recorder.begun, 1)

    pool.put(pool.take_back(2))
    recorder.gate.set()
    recorder.wait(recorder.ended, 3)

    assert recorder.started == jobs
    assert numbers(pool) == (0, 0, 3)


def test_jobs_taken_back_while_threads_run_others_are_each_run_or_returned(recorder):
    # Threads take jobs off the front while another takes them off the back, at the same moment.
    pool, jobs, taken = recorder.pool(3), rows(1_000), []
    recorder.gate.set()
    start = Barrier(2)

    def take_back() -> None:
        start.wait(SECONDS)
        while pool.waiting_count:
            taken.extend(pool.take_back(3))

    taker = Thread(target=take_back)
    taker.start()
    pool.put(jobs[:500])
    start.wait(SECONDS)
    pool.put(jobs[500:])
    taker.join(SECONDS)
    taken += pool.take_back(1_000)
    recorder.wait(recorder.ended, 1_000 - len(taken))

    assert len(recorder.started) + len(taken) == 1_000
    assert {*recorder.started, *taken} == set(jobs)
    assert numbers(pool) == (0, 0, len(recorder.started))


def test_nothing_is_put_in_after_close(recorder):
    pool = recorder.pool(2)

    assert pool.close() == ([], [])
    assert pool.put(rows(1)) is False
    assert (pool.held_count, pool.ended_count) == (0, 0)
    assert recorder.started == []


def test_close_tells_what_runs_from_what_waits_and_starts_nothing_more(recorder):
    pool, jobs = recorder.pool(2), rows(5)
    pool.put(jobs)
    recorder.wait(recorder.begun, 2)

    running, unstarted = pool.close()
    recorder.gate.set()
    recorder.wait(recorder.ended, 2)

    assert (running, unstarted) == (jobs[:2], jobs[2:])
    assert set(recorder.started) == set(jobs[:2])


class Held(set[int]):
    """A set that lets nothing go before `close` has looked at it."""

    def __init__(self) -> None:
        self.is_leaving, self.is_looked_at = Event(), Event()

    def discard(self, key: int) -> None:
        super().discard(key)
        self.is_leaving.set()
        assert self.is_looked_at.wait(SECONDS)


def test_a_job_that_ends_while_the_pool_is_closed_did_run(monkeypatch):
    started: list[ClaimedExecution] = []
    pool, [job] = (
        Pool("test", 1, may_start=lambda row: True, run=started.append, ended=int),
        rows(1),
    )
    pool._running = running = Held()
    pool.start()
    pool.put([job])
    assert running.is_leaving.wait(SECONDS)
    tell_to_end = pool._tell_to_end

    def tell_to_end_after_the_look() -> None:
        running.is_looked_at.set()
        tell_to_end()

    monkeypatch.setattr(pool, "_tell_to_end", tell_to_end_after_the_look)

    assert pool.close() == ([], [])
    assert started == [job]


def test_a_job_that_starts_while_the_pool_is_closed_did_not_run(monkeypatch):
    is_closing, has_refused = Event(), Event()
    started: list[ClaimedExecution] = []
    pool = Pool(
        "test",
        1,
        may_start=lambda row: is_closing.wait(SECONDS),
        run=started.append,
        ended=has_refused.set,
    )
    take_waiting = pool._take_waiting

    def take_waiting_and_give_way() -> list[ClaimedExecution]:
        is_closing.set()
        has_refused.wait(0.2)  # What could let the job go has to wait for the pool by now.
        return take_waiting()

    monkeypatch.setattr(pool, "_take_waiting", take_waiting_and_give_way)
    [job] = rows(1)
    pool.start()
    pool.put([job])
    until(lambda: pool.waiting_count == 0)

    assert pool.close() == ([], [job])
    assert started == []


def test_whatever_threads_do_at_close_a_job_ran_or_is_returned_and_not_both():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # Threads take turns at nearly every step.
    try:
        for spin in range(1_000):
            started: list[ClaimedExecution] = []
            pool, jobs = started_pool(2, started.append, lambda: None), rows(6)
            pool.put(jobs)
            for _ in range(spin % 100):
                pass
            running, unstarted = pool.close()
            for thread in pool._threads:
                thread.join(SECONDS)

            assert {*started, *unstarted} == set(jobs)
            assert len(started) + len(unstarted) == 6
            assert set(running) <= set(started)
    finally:
        sys.setswitchinterval(interval)


def test_close_of_an_idle_pool_returns_when_its_threads_have_ended(recorder):
    pool = recorder.pool(3)
    recorder.gate.set()
    pool.put(rows(3))
    recorder.wait(recorder.ended, 3)

    assert pool.close() == ([], [])
    assert not any(thread.is_alive() for thread in pool._threads)


def test_jobs_asked_back_after_close_do_not_keep_threads_from_ending(recorder):
    # The stop closes the pool while a poll is under way, which then looks for jobs to give back.
    pool, jobs = recorder.pool(2), rows(3)
    pool.put(jobs)
    recorder.wait(recorder.begun, 2)
    pool.close()

    taken = pool.take_back(pool.waiting_count)
    recorder.gate.set()
    for thread in pool._threads:
        thread.join(SECONDS)

    assert taken == []
    assert not any(thread.is_alive() for thread in pool._threads)


@pytest.mark.django_db(transaction=True, **EVERY)
def test_threads_close_the_connections_that_jobs_opened():
    opened = []

    def run(row: ClaimedExecution) -> None:
        connection = queue_database("default").connection
        connection.ensure_connection()
        opened.append((connection, connection.connection is not None))

    ended = Semaphore(0)
    pool = started_pool(1, run, ended.release)
    pool.put(rows(1))
    assert ended.acquire(timeout=SECONDS)

    pool.close()

    [(connection, was_open)] = opened
    assert was_open
    assert connection.connection is None
    assert connection is not connections[connection.alias]
