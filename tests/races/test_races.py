"""Who deletes the row owns the transition: real connections at the same moment."""

from datetime import timedelta

import pytest

from dj_queue.models import ClaimedExecution, ReadyExecution
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim
from dj_queue.operations.dispatch import dispatch_due
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.operations.retry import retry
from dj_queue.operations.transitions import in_transaction, move, state_of
from tests.jobs import EVERY, ME, NOW, build, counts, ids, states, store
from tests.races.together import together

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


def test_many_connections_claim_each_of_10000_jobs_exactly_once(db, vendor_by_alias):
    # SQLite has one writer at a time: two connections make all the contention there is.
    connection_count = 2 if vendor_by_alias[db.alias] == "sqlite" else 8
    jobs = [build(db, queue_name=f"q{n % 3}", priority=n % 5) for n in range(10_000)]
    enqueue(db, jobs, now=NOW)

    def worker() -> list:
        process_id, mine = new_id(), []
        while True:
            batch = claim(db, ["q1", "*"], limit=23, process_id=process_id, now=NOW)
            mine += [(row.job_id, process_id) for row in batch]
            # An empty claim may only mean that the others hold the rest at this moment.
            if not batch and not db.objects(ReadyExecution).exists():
                return mine

    claims = [each for mine in together([worker] * connection_count) for each in mine]

    assert sorted(job_id for job_id, _ in claims) == sorted(job.id for job in jobs)
    held = db.objects(ClaimedExecution).values_list("job_id", "process_id")
    assert sorted(held) == sorted(claims)
    assert counts(db) == {"claimed": 10_000}


def test_claims_run_while_jobs_are_enqueued(db):
    # An empty locking read must not keep the next enqueue out (gap locks).
    def producer() -> int:
        for _ in range(100):
            store(db)
        return 100

    def consumer() -> int:
        taken = 0
        while taken < 100:
            taken += len(claim(db, ["*"], limit=5, process_id=ME, now=NOW))
        return taken

    assert together([producer, consumer]) == [100, 100]
    assert counts(db) == {"claimed": 100}


def test_finish_and_recovery_at_once_leave_each_job_with_one_of_them(db):
    # Both want the same claims: finish by token, recovery by id, in opposite order.
    store(db, count=60)
    claimed = claim(db, ["*"], limit=60, process_id=ME, now=NOW)
    outcomes = [execute(db, row, clock=lambda: NOW) for row in claimed]

    def finishing() -> list:
        return [
            done.claimed.job_id
            for start in range(0, 60, 6)
            for done in finish(db, outcomes[start : start + 6])
        ]

    def recovering() -> list:
        back = []
        for row in reversed(claimed):
            taken = in_transaction(
                db,
                lambda held=row: move(
                    db, ClaimedExecution, [held.job_id], lambda old: [state_of(ReadyExecution, old)]
                ),
            )
            back += [each.job_id for each in taken]
        return back

    finished, recovered = together([finishing, recovering])

    assert sorted(finished + recovered) == sorted(ids(db))
    expected = {job_id: ["finished"] for job_id in finished}
    expected |= {job_id: ["ready"] for job_id in recovered}
    assert states(db) == expected


def test_the_same_outcomes_recorded_twice_at_once_are_recorded_once(db):
    store(db, count=50)
    claimed = claim(db, ["*"], limit=50, process_id=ME, now=NOW)
    outcomes = [execute(db, row, clock=lambda: NOW) for row in claimed]

    recorded = together(
        [lambda: len(finish(db, outcomes)), lambda: len(finish(db, outcomes[::-1]))]
    )

    assert sum(recorded) == 50
    assert counts(db) == {"finished": 50}


def test_two_dispatchers_share_the_due_jobs(db):
    soon = NOW + timedelta(minutes=1)
    enqueue(db, [build(db, run_after=soon) for _ in range(300)], now=NOW)

    def dispatcher() -> int:
        return sum(dispatch_due(db, now=soon, limit=20) for _ in range(15))

    moved = together([dispatcher, dispatcher])

    assert sum(moved) + dispatch_due(db, now=soon, limit=300) == 300
    assert counts(db) == {"ready": 300}


def test_retrying_twice_at_once_makes_one_attempt(db):
    store(db, count=20, task_path="tests.shop.tasks.fail", args=["x"])
    claimed = claim(db, ["*"], limit=20, process_id=ME, now=NOW)
    finish(db, [execute(db, row, clock=lambda: NOW) for row in claimed])
    failed = ids(db)

    retried = together([lambda: retry(db, failed), lambda: retry(db, failed[::-1])])

    assert sum(retried) == 20
    assert counts(db) == {"ready": 20}
    assert set(db.objects(ReadyExecution).values_list("attempt", flat=True)) == {2}
