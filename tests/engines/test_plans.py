"""Plans: what a claim and its like read does not depend on how many jobs there are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.management.color import no_style

from dj_queue.engines import engine_for
from dj_queue.models import (
    ClaimedExecution,
    FinishedExecution,
    Job,
    ReadyExecution,
    ScheduledExecution,
    state_of,
)
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim, give_back
from dj_queue.operations.dispatch import dispatch_due
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.pauses import pause
from dj_queue.results import load_result
from dj_queue.routers import QueueDatabase, queue_database
from tests.engines.reading import BIG, cost_of, faults_of, undone
from tests.jobs import EVERY, LATER, ME, NOW, build

pytestmark = pytest.mark.django_db(**EVERY)

FEW, MANY = 1_000, 100_000
LIMIT = 10  # so that every queue of the small backlog has twice as many, too
EXACT = [f"q{number:02d}" for number in range(20)]
OPEN = [*EXACT, "crit", "mail-in", "mail-out"]
NONE = [f"none-{name}" for name in EXACT]
PAUSED = ["bulk-a", "bulk-b"]
"""They have half of the jobs, of higher priority than all others."""
TOKEN = new_id()
Work = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """What is done, and what it gives, while some queues are paused."""

    prepared: Callable[[QueueDatabase], Work]
    gives: Any
    paused: Sequence[str] = ()
    needs_statistics: bool = False

    def work(self, db: QueueDatabase) -> Work:
        """Give what to watch; needs a transaction, to be rolled back."""
        pause(db, self.paused, now=NOW)
        return self.prepared(db)


def claiming(*selectors: str, limit: int = LIMIT) -> Callable[[QueueDatabase], Work]:
    def prepared(db: QueueDatabase) -> Work:
        def work() -> list[str]:
            rows = claim(db, selectors, limit=limit, process_id=ME, now=NOW)
            return [row.queue_name for row in rows]

        return work

    return prepared


def taking(db: QueueDatabase) -> Work:
    ids = list(db.objects(ReadyExecution).values_list("job_id", flat=True)[:LIMIT])

    def work() -> int:
        with db.atomic():
            return len(engine_for(db).take(db, ReadyExecution, ids))

    return work


def finishing(db: QueueDatabase) -> Work:
    times = {"worker_id": ME, "started_at": NOW, "finished_at": NOW, "return_value": None}
    claimed = db.objects(ClaimedExecution)[:LIMIT]
    rows = [state_of(FinishedExecution, row, **times) for row in claimed]
    return lambda: len(engine_for(db).finish(db, rows, [TOKEN] * LIMIT, [0.0] * LIMIT))


def giving_back(db: QueueDatabase) -> Work:
    claimed = list(db.objects(ClaimedExecution)[:LIMIT])
    return lambda: give_back(db, claimed)


def dispatching(db: QueueDatabase) -> Work:
    return lambda: dispatch_due(db, now=NOW, limit=LIMIT)


def asking(db: QueueDatabase) -> Work:
    job_id = db.objects(ReadyExecution).values_list("job_id", flat=True)[0]
    return lambda: load_result(db, job_id).status.name


CASES = {
    "any": Case(claiming("*"), PAUSED * 5),
    "many of any": Case(claiming("*", limit=10 * LIMIT), PAUSED * 50),
    "any beside a pause": Case(claiming("*"), EXACT[:LIMIT], paused=PAUSED),
    "exact": Case(claiming("q07"), ["q07"] * LIMIT),
    "exact beside a pause": Case(claiming("q07"), ["q07"] * LIMIT, paused=PAUSED),
    "exact that is paused": Case(claiming("bulk-a"), [], paused=PAUSED),
    "20 exact": Case(claiming(*EXACT), ["q00"] * LIMIT),
    "20 exact without jobs, one with": Case(claiming(*NONE, "q07"), ["q07"] * LIMIT),
    "prefix": Case(claiming("mail-*"), ["mail-in", "mail-out"] * 5),
    "prefix beside a pause": Case(claiming("q1*"), EXACT[10:], paused=PAUSED),
    "prefix that is paused": Case(claiming("bulk-*"), [], paused=PAUSED),
    "exact, any": Case(claiming("crit", "*"), ["crit"] * LIMIT),
    "exact, any beside a pause": Case(claiming("crit", "*"), ["crit"] * LIMIT, paused=PAUSED),
    "all that is paused, any": Case(claiming(*PAUSED, "*"), EXACT[:LIMIT], paused=PAUSED),
    "any while all are paused": Case(claiming("*"), [], paused=[*OPEN, *PAUSED]),
    "prefix while all are paused": Case(claiming("q*", "*"), [], paused=[*OPEN, *PAUSED]),
    "paused, any": Case(claiming("bulk-a", "*"), EXACT[:LIMIT], paused=PAUSED),
    "take": Case(taking, LIMIT),
    "finish": Case(finishing, LIMIT),
    "give back": Case(giving_back, LIMIT),
    # PostgreSQL may guess that few jobs are due, and sort them all.
    "dispatch": Case(dispatching, LIMIT, needs_statistics=True),
    "result": Case(asking, "READY"),
}
# A claim looks at twice its limit in each queue at the most, and some times at the best of these.
MOST_ROWS = 3 * LIMIT * (len(OPEN + PAUSED) + 1)
STEPS = {"sqlite": 30}  # it picks the same rows three times, to insert, to read, to delete
"""What a row takes, where steps are counted."""


@pytest.fixture(scope="module")
def few_costs(
    django_db_setup: None, django_db_blocker: Any, vendor_by_alias: dict[str, str]
) -> Iterator[dict[QueueDatabase, dict[str, int]]]:
    """Store the jobs; give what each case cost when they were few."""
    is_mixed = vendor_by_alias["queue"] != vendor_by_alias["bulk"]
    databases = [queue_database(name) for name in ("default", "bulk")[: 1 + is_mixed]]
    costs: dict[QueueDatabase, dict[str, int]] = {db: {} for db in databases}
    with django_db_blocker.unblock():
        try:
            for db in databases:
                fill(db, range(FEW))
                for name, case in CASES.items():
                    with undone(db):
                        costs[db][name] = cost_of(db, case.work(db))
                fill(db, range(FEW, MANY))
            yield costs
        finally:
            for db in databases:
                empty(db)


@pytest.fixture(
    scope="module",
    params=["without statistics", "statistics of no rows", "with statistics"],
    autouse=True,
)
def statistics(
    request: pytest.FixtureRequest,
    few_costs: dict[QueueDatabase, Any],
    django_db_blocker: Any,
) -> bool:
    """Let the optimizer know the rows only after it had to guess; tell whether it knows."""
    with django_db_blocker.unblock():
        for db in few_costs:
            if request.param == "with statistics":
                analyze(db)
            elif request.param == "statistics of no rows":
                if db.vendor != "postgresql":
                    pytest.skip("needs statistics that outlive rows: this database takes new ones")
                know_of_no_rows(db)
    return request.param == "with statistics"


def fill(db: QueueDatabase, numbers: range) -> None:
    """Store ready jobs, and a tenth as many that are scheduled or claimed."""
    for start in range(0, len(numbers), 5_000):
        slice_ = numbers[start : start + 5_000]
        enqueue(db, [job(db, number) for number in slice_], now=NOW)
        # No job: theirs is not read here. All are due at once, half of them now.
        twins = [build(db, queue_name="elsewhere") for _ in slice_[::10]]
        times = [LATER if place % 2 else NOW for place, _ in enumerate(twins)]
        held = {"process_id": ME, "claim_token": TOKEN, "claimed_at": NOW}
        with db.atomic():
            engine = engine_for(db)
            engine.insert(db, [state_of(ClaimedExecution, twin, **held) for twin in twins])
            scheduled = zip(twins, times, strict=True)
            engine.insert(
                db, [state_of(ScheduledExecution, twin, run_after=at) for twin, at in scheduled]
            )


def job(db: QueueDatabase, number: int) -> Job:
    """Build the job of that number: each queue gets its share, and some of each priority."""
    place = number // 2
    if number % 2:
        return build(db, queue_name=PAUSED[place % 2], priority=50 + place % 3)
    return build(db, queue_name=OPEN[place % len(OPEN)], priority=place // len(OPEN) % 7)


def analyze(db: QueueDatabase) -> None:
    with db.cursor() as cursor:
        if db.vendor == "mysql":
            cursor.execute(f"ANALYZE TABLE {', '.join(BIG)}")
        else:
            cursor.execute("ANALYZE")


def know_of_no_rows(db: QueueDatabase) -> None:
    """Take PostgreSQL's statistics as autovacuum may, when a long queue has just been drained.

    The pages are there, no row is: until it comes again the planner expects none, however many are
    enqueued. It counts outside the transaction, so that the rollback brings the rows back only.
    """
    with undone(db), db.cursor() as cursor:
        for table in BIG:
            cursor.execute(f"DELETE FROM {table}")
        cursor.execute(f"ANALYZE {', '.join(BIG)}")


def empty(db: QueueDatabase) -> None:
    """Leave no row, and no statistics where they would stay."""
    operations = db.connection.ops
    operations.execute_sql_flush(operations.sql_flush(no_style(), BIG))
    with db.cursor() as cursor:
        for table in ("sqlite_stat1", "sqlite_stat4") if db.vendor == "sqlite" else ():
            cursor.execute(f"DROP TABLE IF EXISTS {table}")


@pytest.mark.parametrize("name", CASES)
def test_rows_are_found_by_index_and_are_not_sorted(db, name):
    work = CASES[name].work(db)

    assert faults_of(db, work) == []


@pytest.mark.parametrize("name", CASES)
def test_a_hundred_times_as_many_jobs_cost_the_same(db, few_costs, name, statistics):
    if CASES[name].needs_statistics and not statistics:
        pytest.skip("needs statistics: the plan is a guess, and may be another one")
    work = CASES[name].work(db)

    cost = cost_of(db, work)

    assert cost <= 2 * few_costs[db][name]
    assert cost <= MOST_ROWS * STEPS.get(db.vendor, 1)
    assert work() == CASES[name].gives


def test_a_claim_from_a_paused_queue_costs_next_to_nothing(db):
    one, none = (CASES[name].work(db) for name in ("exact", "exact that is paused"))

    assert cost_of(db, none) <= cost_of(db, one) / 2
