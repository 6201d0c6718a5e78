"""The contract of a claim engine, the same on every vendor."""

from datetime import timedelta

import pytest
from django.db import transaction

from dj_queue.engines import engine_for
from dj_queue.models import ClaimedExecution, Job, ReadyExecution, Semaphore
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.pauses import pause, resume
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY, LATER, ME, NOW, build, counts, states, store

pytestmark = pytest.mark.django_db(**EVERY)


def names(db: QueueDatabase, *selectors: str, limit: int = 100) -> list[str]:
    claimed = claim(db, selectors or ("*",), limit=limit, process_id=ME, now=NOW)
    return [row.queue_name for row in claimed]


def test_a_stored_job_is_read_back_as_it_was_written(db):
    job = build(db, args=[1, {"ü": [None, "\x00"]}], kwargs={"b": 10**30, "a": 1.5}, priority=-7)

    enqueue(db, [job], now=NOW)

    stored = db.objects(Job).get()
    for field in Job._meta.concrete_fields:
        assert getattr(stored, field.attname) == getattr(job, field.attname), field.name
    assert list(stored.kwargs) == ["b", "a"]


def test_a_due_job_becomes_ready_and_a_future_one_scheduled(db):
    due = build(db, run_after=NOW)
    future = build(db, run_after=LATER)

    enqueue(db, [due, future], now=NOW)

    assert states(db) == {due.id: ["ready"], future.id: ["scheduled"]}


def test_claim_returns_each_job_with_its_payload_and_its_claim(db):
    [job] = store(db, queue_name="email", args=["x"], kwargs={"y": [1]}, priority=9)

    [row] = claim(db, ["*"], limit=5, process_id=ME, now=NOW)

    assert (row.job, row.job.args, row.job.kwargs) == (job, ["x"], {"y": [1]})
    assert (row.queue_name, row.priority, row.attempt) == ("email", 9, 1)
    stored = db.objects(ClaimedExecution).get()
    assert (stored.process_id, stored.claimed_at) == (ME, NOW)
    assert stored.claim_token == row.claim_token
    assert states(db) == {job.id: ["claimed"]}


def test_claim_of_nothing_returns_nothing(db):
    assert claim(db, ["*"], limit=5, process_id=ME, now=NOW) == []


def test_claim_takes_no_more_than_its_limit_and_the_oldest_first(db):
    jobs = store(db, count=5)

    first = claim(db, ["*"], limit=3, process_id=ME, now=NOW)
    second = claim(db, ["*"], limit=3, process_id=ME, now=NOW)

    assert [row.job_id for row in first] == [job.id for job in jobs[:3]]
    assert [row.job_id for row in second] == [job.id for job in jobs[3:]]
    assert first[0].claim_token != second[0].claim_token


def test_claim_order_is_selector_then_priority_then_age(db):
    plan = [("b", 1), ("a", 0), ("b", 9), ("a", 5), ("a", 5), ("c", 100)]
    jobs = [store(db, queue_name=name, priority=priority)[0] for name, priority in plan]

    rows = claim(db, ["a", "*"], limit=10, process_id=ME, now=NOW)

    order = [jobs.index(row.job) for row in rows]
    assert order == [3, 4, 1, 5, 2, 0]


def test_a_later_selector_fills_only_what_earlier_ones_left(db):
    for name in "abab":
        store(db, queue_name=name)

    assert names(db, "b", "a", limit=3) == ["b", "b", "a"]
    assert counts(db) == {"ready": 1, "claimed": 3}


def test_overlapping_selectors_claim_a_job_once(db):
    store(db, queue_name="mail.out")
    store(db, queue_name="mail.in")

    assert sorted(names(db, "mail.out", "mail.*", "mail.*", "*", "mail.in")) == [
        "mail.in",
        "mail.out",
    ]


@pytest.mark.parametrize("prefix", ["mail", "MAIL", "50%", "a_b", "ü", "it's", "\\"])
def test_a_prefix_matches_its_characters_exactly(db, prefix):
    for name in ("mail-out", "MAIL-out", "50% off", "5000", "a_b", "axb", "über", "uber", "it's"):
        store(db, queue_name=name)
    store(db, queue_name="\\o/")

    claimed = names(db, f"{prefix}*")

    assert claimed
    assert all(name.startswith(prefix) for name in claimed)


def test_names_that_differ_in_case_or_accent_are_different_queues(db):
    for name in ("Email", "email", "émail"):
        store(db, queue_name=name)
    pause(db, ["Email"], now=NOW)

    assert names(db, "email") == ["email"]
    assert names(db) == ["émail"]


def test_claim_leaves_other_backends_jobs_alone(db):
    job = build(db, backend="neighbour")
    enqueue(QueueDatabase(alias=db.alias, backend="neighbour"), [job], now=NOW)

    assert names(db) == []
    assert states(db) == {job.id: ["ready"]}


def test_claim_skips_paused_queues_until_they_are_resumed(db):
    store(db, queue_name="paused", priority=100)
    store(db, queue_name="open")
    pause(db, ["paused", "paused"], now=NOW)
    pause(db, ["paused"], now=NOW)

    assert names(db) == ["open"]
    assert names(db, "paused") == []
    assert names(db, "pau*") == []
    assert resume(db, ["paused", "never paused"]) == 1
    assert names(db) == ["paused"]


def test_take_returns_only_the_rows_it_deleted(db):
    jobs = store(db, count=2)
    ids = [jobs[0].id, new_id(), jobs[1].id]

    with db.atomic():
        taken = engine_for(db).take(db, ReadyExecution, ids)
        again = engine_for(db).take(db, ReadyExecution, ids)

    assert {row.job_id for row in taken} == {job.id for job in jobs}
    assert {row.backend for row in taken} == {db.backend}
    assert again == []


def test_take_leaves_other_backends_jobs_alone(db):
    neighbour = QueueDatabase(alias=db.alias, backend="neighbour")
    jobs = [*store(db), build(neighbour)]
    enqueue(neighbour, jobs[1:], now=NOW)
    store(db, queue_name="claimed")
    [row] = claim(db, ["claimed"], limit=1, process_id=ME, now=NOW)

    with db.atomic():
        taken = engine_for(db).take(db, ReadyExecution, [job.id for job in jobs])
        stolen = engine_for(neighbour).take(
            neighbour, ClaimedExecution, [row.job_id], [row.claim_token]
        )

    assert ([each.job_id for each in taken], stolen) == ([jobs[0].id], [])


def test_take_of_nothing_takes_nothing(db):
    store(db)

    with db.atomic():
        assert engine_for(db).take(db, ReadyExecution, []) == []
        assert engine_for(db).take(db, ClaimedExecution, [], []) == []


def test_take_with_tokens_needs_the_token_of_each_claim(db):
    store(db, count=3)
    first = claim(db, ["*"], limit=2, process_id=ME, now=NOW)
    [second] = claim(db, ["*"], limit=2, process_id=ME, now=NOW)
    ids = [first[0].job_id, first[1].job_id, second.job_id]
    # The third's token is a valid one, but another claim's.
    tokens = [first[0].claim_token, new_id(), first[0].claim_token]

    with db.atomic():
        taken = engine_for(db).take(db, ClaimedExecution, ids, tokens)

    assert [row.job_id for row in taken] == [ids[0]]
    assert {job_id for job_id, held in states(db).items() if held == ["claimed"]} == set(ids[1:])


def test_an_enqueue_that_fails_stores_nothing(db):
    good, twin = build(db), build(db)
    twin.id = good.id

    with pytest.raises(Exception, match=r"(?i)unique|duplicate"), db.atomic():
        enqueue(db, [good, twin], now=NOW)

    assert states(db) == {}


def test_an_enqueue_inside_a_transaction_is_rolled_back_with_it(db):
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=db.alias):
        store(db, count=2)
        _ = 1 / 0

    assert states(db) == {}


def test_ids_sort_on_the_database_as_they_were_made(db):
    jobs = [build(db, run_after=NOW + timedelta(days=n % 3)) for n in range(200)]

    enqueue(db, jobs[::-1], now=NOW)

    assert list(db.objects(Job).order_by("id")) == jobs


def semaphores(db):
    return dict(db.objects(Semaphore).values_list("key", "held"))


def test_locking_semaphores_finds_what_is_held_and_makes_what_is_missing(db):
    db.objects(Semaphore).bulk_create([Semaphore("b", 3, LATER), Semaphore("other", 1, LATER)])

    with db.atomic():
        rows = engine_for(db).lock_semaphores(db, ["B", "a", "b", "ä"], NOW)

    found = {key: (row.key, row.held, row.expires_at) for key, row in rows.items()}
    assert found == {
        "B": ("B", 0, NOW),
        "a": ("a", 0, NOW),
        "b": ("b", 3, LATER),
        "ä": ("ä", 0, NOW),
    }
    assert semaphores(db) == {"B": 0, "a": 0, "b": 3, "ä": 0, "other": 1}


def test_semaphores_are_stored_and_those_of_which_nothing_is_held_are_deleted(db):
    db.objects(Semaphore).bulk_create(
        [Semaphore("a", 1, NOW), Semaphore("b", 1, NOW), Semaphore("other", 1, NOW)]
    )

    with db.atomic():
        rows = engine_for(db).lock_semaphores(db, ["a", "b", "c", "d"], NOW)
        rows["a"].held, rows["b"].held, rows["c"].held = 2, 0, 1
        rows["a"].expires_at = LATER
        engine_for(db).store_semaphores(db, list(rows.values()))

    assert semaphores(db) == {"a": 2, "c": 1, "other": 1}
    assert db.objects(Semaphore).get(key="a").expires_at == LATER


def test_storing_no_semaphores_does_nothing(db):
    with db.atomic():
        engine_for(db).store_semaphores(db, [])

    assert semaphores(db) == {}


def test_free_semaphores_are_those_that_are_there_and_that_nobody_has_locked(db):
    db.objects(Semaphore).bulk_create([Semaphore("a", 1, NOW), Semaphore("b", 1, NOW)])

    with db.atomic():
        assert engine_for(db).free_semaphores(db, ["b", "c", "a"]) == ["a", "b"]
        assert engine_for(db).free_semaphores(db, []) == []
