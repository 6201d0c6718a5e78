"""Concurrency keys: who holds a slot, who waits, and who is next."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction

from dj_queue.compat import InvalidTask, TaskResultDoesNotExist, TaskResultStatus, task_backends
from dj_queue.engines.claims import claim_of
from dj_queue.exceptions import InvalidSchedule, ProcessPruned
from dj_queue.models import (
    Attempt,
    BlockedExecution,
    FailedExecution,
    Job,
    ReadyExecution,
    RecurringTask,
    Semaphore,
    Slot,
)
from dj_queue.models.ids import new_id
from dj_queue.operations.again import enqueue_again
from dj_queue.operations.claim import claim, give_back
from dj_queue.operations.discard import clear, discard
from dj_queue.operations.dispatch import dispatch_due, run_now
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import abandoned, execute
from dj_queue.operations.finish import finish
from dj_queue.operations.fire import run_now as fire_now
from dj_queue.operations.recover import recover
from dj_queue.operations.remains import Remains, Unstarted
from dj_queue.operations.retry import retry
from dj_queue.operations.slots import hand_on_missed, recount_expired, release
from dj_queue.operations.transitions import delete_jobs, in_transaction, move
from dj_queue.recurring import schedule
from dj_queue.routers import QueueDatabase, queue_database
from tests.jobs import EVERY, LATER, ME, NOW, build, counts, states
from tests.recurring import fire, put
from tests.shop import turns

# Real transactions: inside another one slots wait for its commit.
pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


def keyed(db, key="k", limit=1, seconds=60, discards=False, **columns):
    rule = {"concurrency_key": key, "concurrency_limit": limit, "concurrency_seconds": seconds}
    return build(db, **rule, discards_on_conflict=discards, **columns)


def arrive(db, *jobs):
    enqueue(db, jobs, now=NOW)
    return jobs


def in_state(db, *jobs):
    found = states(db)
    return [found.get(job.id, ["gone"])[0] for job in jobs]


def held(db):
    """Give how many slots of each key are held, after proving that the ready and claimed do."""
    slots = sorted(db.objects(Slot).values_list("key", "job_id"))
    holding = [job_id for job_id, [state] in states(db).items() if state in ("ready", "claimed")]
    jobs = db.objects(Job).filter(pk__in=holding, concurrency_key__isnull=False)
    assert slots == sorted(jobs.values_list("concurrency_key", "id"))
    semaphores = dict(db.objects(Semaphore).values_list("key", "held"))
    keys = [key for key, _ in slots]
    assert semaphores == {key: keys.count(key) for key in keys}
    return semaphores


def run(db, limit=1):
    """Claim and finish jobs that return."""
    claimed = claim(db, ["*"], limit=limit, process_id=ME, now=NOW)
    finish(db, [execute(db, row, clock=lambda: NOW) for row in claimed])
    return [row.job for row in claimed]


def test_a_job_takes_a_free_slot_and_the_next_is_blocked(db):
    first, second, other = arrive(db, keyed(db), keyed(db), keyed(db, key="other"))

    assert in_state(db, first, second, other) == ["ready", "blocked", "ready"]
    assert held(db) == {"k": 1, "other": 1}
    row = db.objects(BlockedExecution).get()
    assert (row.concurrency_key, row.concurrency_limit, row.concurrency_seconds) == ("k", 1, 60)
    assert row.expires_at == NOW + timedelta(seconds=60)
    expiries = set(db.objects(Semaphore).values_list("expires_at", flat=True))
    assert expiries == {NOW + timedelta(seconds=60)}


def test_jobs_without_a_key_have_no_part_in_it(db):
    plain, first, second = arrive(db, build(db), keyed(db), keyed(db))

    assert in_state(db, plain, first, second) == ["ready", "ready", "blocked"]
    assert held(db) == {"k": 1}


def test_finish_hands_the_slot_to_the_next_in_order(db):
    low, *rest = arrive(db, keyed(db), keyed(db), keyed(db, priority=5), keyed(db, priority=5))
    assert in_state(db, low, *rest) == ["blocked", "blocked", "ready", "blocked"]

    order = [job for _ in range(4) for job in run(db, limit=10)]

    assert order == [rest[1], rest[2], low, rest[0]]
    assert held(db) == {}


def test_a_higher_priority_goes_before_those_that_wait_but_takes_no_slot_away(db):
    holder, waiting = arrive(db, keyed(db), keyed(db))
    (urgent,) = arrive(db, keyed(db, priority=9))

    assert in_state(db, holder, waiting, urgent) == ["ready", "blocked", "blocked"]
    run(db)
    assert in_state(db, waiting, urgent) == ["blocked", "ready"]


def test_a_batch_hands_on_a_slot_for_each_that_ended(db):
    jobs = arrive(db, *(keyed(db, limit=5) for _ in range(14)))
    arrive(db, *(keyed(db, key=f"k{n % 3}") for n in range(9)))
    assert held(db) == {"k": 5, "k0": 1, "k1": 1, "k2": 1}

    assert len(run(db, limit=100)) == 8
    assert held(db) == {"k": 5, "k0": 1, "k1": 1, "k2": 1}
    assert in_state(db, *jobs).count("blocked") == 4
    while run(db, limit=100):
        assert held(db).get("k", 0) <= 5
    assert counts(db) == {"finished": 23}


@pytest.mark.parametrize("ending", ["fails", "is deleted", "is recovered"])
def test_however_a_job_ends_its_slot_goes_on(db, settings, ending):
    if ending == "is deleted":
        own = settings.TASKS[db.backend]
        options = {**own["OPTIONS"], "preserve_finished_jobs": False}
        settings.TASKS = {**settings.TASKS, db.backend: {**own, "OPTIONS": options}}
    first, second = arrive(db, keyed(db), keyed(db))
    [row] = claim(db, ["*"], limit=5, process_id=ME, now=NOW)

    match ending:
        case "fails":
            finish(db, [abandoned(row, ValueError("no"), now=LATER)])
        case "is deleted":
            finish(db, [execute(db, row, clock=lambda: NOW)])
        case "is recovered":
            recover(db, [ME], ProcessPruned("gone"), now=LATER)

    assert in_state(db, first, second) == ["gone" if ending == "is deleted" else "failed", "ready"]
    assert held(db) == {"k": 1}


def test_who_lost_the_claim_gives_no_slot_back(db):
    arrive(db, keyed(db), keyed(db))
    [row] = claim(db, ["*"], limit=5, process_id=ME, now=NOW)
    give_back(db, [row])
    [again] = claim(db, ["*"], limit=5, process_id=ME, now=NOW)

    assert finish(db, [execute(db, row, clock=lambda: NOW)]) == []
    assert held(db) == {"k": 1}
    outcome = execute(db, again, clock=lambda: NOW)
    assert finish(db, [outcome, outcome]) == [outcome]
    assert finish(db, [outcome]) == []
    assert held(db) == {"k": 1}


def test_a_job_that_is_given_back_keeps_its_slot(db):
    first, second = arrive(db, keyed(db), keyed(db))
    [row] = claim(db, ["*"], limit=5, process_id=ME, now=NOW)

    give_back(db, [row])
    [row] = claim(db, ["*"], limit=5, process_id=ME, now=NOW)
    unstarted = Unstarted(claims=frozenset([claim_of(row)]))
    recover(db, [ME], ProcessPruned("gone"), now=NOW, remains=Remains(unstarted))

    assert in_state(db, first, second) == ["ready", "blocked"]
    assert held(db) == {"k": 1}


def test_a_scheduled_job_holds_no_slot_until_it_is_due(db):
    soon = NOW + timedelta(minutes=5)
    due, also = arrive(db, keyed(db, run_after=soon), keyed(db, run_after=soon))
    plain, now = arrive(db, build(db, run_after=soon), keyed(db))
    assert held(db) == {"k": 1}

    assert dispatch_due(db, now=soon, limit=10) == 3

    assert in_state(db, due, also, plain, now) == ["blocked", "blocked", "ready", "ready"]
    assert run(db, limit=10) == [plain, now]
    assert in_state(db, due, also) == ["ready", "blocked"]
    assert held(db) == {"k": 1}


def test_a_job_that_is_attempted_again_at_once_competes_in_its_old_place(db):
    first, second = arrive(
        db,
        keyed(db, task_path="tests.shop.turns.stumble_in_turn", args=[1], max_attempts=2),
        keyed(db),
    )
    (urgent,) = arrive(db, keyed(db, priority=1))

    assert run(db, limit=5) == [first]
    assert in_state(db, first, second, urgent) == ["blocked", "blocked", "ready"]
    assert run(db, limit=5) == [urgent]
    assert in_state(db, first, second) == ["ready", "blocked"]
    assert db.objects(ReadyExecution).get().attempt == 2
    assert held(db) == {"k": 1}


def test_a_job_that_waits_for_its_next_attempt_holds_no_slot(db):
    first, second = arrive(
        db,
        keyed(db, task_path="tests.shop.turns.stumble_later", args=[1], max_attempts=2),
        keyed(db),
    )

    run(db)
    assert in_state(db, first, second) == ["scheduled", "ready"]
    assert dispatch_due(db, now=LATER, limit=5) == 1

    assert in_state(db, first, second) == ["blocked", "ready"]
    assert held(db) == {"k": 1}


def test_a_retry_by_hand_waits_for_a_slot(db):
    (failed,) = arrive(db, keyed(db, discards=True, task_path="tests.shop.tasks.fail", args=["x"]))
    run(db)
    (holder,) = arrive(db, keyed(db))

    assert retry(db, [failed.id], now=LATER) == 1
    assert retry(db, [failed.id]) == 0

    # It was attempted before: it is not discarded.
    assert in_state(db, failed, holder) == ["blocked", "ready"]
    assert db.objects(BlockedExecution).get().attempt == 2
    run(db)
    assert in_state(db, failed, holder) == ["ready", "finished"]


def test_a_job_that_discards_is_not_stored_where_no_slot_is_free(db):
    first, second, third = keyed(db), keyed(db, discards=True), keyed(db, "b", discards=True)

    assert enqueue(db, [first], now=NOW) == set()
    assert enqueue(db, [second, third], now=NOW) == {second.id}

    assert in_state(db, first, second, third) == ["ready", "gone", "ready"]
    assert held(db) == {"k": 1, "b": 1}


def test_of_jobs_that_discard_in_one_call_the_first_is_stored(db):
    jobs = [keyed(db, limit=2, discards=True) for _ in range(4)]

    assert enqueue(db, jobs, now=NOW) == {job.id for job in jobs[2:]}

    assert in_state(db, *jobs) == ["ready", "ready", "gone", "gone"]
    assert db.objects(Job).count() == 2


def test_a_due_job_that_discards_is_deleted_where_no_slot_is_free(db, events):
    soon = NOW + timedelta(minutes=5)
    first, second = arrive(db, *(keyed(db, discards=True, run_after=soon) for _ in range(2)))

    assert dispatch_due(db, now=soon, limit=10) == 2

    assert in_state(db, first, second) == ["ready", "gone"]
    assert db.objects(Job).count() == 1
    where = {"backend": db.backend, "database": db.alias}
    payload = where | {"job": second.id, "path": second.task_path, "key": "k"}
    assert events() == [("job_discarded", payload)]


def test_the_limit_comes_with_each_job(db):
    one, two, three = arrive(db, keyed(db), keyed(db, limit=2), keyed(db, limit=2))
    assert in_state(db, one, two, three) == ["ready", "ready", "blocked"]
    (strict,) = arrive(db, keyed(db, limit=1))

    # Two are held after each of these: the one that allows one waits until it is alone, and it is
    # not overtaken by one that would have been allowed.
    (late,) = arrive(db, keyed(db, limit=3))
    run(db)
    assert in_state(db, two, three, strict, late) == ["ready", "ready", "blocked", "blocked"]
    run(db)
    assert in_state(db, three, strict, late) == ["ready", "blocked", "blocked"]
    run(db)
    assert in_state(db, strict, late) == ["ready", "ready"]
    assert held(db) == {"k": 2}


def test_keys_are_compared_exactly(db):
    jobs = arrive(db, *(keyed(db, key=key) for key in ("Kö", "kö", "ko", "kö ".strip())))

    assert in_state(db, *jobs) == ["ready", "ready", "ready", "blocked"]


def test_slots_are_shared_by_the_backends_of_a_database_and_not_beyond():
    default, alerts, bulk = map(queue_database, ("default", "alerts", "bulk"))
    (first,) = arrive(default, keyed(default))
    (second,) = arrive(alerts, keyed(alerts))
    (third,) = arrive(bulk, keyed(bulk))

    assert in_state(default, first, second) == ["ready", "blocked"]
    assert in_state(bulk, third) == ["ready"]
    run(default)
    assert in_state(alerts, second) == ["ready"]
    assert run(alerts) == [second]
    assert (held(default), held(bulk)) == ({}, {"k": 1})


def test_a_job_of_a_backend_that_is_not_configured_here_gets_its_turn(db):
    neighbour = QueueDatabase(alias=db.alias, backend="neighbour")
    (first,) = arrive(db, keyed(db))
    (second,) = arrive(neighbour, keyed(neighbour))

    run(db)

    assert in_state(db, first, second) == ["finished", "ready"]
    assert held(db) == {"k": 1}


def test_inside_a_transaction_a_job_waits_for_its_commit(db):
    with transaction.atomic(using=db.alias):
        first, second = arrive(db, keyed(db), keyed(db))
        assert in_state(db, first, second) == ["blocked", "blocked"]
        assert db.objects(Semaphore).count() == 0

    assert in_state(db, first, second) == ["ready", "blocked"]
    assert held(db) == {"k": 1}


def test_a_transaction_that_is_rolled_back_leaves_no_slot(db):
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=db.alias):
        arrive(db, keyed(db))
        _ = 1 / 0

    assert (states(db), held(db)) == ({}, {})


@pytest.mark.parametrize("is_due", [False, True])
def test_who_waits_behind_a_discarded_job_with_a_lower_limit_goes_on(db, is_due):
    # As after a deployment that changed the limit. In between, the one in the middle holds it up.
    due = {"run_after": NOW + timedelta(minutes=1)} if is_due else {}
    jobs = arrive(
        db,
        keyed(db, limit=2, **due),
        keyed(db, limit=1, discards=True, **due),
        keyed(db, limit=2, **due),
    )

    if is_due:
        dispatch_due(db, now=NOW + timedelta(minutes=2), limit=10)

    assert in_state(db, *jobs) == ["ready", "gone", "ready"]
    assert held(db) == {"k": 2}


def test_inside_a_transaction_a_job_is_discarded_at_the_commit(db, events):
    with transaction.atomic(using=db.alias):
        first, second = arrive(db, keyed(db, discards=True), keyed(db, discards=True))
        (plain,) = arrive(db, keyed(db))

    assert in_state(db, first, second, plain) == ["ready", "gone", "blocked"]
    assert [event for event, _ in events()] == ["job_discarded"]


def test_a_database_that_is_lost_after_the_commit_harms_nobody(db, monkeypatch, events):
    def refuse(*_, **__):
        raise DatabaseError("gone")

    with monkeypatch.context() as patched, transaction.atomic(using=db.alias):
        patched.setattr("dj_queue.operations.concurrency.settle", refuse)
        (job,) = arrive(db, keyed(db))
        patched.setattr("dj_queue.operations.concurrency.settle", refuse)
        db.on_commit(patched.undo)
    assert in_state(db, job) == ["blocked"]
    assert [event for event, _ in events()] == ["slots_left"]

    hand_on_missed(db, now=NOW, after_key="", limit=10)

    assert in_state(db, job) == ["ready"]
    assert held(db) == {"k": 1}


def test_slots_that_were_not_handed_on_are_found_a_few_keys_at_a_time(db):
    jobs = arrive(db, *(keyed(db, key=f"k{n}") for n in range(5) for _ in range(2)))
    db.objects(Semaphore).exclude(key="k3").delete()
    db.objects(Slot).exclude(key="k3").delete()
    seen = []

    key = ""
    while not seen or key:
        key = hand_on_missed(db, now=NOW, after_key=key, limit=2)
        seen.append(key)

    assert seen == ["k1", "k3", ""]
    waiting = [job for job in jobs[1::2] if in_state(db, job) == ["blocked"]]
    assert [job.concurrency_key for job in waiting] == ["k3"]


def test_slots_of_holders_that_are_gone_are_counted_again_when_they_expire(db):
    first, second, third = arrive(db, keyed(db, limit=2), keyed(db, limit=2), keyed(db, limit=2))
    db.objects(ReadyExecution).filter(pk=first.id).delete()
    claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    (other,) = arrive(db, keyed(db, key="other", seconds=600))

    assert recount_expired(db, now=NOW + timedelta(seconds=59), limit=10) == 0
    assert in_state(db, third) == ["blocked"]
    assert recount_expired(db, now=NOW + timedelta(seconds=60), limit=10) == 1

    assert in_state(db, second, third, other) == ["claimed", "ready", "ready"]
    db.objects(Job).filter(pk=first.id).delete()
    assert held(db) == {"k": 2, "other": 1}
    assert recount_expired(db, now=NOW + timedelta(seconds=239), limit=10) == 0


def test_a_job_that_runs_longer_than_its_duration_keeps_its_slot(db):
    first, second = arrive(db, keyed(db), keyed(db))
    claim(db, ["*"], limit=1, process_id=ME, now=NOW)

    assert recount_expired(db, now=LATER, limit=10) == 1

    assert in_state(db, first, second) == ["claimed", "blocked"]
    assert held(db) == {"k": 1}


def test_semaphores_that_count_wrongly_are_put_right_by_the_next_finish(db):
    arrive(db, *(keyed(db, limit=2) for _ in range(4)))
    db.objects(Semaphore).update(held=0)

    run(db, limit=2)

    assert held(db) == {"k": 2}


def test_who_takes_a_ready_job_away_releases_its_slot(db):
    first, second, plain = arrive(db, keyed(db), keyed(db), build(db))
    ids = [first.id, plain.id, new_id()]

    def discard():
        move(db, ReadyExecution, ids, lambda row: [])
        delete_jobs(db, ids)
        return release(db, ids, now=NOW)

    assert in_transaction(db, discard) == 1
    assert in_state(db, first, second) == ["gone", "ready"]
    assert held(db) == {"k": 1}
    assert in_transaction(db, discard) == 0


def test_enqueue_tells_that_a_job_was_discarded(db):
    charge = turns.charge.using(backend=db.backend)
    refresh = turns.refresh.using(backend=db.backend)

    done = task_backends[db.backend].enqueue_all(
        [(charge, [1], {}), (refresh, [1], {}), (refresh, [2], {})]
    )
    again = refresh.enqueue(1)

    kept, dropped, other = done
    for result in (dropped, again):
        assert result.status == TaskResultStatus.FAILED
        assert result.is_finished
        [error] = result.errors
        assert error.exception_class_path == "dj_queue.exceptions.JobDiscarded"
        assert error.traceback.endswith(
            "expected a free slot of concurrency key 'account:1', got none: not enqueued"
        )
        with pytest.raises(TaskResultDoesNotExist):
            result.refresh()
    assert [kept.status, other.status] == [TaskResultStatus.READY] * 2
    assert [each.args for each in done] == [[1], [1], [2]]
    assert db.objects(Attempt).count() == db.objects(FailedExecution).count() == 0


def test_a_blocked_job_is_ready_to_its_user(db):
    charge = turns.charge.using(backend=db.backend)
    charge.enqueue(1)

    waiting = charge.enqueue(1)
    waiting.refresh()

    assert waiting.status == TaskResultStatus.READY
    assert counts(db) == {"ready": 1, "blocked": 1}


@pytest.mark.parametrize("state", [ReadyExecution, BlockedExecution])
def test_a_discarded_job_lets_the_next_one_go_on(db, state):
    first, second, third = arrive(db, keyed(db), keyed(db), keyed(db))
    gone = first if state is ReadyExecution else second

    assert discard(db, state, [gone.id, new_id()]) == 1

    left = [job for job in (first, second, third) if job is not gone]
    assert in_state(db, *left) == ["ready", "blocked"]
    assert held(db) == {"k": 1}


def test_clearing_a_queue_lets_others_go_on(db):
    arrive(db, *(keyed(db, key=f"k{n % 3}", limit=2, queue_name="mail") for n in range(12)))
    (other,) = arrive(db, keyed(db, key="k0", limit=2))

    assert clear(db, "mail") == 6

    # As they became ready later, they stay.
    assert counts(db) == {"ready": 6, "blocked": 1}
    assert held(db) == {"k0": 2, "k1": 2, "k2": 2}
    assert in_state(db, other) == ["blocked"]


def test_a_scheduled_job_that_is_run_at_once_waits_for_a_slot(db):
    (holder,) = arrive(db, keyed(db))
    (job,) = arrive(db, keyed(db, run_after=LATER))

    assert run_now(db, [job.id]) == 1

    assert in_state(db, holder, job) == ["ready", "blocked"]
    run(db)
    assert in_state(db, job) == ["ready"]


def test_a_job_that_is_enqueued_again_has_the_same_key(db):
    (first,) = arrive(db, keyed(db))
    run(db)
    arrive(db, keyed(db))

    assert enqueue_again(db, [first.id], request=new_id(), now=LATER) == 1

    assert counts(db) == {"finished": 1, "ready": 1, "blocked": 1}
    assert held(db) == {"k": 1}


def recurring(db, task, **columns):
    return put(db, task_path=f"tests.shop.turns.{task}", args=[7], **columns)


def test_jobs_of_a_recurring_task_have_its_key(db):
    recurring(db, "charge", misfire="all")

    fire(db, NOW + timedelta(minutes=1))

    assert counts(db) == {"ready": 1, "blocked": 1}
    assert held(db) == {"account:7": 1}
    assert set(db.objects(Job).values_list("concurrency_seconds", flat=True)) == {180}


def test_a_recurring_task_whose_job_is_discarded_has_fired(db):
    row = recurring(db, "refresh")
    (holder,) = arrive(db, keyed(db, key="account:7"))

    found = fire(db, NOW)
    result = fire_now(db, row, now=NOW)

    assert [count for _, count in found.fired] == [0]
    assert db.objects(RecurringTask).get().next_run_at == NOW + timedelta(minutes=1)
    assert result.errors[0].exception_class_path == "dj_queue.exceptions.JobDiscarded"
    assert in_state(db, holder) == ["ready"]
    assert db.objects(Job).count() == 1


def test_a_recurring_task_whose_arguments_make_no_key_is_passed_over(db):
    bad = recurring(db, "charge", key="bad")
    db.objects(RecurringTask).update(args=[])
    put(db, "good")

    found = fire(db, NOW)

    [(row, error)] = found.broken
    assert (row.pk, str(error)[:52]) == (
        bad.pk,
        "concurrency.key: expected arguments that tests.shop.",
    )
    assert [plan.task.key for plan, _ in found.fired] == ["good"]
    assert db.objects(RecurringTask).get(key="bad").next_run_at == NOW
    with pytest.raises(InvalidSchedule):
        fire_now(db, row, now=NOW)


def test_a_recurring_task_whose_arguments_make_no_key_is_refused_when_it_is_scheduled(db):
    with pytest.raises(InvalidTask, match=r"concurrency\.key: expected arguments that tests\.shop"):
        schedule(key="bad", task=turns.charge, schedule="@daily", backend=db.backend)

    assert db.objects(RecurringTask).count() == 0
