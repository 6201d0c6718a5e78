"""Inheritance: the next job of a key is claimed by who finishes, in the same transaction."""

from datetime import timedelta

import pytest

from dj_queue.engines.claims import Heir, Holder
from dj_queue.models import BlockedExecution, ClaimedExecution, Job, ReadyExecution, Semaphore, Slot
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim, give_back
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish_and_inherit
from dj_queue.operations.pauses import pause
from dj_queue.operations.slots import recount_expired
from tests.jobs import EVERY, LATER, ME, NOW, build, sibling_of, states

# Real transactions: inside another one slots wait for its commit.
pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

TOKEN = new_id()
MAIL = {"queue_name": "mail"}


def keyed(db, limit=1, key="k", **columns):
    rule = {"concurrency_key": key, "concurrency_limit": limit, "concurrency_seconds": 60}
    return build(db, **rule, discards_on_conflict=False, **MAIL | columns)


def arrive(db, *jobs):
    enqueue(db, jobs, now=NOW)
    return jobs


def run(db, limit=1, room=9, at=NOW):
    """Run ready jobs as a worker of the queue "mail" that has room; give what it inherits."""
    claimed = claim(db, ["*"], limit=limit, process_id=ME, now=at)
    return end(db, claimed, room=room, at=at)


def end(db, claimed, room=9, at=NOW, queues=("mail",)):
    outcomes = [execute(db, row, clock=lambda: at) for row in claimed]
    heir = Heir(Holder(ME, TOKEN, at), frozenset(queues), room)
    recorded, handed = finish_and_inherit(db, outcomes, heir)
    assert len(recorded) == len(outcomes)
    return list(handed.inherited)


def in_state(db, *jobs):
    found = states(db)
    return [found[job.id][0] for job in jobs]


def audit(db):
    """Prove that the slots are those of the ready and claimed; give how many are held."""
    holding = [job_id for job_id, [state] in states(db).items() if state in ("ready", "claimed")]
    keyed_jobs = db.objects(Job).filter(pk__in=holding, concurrency_key__isnull=False)
    slots = sorted(db.objects(Slot).values_list("pk", flat=True))
    assert slots == sorted(keyed_jobs.values_list("pk", flat=True))
    assert sum(db.objects(Semaphore).values_list("held", flat=True)) == len(slots)
    return len(slots)


def test_the_heir_holds_the_next_job_as_if_it_had_claimed_it(db):
    first, second, third = arrive(db, keyed(db), keyed(db, args=[7, 8]), keyed(db))

    [row] = run(db)

    assert in_state(db, first, second, third) == ["finished", "claimed", "blocked"]
    assert row.job == db.objects(Job).get(pk=second.id)
    assert row.job.args == [7, 8]
    stored = db.objects(ClaimedExecution).get()
    for field in ClaimedExecution._meta.concrete_fields:
        assert getattr(stored, field.attname) == getattr(row, field.attname), field.name
    assert (row.process_id, row.claim_token, row.claimed_at) == (ME, TOKEN, NOW)
    assert audit(db) == 1


def test_heirs_go_on_in_order_until_nobody_waits(db):
    arrive(db, keyed(db))
    low, high, *middle = arrive(
        db, keyed(db), keyed(db, priority=5), *(keyed(db, priority=1) for _ in range(4))
    )
    ran = []

    rows = run(db)
    while rows:
        ran += [row.job_id for row in rows]
        rows = end(db, rows)

    assert ran == [job.id for job in (high, *middle, low)]
    assert audit(db) == 0
    assert not db.objects(Semaphore).exists()


def test_an_heir_without_room_leaves_the_next_ones_to_others(db):
    jobs = arrive(db, *(keyed(db, limit=3) for _ in range(6)))

    rows = run(db, limit=3, room=1)

    assert [row.job_id for row in rows] == [jobs[3].id]
    assert in_state(db, *jobs[3:]) == ["claimed", "ready", "ready"]
    assert audit(db) == 3


def test_heirs_of_several_keys_are_found_at_once(db):
    jobs = arrive(db, *(keyed(db, key=f"k{number % 3}") for number in range(9)))

    rows = run(db, limit=3)

    assert {row.job_id for row in rows} == {job.id for job in jobs[3:6]}
    assert audit(db) == 3


def test_nobody_inherits_while_a_job_of_the_backend_is_ready(db):
    first, second = arrive(db, keyed(db), keyed(db))
    claimed = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    arrive(db, build(db, priority=-5, queue_name="elsewhere"))

    assert end(db, claimed) == []

    assert in_state(db, first, second) == ["finished", "ready"]
    assert audit(db) == 1


def test_ready_jobs_of_other_backends_are_in_nobodys_way(db):
    arrive(db, keyed(db), keyed(db))
    arrive(sibling_of(db), build(sibling_of(db)))

    assert len(run(db)) == 1


def test_nobody_inherits_from_a_queue_that_is_paused(db):
    first, second = arrive(db, keyed(db), keyed(db))
    claimed = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    pause(db, ["mail"], now=NOW)

    assert end(db, claimed) == []

    assert in_state(db, first, second) == ["finished", "ready"]


def test_a_paused_queue_is_not_in_the_way_of_another(db):
    jobs = arrive(
        db,
        *(keyed(db, key="k1", queue_name="reports") for _ in range(2)),
        *(keyed(db, key="k2") for _ in range(2)),
    )
    claimed = claim(db, ["*"], limit=2, process_id=ME, now=NOW)
    pause(db, ["reports"], now=NOW)

    [row] = end(db, claimed, queues={"mail", "reports"})

    assert row.job_id == jobs[3].id
    assert in_state(db, *jobs) == ["finished", "ready", "finished", "claimed"]
    assert audit(db) == 2


def test_a_job_in_another_queue_is_not_inherited(db):
    first, second = arrive(db, keyed(db), keyed(db, queue_name="reports"))

    assert run(db) == []

    assert in_state(db, first, second) == ["finished", "ready"]


def test_a_job_of_another_backend_is_not_inherited(db):
    (first,) = arrive(db, keyed(db))
    (second,) = arrive(sibling_of(db), keyed(sibling_of(db)))

    assert run(db) == []

    assert in_state(db, first, second) == ["finished", "ready"]
    assert db.objects(ReadyExecution).get().backend == sibling_of(db).backend


def test_the_next_attempt_of_a_job_may_be_what_is_inherited(db):
    again = {"task_path": "tests.shop.turns.stumble_in_turn", "args": [1], "max_attempts": 2}
    first, second = arrive(db, keyed(db, **again), keyed(db))

    [row] = run(db)
    assert (row.job_id, row.attempt) == (first.id, 2)
    [row] = end(db, [row])

    assert row.job_id == second.id
    assert in_state(db, first, second) == ["failed", "claimed"]
    assert audit(db) == 1


def test_a_slot_that_changes_hands_expires_later(db):
    arrive(db, keyed(db), keyed(db))
    late = NOW + timedelta(seconds=50)

    run(db, at=late)

    assert db.objects(Semaphore).get().expires_at == late + timedelta(seconds=60)


@pytest.mark.parametrize(("room", "state"), [(9, "claimed"), (1, "ready")])
def test_where_the_limit_was_raised_the_heir_holds_what_it_has_room_for(db, room, state):
    first, second, third, last = arrive(db, *(keyed(db) for _ in range(4)))
    db.objects(BlockedExecution).update(concurrency_limit=2)

    assert len(run(db, room=room)) == min(room, 2)

    assert in_state(db, first, second, third, last) == ["finished", "claimed", state, "blocked"]
    assert audit(db) == 2


@pytest.mark.parametrize("is_missing", [False, True])
def test_an_heir_holds_the_next_job_also_where_slots_were_counted_wrongly(db, is_missing):
    first, second, third = arrive(db, keyed(db), keyed(db), keyed(db))
    semaphore = db.objects(Semaphore)
    semaphore.delete() if is_missing else semaphore.update(held=0)

    [row] = run(db)

    assert row.job_id == second.id
    assert in_state(db, first, second, third) == ["finished", "claimed", "blocked"]
    assert audit(db) == 1


def test_an_heir_keeps_its_slot_when_the_holders_are_counted_again(db):
    first, second, third = arrive(db, keyed(db), keyed(db), keyed(db))
    run(db)

    assert recount_expired(db, now=LATER, limit=10) == 1

    assert in_state(db, first, second, third) == ["finished", "claimed", "blocked"]


def test_what_was_inherited_can_be_given_back(db):
    first, second = arrive(db, keyed(db), keyed(db))

    assert give_back(db, run(db)) == 1

    assert in_state(db, first, second) == ["finished", "ready"]
    assert audit(db) == 1
