"""What a worker with `concurrency` claims for its threads and its loop, a poll at a time."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dj_queue.conf import WorkerOptions
from dj_queue.models import Job, ReadyExecution
from dj_queue.routers import QueueDatabase
from dj_queue.runtime.crews import PROBE_SECONDS, Mixture
from dj_queue.runtime.finisher import Finisher
from dj_queue.runtime.worker import Worker
from tests.jobs import EVERY, counts, store
from tests.runtime.units import end, registered
from tests.shop import coroutines
from tests.shop.tasks import GATE
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

FUNCTION = {"task_path": "tests.shop.tasks.wait_at_gate", "args": []}


def coroutine(name: str, *args: Any) -> dict[str, Any]:
    return {"task_path": f"tests.shop.coroutines.{name}", "args": list(args)}


class Watched(Worker):
    """A worker that a test polls itself, with a clock for its curiosity."""

    def __init__(self, db: QueueDatabase, threads: int, concurrency: int) -> None:
        options = WorkerOptions(threads=threads, concurrency=concurrency, polling_interval=0.1)
        super().__init__(registered(db, options), options, Finisher(db))
        self.now = 0.0
        self._mixture = Mixture(clock=lambda: self.now)

    @property
    def running_counts(self) -> list[int]:
        return [crew.running_count for crew in self._crews]

    @property
    def waiting_counts(self) -> list[int]:
        return [crew.waiting_count for crew in self._crews]

    def look(self, after: float = 0.0) -> None:
        """Poll once more, so many seconds later, and let what was claimed begin."""
        self.now += after
        self.poll()
        until(lambda: not self.finisher.pending_count)


@pytest.fixture
def make_worker(db: QueueDatabase) -> Iterator[Callable[..., Watched]]:
    GATE.clear()
    coroutines.AT_GATE.clear()
    workers: list[Watched] = []

    def make(threads: int = 2, concurrency: int = 10) -> Watched:
        workers.append(Watched(db, threads, concurrency))
        workers[-1].finisher.start()
        return workers[-1]

    yield make
    GATE.set()
    for worker in workers:
        end(worker)


def test_busy_threads_do_not_hoard_functions_for_the_loops_sake(db, make_worker):
    worker = make_worker(threads=2, concurrency=10)
    store(db, count=50, **FUNCTION)

    for _ in range(20):
        worker.look(after=PROBE_SECONDS / 4)

    assert (worker.running_counts, worker.waiting_counts) == ([2, 0], [0, 0])
    assert counts(db) == {"claimed": 2, "ready": 48}


def test_a_full_loop_does_not_hoard_coroutines_for_the_threads_sake(db, make_worker):
    worker = make_worker(threads=2, concurrency=10)
    store(db, count=50, **coroutine("wait"))

    for _ in range(20):
        worker.look(after=PROBE_SECONDS / 4)
    until(lambda: len(coroutines.AT_GATE) == 10)

    assert (worker.running_counts, worker.waiting_counts) == ([0, 10], [0, 0])
    assert counts(db) == {"claimed": 10, "ready": 40}


def test_of_a_mixed_queue_each_crew_gets_what_it_has_room_for(db, make_worker):
    worker = make_worker(threads=2, concurrency=5)
    for _ in range(20):
        store(db, **FUNCTION)
        store(db, **coroutine("wait"))

    for _ in range(40):
        worker.look(after=PROBE_SECONDS)

    # Behind more functions than one it sees no coroutine while its threads are busy.
    functions, running = worker.running_counts
    assert (functions, worker.waiting_counts) == (2, [0, 0])
    assert 2 <= running <= 5
    assert counts(db) == {"claimed": 2 + running, "ready": 38 - running}


def test_coroutines_are_claimed_in_ever_larger_batches(db, make_worker, claims):
    worker = make_worker(threads=2, concurrency=100)
    store(db, count=500, **coroutine("colour", "red"))

    while db.objects(ReadyExecution).exists():
        worker.look()
        until(lambda: not worker.is_busy)

    assert claims[:5] == [2, 4, 8, 16, 32]
    assert len(claims) <= 12


def test_a_worker_without_concurrency_asks_for_its_threads_only(db, make_worker, claims):
    worker = make_worker(threads=2, concurrency=0)
    store(db, count=5, **coroutine("colour", "red"))

    worker.look()

    assert (claims, len(worker._crews)) == ([2], 1)


def test_nothing_is_started_while_the_heartbeat_is_overdue(db, make_worker, monkeypatch):
    worker = make_worker()
    registration, clock = worker.registration, [0.0]
    monkeypatch.setattr(registration, "_clock", lambda: clock[0])
    store(db, **coroutine("wait"))
    GATE.set()

    clock[0] = 1e9
    worker.poll()
    time.sleep(0.1)  # Long enough for a coroutine to start.
    before = (list(coroutines.AT_GATE), counts(db))
    registration.confirm(asked_at=1e9)

    until(lambda: counts(db) == {"finished": 1})
    assert before == ([], {"claimed": 1})


def test_a_worker_that_was_given_up_starts_no_coroutine_that_it_had_claimed(
    db, make_worker, events
):
    worker = make_worker()
    store(db, **coroutine("wait"))
    registration = worker.registration
    registration._good_until = -1.0
    worker.poll()

    registration.begin_again()
    registration.confirm(asked_at=0.0)
    until(lambda: not worker.is_busy)

    assert [name for name, _ in events()] == ["claim_lost"]
    assert coroutines.AT_GATE == []
    # It is nobody else's here, so that others may have it.
    until(lambda: counts(db) == {"ready": 1})


def test_a_module_counts_as_started_while_it_is_imported(db, make_worker, monkeypatch):
    # Else a module that ends the process would do so again in the next one, for ever.
    worker, unstarted = make_worker(), []
    [first, second] = store(db, count=2, task_path="tests.shop.not_imported.task", args=[])

    def importing(job: Job) -> bool:
        unstarted.append(worker.ledger.unstarted)
        return False

    monkeypatch.setattr("dj_queue.runtime.worker.is_coroutine", importing)
    worker.poll()
    until(lambda: counts(db) == {"failed": 2})

    assert [each.tokens for each in unstarted] == [frozenset()] * 2
    assert [[job_id for job_id, _ in each.claims] for each in unstarted] == [
        [second.id],
        [first.id],
    ]
