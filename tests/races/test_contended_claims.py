"""Claims beside others that hold the best rows: a second connection keeps these locked."""

from collections.abc import Callable
from threading import Event
from typing import Any
from uuid import UUID

import pytest

from dj_queue.engines import engine_for
from dj_queue.models import ReadyExecution
from dj_queue.operations.claim import claim
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.pauses import pause
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY, ME, NOW, build, store
from tests.races.together import together

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

LIMIT = 2
SELECTORS = [["mail-*"], ["mail-*", "*"], ["*"], ["none", "*"], ["mail-a", "mail-b"]]


@pytest.fixture(autouse=True)
def needs_row_locks(db: QueueDatabase) -> None:
    if not db.connection.features.has_select_for_update_skip_locked:
        pytest.skip("needs row locks that can be skipped: this database has one lock for all")


def fill(db: QueueDatabase) -> list[UUID]:
    """Store ten jobs in each of two queues beside a paused one; return theirs in claim order."""
    jobs = [
        build(db, queue_name=f"mail-{'ab'[n % 2]}", priority=-(n // 2) if n < 18 else -n)
        for n in range(20)
    ]
    enqueue(db, jobs, now=NOW)
    store(db, count=30, queue_name="paused", priority=99)
    pause(db, ["paused"], now=NOW)
    return [job.id for job in jobs]


def beside(db: QueueDatabase, hold: Callable[[], Any], work: Callable[[], Any]) -> Any:
    """Do the work while another connection's transaction, in which `hold` was called, is open."""
    held, done = Event(), Event()

    def holder() -> None:
        with db.atomic():
            hold()
            held.set()
            assert done.wait(20)

    def worker() -> Any:
        assert held.wait(20)
        try:
            return work()
        finally:
            done.set()

    return together([holder, worker])[1]


def claimed(db: QueueDatabase, selectors: list[str], limit: int = LIMIT) -> list[UUID]:
    return [row.job_id for row in claim(db, selectors, limit=limit, process_id=ME, now=NOW)]


@pytest.mark.parametrize("held_count", [LIMIT, 9, 19])
@pytest.mark.parametrize("selectors", SELECTORS, ids=" ".join)
def test_a_claim_is_full_while_enough_rows_are_not_locked(db, selectors, held_count):
    # However many rows the others hold, the best ones first: what is left is claimed.
    order = fill(db)

    def hold() -> None:
        engine_for(db).take(db, ReadyExecution, order[:held_count])

    ours = beside(db, hold, lambda: claimed(db, selectors))

    left = order[held_count:]
    if selectors == ["mail-a", "mail-b"]:
        left.sort(key=lambda job_id: order.index(job_id) % 2)
    assert len(ours) == min(LIMIT, len(left))
    assert ours == [job_id for job_id in left if job_id in ours]


@pytest.mark.parametrize("selectors", SELECTORS[:4], ids=" ".join)
def test_the_best_rows_that_are_not_locked_are_claimed_in_order(db, selectors):
    order = fill(db)

    def hold() -> None:
        engine_for(db).take(db, ReadyExecution, [order[0], order[2]])

    assert beside(db, hold, lambda: claimed(db, selectors)) == [order[1], order[3]]


@pytest.mark.parametrize("selectors", SELECTORS, ids=" ".join)
def test_a_claim_locks_no_row_that_it_does_not_take(db, selectors):
    # The other claim is not yet committed, and ours finds every row that it left.
    order = fill(db)
    theirs: list[UUID] = []

    ours = beside(
        db,
        lambda: theirs.extend(claimed(db, selectors, limit=15)),
        lambda: claimed(db, selectors, limit=20),
    )

    assert len(theirs) == 15
    assert sorted(theirs + ours) == sorted(order)


def test_rows_that_are_found_late_come_in_claim_order_too(db):
    # Behind the locked ones of the better queue: they are looked for when the other is done.
    [low] = store(db, queue_name="mail-a")
    high = store(db, count=2 * LIMIT + 1, queue_name="mail-b", priority=5)

    def hold() -> None:
        engine_for(db).take(db, ReadyExecution, [job.id for job in high[:-1]])

    assert beside(db, hold, lambda: claimed(db, ["mail-*"])) == [high[-1].id, low.id]
