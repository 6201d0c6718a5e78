"""Claims beside pauses and with several selectors: real connections at the same moment."""

from collections.abc import Callable
from threading import Event
from typing import Any
from uuid import UUID

import pytest

from dj_queue.models import ClaimedExecution, ReadyExecution
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.pauses import pause, resume
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY, ME, NOW, build, counts, states, store
from tests.races.together import together

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

COUNT = 3_000
QUEUES = ("mail-in", "mail-out", "crit", "rest", "bulk")


@pytest.fixture
def connection_count(db: QueueDatabase, vendor_by_alias: dict[str, str]) -> int:
    # SQLite has one writer at a time: two connections make all the contention there is.
    return 2 if vendor_by_alias[db.alias] == "sqlite" else 6


def fill(db: QueueDatabase) -> list[UUID]:
    """Store jobs in all queues; return the ids of those outside of bulk."""
    jobs = [
        build(db, queue_name=QUEUES[n % 5], priority=99 if n % 5 == 4 else n % 3)
        for n in range(COUNT)
    ]
    enqueue(db, jobs, now=NOW)
    return [job.id for job in jobs if job.queue_name != "bulk"]


def claimer(db: QueueDatabase, selectors: list[str]) -> Callable[[], list[UUID]]:
    """Claim until nothing that is wanted is ready any more."""

    def work() -> list[UUID]:
        mine: list[UUID] = []
        while True:
            rows = claim(db, selectors, limit=17, process_id=new_id(), now=NOW)
            mine += [row.job_id for row in rows]
            # An empty claim may only mean that the others hold the rest at this moment.
            if not rows and not db.objects(ReadyExecution).exclude(queue_name="bulk").exists():
                return mine

    return work


@pytest.mark.parametrize(
    "selectors",
    [["*"], ["mail-*", "*"], ["crit", "rest", "mail-*"], ["rest", "bulk", "crit", "mail-*"]],
    ids=" ".join,
)
def test_claims_beside_a_pause_take_each_job_once_and_none_of_it(db, connection_count, selectors):
    # All start at once, on the same best rows, and fight for the last ones.
    wanted = fill(db)
    pause(db, ["bulk"], now=NOW)

    claimed = together([claimer(db, selectors)] * connection_count)

    assert sorted(job_id for mine in claimed for job_id in mine) == sorted(wanted)
    assert counts(db) == {"claimed": len(wanted), "ready": COUNT - len(wanted)}
    assert not db.objects(ClaimedExecution).filter(queue_name="bulk").exists()


def test_workers_with_unlike_selectors_take_each_job_once(db, connection_count):
    # They lock the same rows in different orders: each by its own selectors.
    wanted = fill(db)
    pause(db, ["bulk"], now=NOW)
    each = [["*"], ["rest", "crit", "*"], ["mail-*", "rest", "crit"], ["crit", "*"]]
    each += [["mail-out", "mail-in", "rest", "crit"], ["m*", "r*", "c*"]]

    claimed = together([claimer(db, selectors) for selectors in each[:connection_count]])

    assert sorted(job_id for mine in claimed for job_id in mine) == sorted(wanted)
    assert counts(db) == {"claimed": len(wanted), "ready": COUNT - len(wanted)}


def test_queues_paused_and_resumed_all_the_time_lose_no_job(db, connection_count):
    # A claim looks at the pauses more than once: what it saw first may be over.
    wanted, done = fill(db), Event()
    pause(db, ["bulk"], now=NOW)

    def waverer() -> list[UUID]:
        while not done.is_set():
            pause(db, ["mail-in", "crit"], now=NOW)
            resume(db, ["mail-in", "crit"])
        return []

    def worker() -> list[UUID]:
        try:
            return claimer(db, ["crit", "*"])()
        finally:
            done.set()

    claimed = together([waverer, *[worker] * (connection_count - 1)])

    assert sorted(job_id for mine in claimed for job_id in mine) == sorted(wanted)
    assert not db.objects(ClaimedExecution).filter(queue_name="bulk").exists()


@pytest.mark.parametrize("selectors", [["*"], ["late"], ["la*"], ["late", "*"], ["first", "late"]])
def test_a_pause_between_look_and_lock_keeps_its_queue_from_being_claimed(db, selectors):
    # Another connection pauses the queue when the claim has seen jobs in it, and has not locked
    # one. Where the claim is one statement that lies before it.
    jobs = store(db, count=3, queue_name="late")
    looks: list[str] = []

    def look_then_pause(execute: Callable[..., Any], *call: Any) -> Any:
        result = execute(*call)
        if call[0].split()[0] in ("SELECT", "WITH", "BEGIN") and not looks:
            looks.append(call[0])
            together([lambda: pause(db, ["late"], now=NOW)])
        return result

    with db.connection.execute_wrapper(look_then_pause):
        claimed = claim(db, selectors, limit=5, process_id=ME, now=NOW)

    assert len(looks) == 1
    if db.vendor == "postgresql":
        assert len(claimed) == 3
    else:
        assert (claimed, states(db)) == ([], {job.id: ["ready"] for job in jobs})
    assert claim(db, selectors, limit=5, process_id=ME, now=NOW) == []
