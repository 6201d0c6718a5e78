"""Who deletes the row owns the transition: real connections at the same moment."""

from datetime import UTC, datetime, timedelta
from threading import Barrier, Event

import pytest
from django.db import OperationalError

from dj_queue.engines import engine_for
from dj_queue.models import ClaimedExecution, FinishedExecution, ReadyExecution, state_of
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim
from dj_queue.operations.dispatch import dispatch_due
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.operations.prune import prune_ended
from dj_queue.operations.retry import retry
from dj_queue.operations.transitions import in_transaction, move
from tests.jobs import EVERY, ME, NOW, build, counts, ids, in_state, states, store
from tests.races.together import together

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


@pytest.fixture
def needs_row_locks(db):
    if not db.connection.features.has_select_for_update:
        pytest.skip("needs row locks: this database has one lock for all writers")


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


def test_an_empty_claim_keeps_no_enqueue_out(db, needs_row_locks):
    # The claim's transaction is still open when the other connection enqueues: a locking read
    # that found nothing must not have locked the gap.
    claimed, enqueued = Event(), Event()

    def claimer() -> None:
        with db.atomic():
            assert claim(db, ["*"], limit=5, process_id=ME, now=NOW) == []
            claimed.set()
            assert enqueued.wait(20)

    def producer() -> None:
        assert claimed.wait(20)
        store(db)
        enqueued.set()

    together([claimer, producer])

    assert counts(db) == {"ready": 1}


@pytest.mark.parametrize("skip_locked", [True, False])
def test_a_claim_under_way_is_skipped_or_waited_for(db, needs_row_locks, settings, skip_locked):
    own = settings.TASKS[db.backend]
    options = {**own["OPTIONS"], "use_skip_locked": skip_locked}
    settings.TASKS = {**settings.TASKS, db.backend: {**own, "OPTIONS": options}}
    # Few rows: here an optimizer prefers to scan the table, and would meet the others' locks.
    store(db, count=60)
    first_claimed, first_may_commit, second_done = Event(), Event(), Event()

    def first() -> list:
        with db.atomic():
            rows = claim(db, ["*"], limit=5, process_id=ME, now=NOW)
            first_claimed.set()
            # Skipping, the second is done before this one commits; waiting, it cannot be.
            assert second_done.wait(20 if skip_locked else 0.5) is skip_locked
        first_may_commit.set()
        return rows

    def second() -> list:
        assert first_claimed.wait(20)
        rows = claim(db, ["*"], limit=20, process_id=ME, now=NOW)
        second_done.set()
        return rows

    ours, theirs = together([first, second])

    both = [row.job_id for row in [*ours, *theirs]]
    assert (len(ours), len(set(both))) == (5, len(both))
    if skip_locked:
        assert len(theirs) == 20


def test_a_deadlock_is_tried_again(db, needs_row_locks):
    # Each holds the row that the other wants next: one of them is chosen as the victim.
    first, second = (job.id for job in store(db, count=2))
    meeting, other_is_done = Barrier(2), Event()
    rounds = []

    def take(order) -> list:
        tries = []

        def work() -> int:
            tries.append(1)
            if len(tries) > 1:
                # Or it may get the row before the one that has waited for it, and meet it again.
                assert other_is_done.wait(20)
            taken = engine_for(db).take(db, ReadyExecution, order[:1])
            if len(tries) == 1:
                meeting.wait(20)
            return len(taken) + len(engine_for(db).take(db, ReadyExecution, order[1:]))

        total = in_transaction(db, work)
        other_is_done.set()
        rounds.append(len(tries))
        return total

    totals = together([lambda: take([first, second]), lambda: take([second, first])])

    assert sorted(totals) == [0, 2]
    assert sorted(rounds) == [1, 2]


def test_inside_anothers_transaction_nothing_is_tried_again(db, monkeypatch):
    tries = []
    monkeypatch.setattr(type(engine_for(db)), "is_transient", lambda *_: True)

    def work() -> None:
        tries.append(1)
        raise OperationalError("deadlock")

    with pytest.raises(OperationalError), db.atomic():
        in_transaction(db, work)

    assert len(tries) == 1


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


def test_a_dispatcher_takes_the_next_jobs_while_another_holds_the_first(db, needs_row_locks):
    # Both look at the same longest overdue jobs; the first has not committed when the second takes.
    soon, held, passed = NOW + timedelta(minutes=1), Event(), Event()
    enqueue(db, [build(db, run_after=soon) for _ in range(60)], now=NOW)

    def first() -> int:
        with db.atomic():
            count = dispatch_due(db, now=soon, limit=20)
            held.set()
            assert passed.wait(20)
        return count

    def second() -> int:
        assert held.wait(20)
        count = dispatch_due(db, now=soon, limit=20)
        passed.set()
        return count

    assert together([first, second]) == [20, 20]
    assert counts(db) == {"ready": 40, "scheduled": 20}


def test_a_pruner_passes_over_a_row_that_somebody_keeps_locked(db, needs_row_locks):
    kept, _ = in_state(db, FinishedExecution, 2)
    held, passed = Event(), Event()

    def keep() -> int:
        with db.atomic():
            row = db.objects(FinishedExecution).filter(pk=kept.id).select_for_update()
            count = len(row)
            held.set()
            assert passed.wait(20)
        return count

    def prune() -> int:
        assert held.wait(20)
        before = datetime.now(UTC) + timedelta(days=1)
        step = prune_ended(db, FinishedExecution, before=before, after_id=None, limit=10)
        passed.set()
        return step.removed_count

    assert together([keep, prune]) == [1, 1]
    assert states(db) == {kept.id: ["finished"]}


def test_retrying_twice_at_once_makes_one_attempt(db):
    store(db, count=20, task_path="tests.shop.tasks.fail", args=["x"])
    claimed = claim(db, ["*"], limit=20, process_id=ME, now=NOW)
    finish(db, [execute(db, row, clock=lambda: NOW) for row in claimed])
    failed = ids(db)

    retried = together([lambda: retry(db, failed), lambda: retry(db, failed[::-1])])

    assert sum(retried) == 20
    assert counts(db) == {"ready": 20}
    assert set(db.objects(ReadyExecution).values_list("attempt", flat=True)) == {2}
