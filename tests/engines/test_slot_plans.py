"""Plans: what handing on a slot reads does not depend on how many jobs wait."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from django.core.management.color import no_style

from dj_queue.engines import engine_for
from dj_queue.engines.claims import Heir, Holder
from dj_queue.models import (
    BlockedExecution,
    ClaimedExecution,
    Job,
    ReadyExecution,
    Semaphore,
    Slot,
    state_of,
)
from dj_queue.models.ids import new_id
from dj_queue.operations.slots import settle
from dj_queue.routers import QueueDatabase, queue_database
from tests.engines.reading import BIG, cost_of
from tests.jobs import EVERY, LATER, ME, NOW, build

pytestmark = pytest.mark.django_db(**EVERY)

FEW, MANY = 100, 10_000
"""Keys with a holder and a job that waits; another key has as many that wait."""


def fill(db: QueueDatabase, numbers: range) -> None:
    rule = {"concurrency_limit": 1, "concurrency_seconds": 60}
    for start in range(0, len(numbers), 2_000):
        slice_ = numbers[start : start + 2_000]
        holders = [build(db, concurrency_key=f"k{n:06d}", **rule) for n in slice_]
        waiting = [build(db, concurrency_key=f"k{n:06d}", **rule) for n in slice_]
        waiting += [build(db, concurrency_key="hot", **rule) for _ in slice_]
        held = {"process_id": ME, "claim_token": ME, "claimed_at": NOW}
        engine = engine_for(db)
        with db.atomic():
            engine.insert(db, [*holders, *waiting])
            engine.insert(db, [state_of(ClaimedExecution, job, **held) for job in holders])
            engine.insert(db, [Slot(job.id, job.concurrency_key) for job in holders])
            engine.insert(db, [Semaphore(str(job.concurrency_key), 1, LATER) for job in holders])
            engine.insert(db, [blocked(job) for job in waiting])
            # Of other backends, so that an heir goes before nobody.
            others = QueueDatabase(alias=db.alias, backend="another")
            ready = [state_of(ReadyExecution, build(others)) for _ in slice_]
            engine.insert(db, ready)


def blocked(job: Job) -> BlockedExecution:
    return state_of(
        BlockedExecution,
        job,
        concurrency_key=job.concurrency_key,
        concurrency_limit=1,
        concurrency_seconds=60,
        expires_at=LATER,
    )


def hold_hot(db: QueueDatabase) -> None:
    holder = build(db, concurrency_key="hot", concurrency_limit=1, concurrency_seconds=60)
    with db.atomic():
        engine_for(db).insert(db, [holder, Slot(holder.id, "hot"), Semaphore("hot", 1, LATER)])


def handing_on(db: QueueDatabase, keys: Sequence[str], room: int) -> Callable[[], tuple[int, int]]:
    ended = dict(db.objects(Slot).filter(key__in=keys).values_list("pk", "key"))
    heir = Heir(Holder(ME, new_id(), NOW), frozenset({"default"}), room)

    def work() -> tuple[int, int]:
        with db.atomic():
            handed = settle(db, ended.values(), now=NOW, ended=ended, heir=heir)
        return handed.count, len(handed.inherited)

    return work


CASES = {"one key": (["hot"], 1), "ten keys": ([f"k{number:06d}" for number in range(10)], 3)}
"""The keys, and the room of their heir."""


@pytest.fixture(scope="module")
def few_costs(
    django_db_setup: None, django_db_blocker: Any, vendor_by_alias: dict[str, str]
) -> Iterator[dict[QueueDatabase, dict[str, int]]]:
    """Store the jobs; give what each case cost when they were few."""
    is_mixed = vendor_by_alias["queue"] != vendor_by_alias["bulk"]
    databases = [queue_database(name) for name in ("default", "bulk")[: 1 + is_mixed]]
    costs: dict[QueueDatabase, dict[str, int]] = {}
    with django_db_blocker.unblock():
        try:
            for db in databases:
                hold_hot(db)
                fill(db, range(FEW))
                costs[db] = {
                    name: cost_of(db, handing_on(db, *case)) for name, case in CASES.items()
                }
                fill(db, range(FEW, MANY))
            yield costs
        finally:
            for db in databases:
                flush = db.connection.ops.sql_flush(no_style(), BIG)
                db.connection.ops.execute_sql_flush(flush)


@pytest.mark.parametrize("name", CASES)
def test_a_hundred_times_as_many_that_wait_cost_the_same(db, few_costs, name):
    keys, room = CASES[name]
    work = handing_on(db, keys, room)

    assert cost_of(db, work) <= 2 * few_costs[db][name]
    assert work() == (len(keys), room)
