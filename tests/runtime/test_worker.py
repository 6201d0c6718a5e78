"""A worker's polls, one at a time: what it claims ahead, gives back, and when it looks again."""

import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest
from django.db import OperationalError

from dj_queue.conf import WorkerOptions
from dj_queue.models import ClaimedExecution, ReadyExecution
from dj_queue.operations.claim import claim, give_back
from dj_queue.operations.execute import execute
from dj_queue.routers import QueueDatabase
from dj_queue.runtime.finisher import Finisher
from dj_queue.runtime.prefetch import Prefetching
from dj_queue.runtime.worker import LOOK_SECONDS, QUICK_SECONDS, Worker
from tests.jobs import EVERY, ME, NOW, counts, states, store
from tests.runtime.units import end, registered
from tests.shop.tasks import ARRIVED, GATE
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

SLOW = {"task_path": "tests.shop.tasks.wait_at_gate", "args": []}
SLOW_COUNT = 600  # more than any worker claims ahead
INTERVAL = 0.1


class Watched(Worker):
    """A worker that a test polls itself, whose rate is taken on a clock of the test's."""

    def __init__(self, db: QueueDatabase, threads: int) -> None:
        options = WorkerOptions(threads=threads, polling_interval=INTERVAL)
        super().__init__(registered(db, options), options, Finisher(db))
        self.now = 0.0
        self._crews[0].prefetch = Prefetching(threads, clock=lambda: self.now)

    @property
    def waiting_count(self) -> int:
        return self._crews[0].waiting_count

    @property
    def running_count(self) -> int:
        return self._crews[0].running_count

    def look(self, after: float) -> float:
        """Poll once more, so many seconds later."""
        self.now += after
        return self.poll()

    def warm_up(self) -> None:
        """Run quick jobs until a good many are claimed ahead; leave none."""
        store(self.db, count=300)
        while self.db.objects(ReadyExecution).exists():
            self.look(after=0.005)
            until(lambda: not self.is_busy)
        until(lambda: not self.finisher.pending_count)
        assert self._crews[0].prefetch.depth > 10

    def fall_behind(self) -> None:
        """Claim jobs ahead that take long: one runs in each thread, others wait."""
        self.warm_up()
        store(self.db, count=SLOW_COUNT, **SLOW)
        self.look(after=0.001)
        until(lambda: self.running_count == self.options.threads)
        assert self.waiting_count > 5


@pytest.fixture
def make_worker(db: QueueDatabase) -> Iterator[Callable[..., Watched]]:
    """Give a function that makes a worker; it and its finisher end with the test."""
    GATE.clear()
    workers: list[Watched] = []

    def make(threads: int = 2) -> Watched:
        workers.append(Watched(db, threads))
        workers[-1].finisher.start()
        return workers[-1]

    yield make
    GATE.set()
    for worker in workers:
        end(worker)


def claim_all(db: QueueDatabase) -> list[ClaimedExecution]:
    return claim(db, ["*"], limit=1_000, process_id=ME, now=NOW)


def test_jobs_do_not_wait_behind_a_busy_worker(db, make_worker):
    worker = make_worker(threads=2)
    worker.fall_behind()

    for _ in range(10):
        worker.look(after=LOOK_SECONDS)

    until(lambda: not worker.finisher.pending_count)
    assert (worker.running_count, worker.waiting_count) == (2, 0)
    assert len(claim_all(db)) == SLOW_COUNT - 2


def test_a_busy_worker_leaves_jobs_it_gave_back_to_others(db, make_worker):
    worker = make_worker(threads=2)
    worker.fall_behind()
    for _ in range(10):
        worker.look(after=LOOK_SECONDS)

    waiting = []
    for _ in range(10):
        worker.look(after=LOOK_SECONDS)
        waiting.append(worker.waiting_count)

    until(lambda: not worker.finisher.pending_count)
    assert waiting == [0] * 10
    assert db.objects(ReadyExecution).count() == SLOW_COUNT - 2


def test_a_busy_worker_without_prefetch_does_not_ask(db, make_worker, claims):
    worker = make_worker(threads=2)
    store(db, count=5, **SLOW)
    worker.look(after=1)
    until(lambda: worker.running_count == 2)

    delays = [worker.look(after=1) for _ in range(3)]

    assert (delays, claims) == ([LOOK_SECONDS] * 3, [2])
    assert counts(db) == {"claimed": 2, "ready": 3}


def test_nothing_is_claimed_while_returned_jobs_are_not_ready_again(db, make_worker, monkeypatch):
    # Forced: the claim comes before the return is recorded. Later jobs would overtake those.
    worker, may_return = make_worker(threads=2), Event()
    worker.fall_behind()
    monkeypatch.setattr(
        "dj_queue.runtime.finisher.give_back",
        lambda *args: may_return.wait(30) and give_back(*args),
    )
    while worker.waiting_count:
        worker.look(after=LOOK_SECONDS)
    held = worker.running_count
    GATE.set()
    until(lambda: worker.running_count == 0)

    delay = worker.poll()

    assert (held, delay, worker.waiting_count) == (2, QUICK_SECONDS, 0)
    may_return.set()
    until(lambda: not worker.finisher.pending_count)
    returned = counts(db)["ready"]
    worker.poll()
    until(lambda: not worker.is_busy)
    assert counts(db).get("ready", 0) < returned


def test_jobs_that_free_threads_are_about_to_take_are_no_surplus(db, make_worker, monkeypatch):
    # The threads have not come to it yet, as when others keep the interpreter busy.
    worker = make_worker(threads=3)
    monkeypatch.setattr(worker._crews[0].pool, "_threads", [NotYet() for _ in range(3)])
    store(db, count=3)
    worker.look(after=1)
    before = set(db.objects(ClaimedExecution).values_list("job_id", "claim_token"))

    worker.look(after=QUICK_SECONDS)

    after = set(db.objects(ClaimedExecution).values_list("job_id", "claim_token"))
    worker._crews[0].pool.take_back(3)
    assert after == before


class NotYet:
    """A thread that was started and does nothing."""

    ident = None

    def start(self) -> None:
        self.ident = 1

    def join(self) -> None:
        """Have ended."""


def test_stop_gives_back_jobs_that_have_not_started(db, make_worker):
    worker = make_worker(threads=2)
    worker.fall_behind()
    held = set(db.objects(ClaimedExecution).values_list("job_id", flat=True))
    db.objects(ClaimedExecution).update(attempt=3)

    worker.stop()
    worker.run()

    assert worker.waiting_count == 0
    until(lambda: not worker.finisher.pending_count)
    running = set(db.objects(ClaimedExecution).values_list("job_id", flat=True))
    back = held - running
    assert (len(running), len(back)) == (2, len(held) - 2)
    attempts = db.objects(ReadyExecution).filter(job_id__in=back).values_list("attempt", flat=True)
    assert list(attempts) == [3] * len(back)
    GATE.set()
    until(lambda: not db.objects(ClaimedExecution).exists())
    assert {job_id for job_id, [state] in states(db).items() if state == "ready"} >= back


def test_what_is_given_back_does_not_run_here_though_the_answer_is_lost(
    db, make_worker, monkeypatch
):
    # The first try commits, but nobody hears of it: the jobs may be another worker's by now.
    worker = make_worker(threads=2)
    worker.fall_behind()
    held_count, tries = db.objects(ClaimedExecution).count(), []

    def answer_lost(db: QueueDatabase, rows: Any) -> int:
        tries.append(give_back(db, rows))
        if len(tries) == 1:
            raise OperationalError("the connection was lost during the commit")
        return tries[-1]

    monkeypatch.setattr("dj_queue.runtime.finisher.give_back", answer_lost)
    worker.stop()
    worker.run()
    until(lambda: tries)
    others = {row.job_id for row in claim_all(db)}
    GATE.set()

    until(lambda: not worker.is_busy and not worker.finisher.pending_count)
    assert tries == [held_count - 2, 0]
    assert set(db.objects(ClaimedExecution).values_list("job_id", flat=True)) == others
    assert counts(db) == {"finished": 302, "claimed": SLOW_COUNT - 2}


def test_a_claim_whose_answer_is_lost_is_given_back_and_not_run(db, make_worker, monkeypatch):
    worker = make_worker(threads=2)
    jobs = store(db, count=2)

    def answer_lost(*args: Any, **kwargs: Any) -> None:
        claim(*args, **kwargs)
        raise OperationalError("the connection was lost during the commit")

    monkeypatch.setattr("dj_queue.runtime.worker.claim", answer_lost)
    with pytest.raises(OperationalError):
        worker.poll()
    before = states(db)
    monkeypatch.setattr("dj_queue.runtime.worker.claim", lambda *args, **kwargs: [])
    worker.poll()

    assert before == {job.id: ["claimed"] for job in jobs}
    assert states(db) == {job.id: ["ready"] for job in jobs}


def test_a_worker_that_cannot_start_its_threads_claims_nothing(db, make_worker, monkeypatch):
    worker = make_worker(threads=2)
    [job] = store(db)

    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    with pytest.raises(RuntimeError):
        worker.poll()

    assert states(db) == {job.id: ["ready"]}


def test_a_nudge_during_a_claim_is_not_forgotten(db, make_worker, monkeypatch):
    worker = make_worker(threads=2)
    assert worker.poll() == INTERVAL

    def nudged(*args: Any, **kwargs: Any) -> list[ClaimedExecution]:
        claimed = claim(*args, **kwargs)
        worker.nudge()
        return claimed

    monkeypatch.setattr("dj_queue.runtime.worker.claim", nudged)
    worker.poll()
    monkeypatch.setattr("dj_queue.runtime.worker.claim", claim)

    assert worker.wake.is_set()
    assert worker.poll() == QUICK_SECONDS


def test_a_worker_that_was_given_up_starts_nothing_that_it_had_claimed(db, make_worker, events):
    # Its claims went to others while it was stopped; what waits for a thread is not its own. If it
    # is nobody else's either, as one claimed at that moment, others may have it.
    worker = make_worker(threads=1)
    store(db, count=300)
    worker.warm_up()
    store(db, count=5, **SLOW)
    ARRIVED.clear()
    worker.look(after=0.001)
    until(ARRIVED.is_set)
    waiting_count = worker.waiting_count

    worker.registration.begin_again()
    GATE.set()
    until(lambda: not worker.is_busy)

    assert waiting_count == 4
    assert [name for name, _ in events()].count("claim_lost") == 4
    until(lambda: not worker.finisher.pending_count)
    assert not worker.ledger.unstarted.claims
    assert counts(db)["ready"] == 4


def test_what_was_about_to_start_when_the_worker_was_closed_had_not_started(db, monkeypatch):
    # Marked in the ledger already, and never given back: whoever recovers it has to know.
    options = WorkerOptions(threads=1)
    worker = Worker(registered(db, options), options, Finisher(db))
    pool = worker._crews[0].pool
    store(db)
    [row] = claim(db, ["*"], limit=1, process_id=worker.registration.id, now=NOW)
    worker.ledger.enter([row])
    is_marked, is_closed = Event(), Event()
    start, tell_to_end = worker.ledger.start, pool._tell_to_end

    def mark_and_wait(each):
        start(each)
        if not is_marked.is_set():
            is_marked.set()
            assert is_closed.wait(20)

    def tell_to_end_after_the_look():
        is_closed.set()
        tell_to_end()

    monkeypatch.setattr(worker.ledger, "start", mark_and_wait)
    monkeypatch.setattr(pool, "_tell_to_end", tell_to_end_after_the_look)
    monkeypatch.setattr(worker.finisher, "hand_back", lambda rows, ledger: None)
    pool.start()
    pool.put([row])
    assert is_marked.wait(20)

    assert worker.close() == 0

    assert row in worker.ledger.unstarted


def test_nothing_is_started_while_the_heartbeat_is_overdue(db, make_worker, monkeypatch):
    # Stopped and continued: whether its claims still hold, it learns with the next heartbeat.
    worker = make_worker(threads=1)
    registration, clock = worker.registration, [0.0]
    monkeypatch.setattr(registration, "_clock", lambda: clock[0])
    jobs = store(db)

    clock[0] = 1e9
    worker.poll()
    time.sleep(0.2)  # Long enough for a thread to start it.
    before = states(db)
    registration.confirm(asked_at=1e9)

    until(lambda: states(db) == {job.id: ["finished"] for job in jobs})
    assert before == {job.id: ["claimed"] for job in jobs}


def test_an_idle_worker_looks_once_per_polling_interval(make_worker, claims):
    worker = make_worker(threads=2)

    delays = [worker.poll() for _ in range(4)]

    assert (delays, claims) == ([INTERVAL] * 4, [2] * 4)


def test_after_work_was_found_pauses_grow_from_quick_to_the_polling_interval(db, make_worker):
    worker = make_worker(threads=2)
    store(db)

    delays = []
    for _ in range(7):
        delays.append(worker.look(after=1))
        until(lambda: not worker.is_busy)

    grown = [QUICK_SECONDS * 2**power for power in range(5)]
    assert delays == [*grown, INTERVAL, INTERVAL]


def test_a_nudge_makes_the_worker_look_at_once_and_soon_again(make_worker):
    worker = make_worker(threads=2)
    assert [worker.poll() for _ in range(2)] == [INTERVAL] * 2
    worker.wake.clear()

    worker.nudge()

    assert worker.wake.is_set()
    assert [worker.poll() for _ in range(3)] == [
        QUICK_SECONDS,
        2 * QUICK_SECONDS,
        4 * QUICK_SECONDS,
    ]


def test_a_full_claim_that_left_nothing_waiting_is_followed_by_another(
    db, make_worker, monkeypatch
):
    worker = make_worker(threads=2)
    put = worker._crews[0].pool.put

    def put_and_start(rows):
        was_put = put(rows)
        until(lambda: not worker.waiting_count)
        return was_put

    monkeypatch.setattr(worker._crews[0].pool, "put", put_and_start)
    store(db, count=3, **SLOW)

    assert worker.look(after=1) == 0
    assert worker.look(after=1) == LOOK_SECONDS


def test_the_end_of_a_job_wakes_a_worker_that_knows_of_more(db, make_worker):
    worker = make_worker(threads=2)
    store(db, count=3, **SLOW)
    worker.look(after=1)
    until(lambda: worker.running_count == 2)
    assert not worker.wake.is_set()

    GATE.set()

    until(worker.wake.is_set)


def test_the_end_of_the_last_job_wakes_nobody(db, make_worker):
    worker = make_worker(threads=2)
    store(db)

    worker.look(after=1)
    until(lambda: not worker.is_busy)

    assert not worker.wake.is_set()


def test_one_thread_starts_jobs_in_claim_order(db, make_worker, monkeypatch):
    started = []

    def noted(db: QueueDatabase, row: ClaimedExecution, **kwargs: Any) -> Any:
        started.append(row.job_id)
        return execute(db, row, **kwargs)

    monkeypatch.setattr("dj_queue.runtime.worker.execute", noted)
    jobs = store(db, count=2_000)
    worker = make_worker(threads=1)
    worker._crews[0].prefetch = Prefetching(1)

    worker.start()
    until(lambda: len(started) == 2_000)
    worker.stop()
    worker.join(30)

    assert started == [job.id for job in jobs]


def test_no_job_may_start_while_the_ledger_says_that_its_claim_has_not(
    db, make_worker, monkeypatch
):
    # Killed just then, a job that runs would be taken for one that never started.
    worker, seen = make_worker(threads=1), []
    rows = store(db)
    put = worker._crews[0].pool.put

    def watched(claimed):
        unstarted = worker.ledger.unstarted
        seen.append((unstarted.tokens, {job_id for job_id, _ in unstarted.claims}))
        return put(claimed)

    monkeypatch.setattr(worker._crews[0].pool, "put", watched)
    worker.poll()

    assert seen == [(frozenset(), {rows[0].id})]
