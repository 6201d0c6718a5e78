"""How many statements an operation sends: constant, whatever the number of jobs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from dj_queue.compat import task_backends
from dj_queue.engines import engine_for
from dj_queue.engines.claims import Heir, Holder
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim
from dj_queue.operations.dispatch import dispatch_due
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish, finish_and_inherit
from dj_queue.operations.pauses import pause
from dj_queue.routers import QueueDatabase, queue_database
from tests.jobs import EVERY, ME, NOW, build, counts, store
from tests.shop import tasks

# Real transactions: BEGIN and COMMIT are counted too.
pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

# What is sent, each a round trip, and whether BEGIN and COMMIT are sent besides.
# MySQL and MariaDB take a whole transaction in one round trip, where none has to be joined.
ENQUEUE = {
    "postgresql": (1, False),
    "mariadb": (1, False),
    "mysql": (1, False),
    "sqlite": (2, True),
}
# Inside a transaction they take the inserts into several tables in one.
TWO_TABLES = {"postgresql": 2, "mariadb": 1, "mysql": 1, "sqlite": 2}
# All but PostgreSQL look before they lock; then they take, insert and load the payload. MySQL and
# MariaDB take in two: they cannot skip locked rows in a DELETE.
CLAIM = {"postgresql": (1, False), "mariadb": (5, True), "mysql": (5, True), "sqlite": (4, True)}
# MySQL has no DELETE … RETURNING: it locks, then deletes. The queue's minute is one more, where
# inserts into several tables do not go together as they do on MySQL and MariaDB.
FINISH = {"postgresql": (1, False), "mariadb": (2, True), "mysql": (3, True), "sqlite": (3, True)}
# To take the failures, to insert them and their attempts, and to add to the minute.
FAIL = {"postgresql": 4, "mariadb": 3, "mysql": 4, "sqlite": 4}
# Where a queue is paused, MySQL and MariaDB ask for the names of the queues once it is known.
IDLE_BESIDE_PAUSES = {"postgresql": 1, "mariadb": 2, "mysql": 2, "sqlite": 1}

# To lock the semaphores and look who is first, twice; to take the blocked, to make them ready, each
# with a slot; to store the semaphores. MySQL reads what it has locked, and locks what it takes.
SETTLE = {"postgresql": 9, "mariadb": 8, "mysql": 10, "sqlite": 10}
# After a finish the same, and slots are deleted; the semaphores stay as they are, but are looked
# at. PostgreSQL locks them, then hands on in one statement.
HAND_ON = SETTLE | {"postgresql": 2}
# Of a single key the next one is found in one look; MariaDB does all for a few jobs at once.
HAND_ON_HOT = {"postgresql": 2, "mariadb": 1, "mysql": 7, "sqlite": 7}
# To load the heir's jobs.
INHERIT = {"postgresql": 0, "mariadb": 0, "mysql": 1, "sqlite": 1}


class Sent:
    """The statements of a block, by kind."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.in_transaction = False


@contextmanager
def watching(db: QueueDatabase) -> Iterator[Sent]:
    """Record what is sent to the queue database, and that nothing is sent elsewhere."""
    sent = Sent()
    others = [alias for alias in connections if alias != db.alias]
    strays = [CaptureQueriesContext(connections[alias]) for alias in others]
    db.connection.ensure_connection()
    with CaptureQueriesContext(db.connection) as captured:
        for stray in strays:
            stray.__enter__()
        yield sent
        for stray in strays:
            stray.__exit__(None, None, None)
    assert [len(stray) for stray in strays] == [0] * len(strays)
    queries = [query["sql"] for query in captured.captured_queries]
    controls = [sql for sql in queries if sql in ("BEGIN", "BEGIN IMMEDIATE", "COMMIT")]
    sent.in_transaction = [sql.split()[0] for sql in controls] == ["BEGIN", "COMMIT"]
    assert sent.in_transaction or not controls
    sent.statements = [sql for sql in queries if sql not in controls]


@pytest.fixture
def vendor(db: QueueDatabase, vendor_by_alias: dict[str, str]) -> str:
    return vendor_by_alias[db.alias]


@pytest.fixture
def quiet(db: QueueDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody be woken: PostgreSQL may or may not tell the workers of ready jobs."""
    monkeypatch.setattr(type(engine_for(db)), "wake", lambda *_: None)


def cost(db: QueueDatabase, work: Callable[[], object]) -> tuple[int, bool]:
    with watching(db) as sent:
        work()
    return len(sent.statements), sent.in_transaction


def test_one_enqueue_is_one_commit(db, vendor):
    task = tasks.add.using(backend=db.backend)

    assert cost(db, lambda: task.enqueue(1, 2)) == ENQUEUE[vendor]


def test_an_enqueue_inside_a_transaction_joins_it(db, vendor):
    task = tasks.add.using(backend=db.backend)

    with watching(db) as sent, db.atomic():
        task.enqueue(1, 2)

    assert sent.in_transaction
    # A savepoint keeps job and state together, whatever the transaction does about an error.
    assert len(sent.statements) == (1 if vendor == "postgresql" else 2 + TWO_TABLES[vendor])


@pytest.mark.parametrize("count", [10, 1000])
def test_enqueue_all_costs_the_same_for_any_number_of_jobs(db, vendor, count):
    backend = task_backends[db.backend]
    calls = [(tasks.add.using(backend=db.backend), (n, n), {}) for n in range(count)]

    assert cost(db, lambda: backend.enqueue_all(calls)) == ENQUEUE[vendor]


def test_enqueue_of_ready_and_scheduled_jobs_adds_one_table(db, vendor):
    jobs = [build(db), build(db, run_after=NOW.replace(year=2100))]
    one_more = vendor == "sqlite"  # elsewhere it goes with the others

    statements, _ = cost(db, lambda: enqueue(db, jobs, now=NOW))

    assert statements == ENQUEUE[vendor][0] + one_more


def keyed(db, count, keys, **columns):
    """Build jobs of so many keys in turn, each with one slot."""
    rule = {"concurrency_limit": 1, "concurrency_seconds": 60, "discards_on_conflict": False}
    return [
        build(db, concurrency_key=f"k{number % keys}", **rule, **columns) for number in range(count)
    ]


@pytest.mark.parametrize(("count", "keys"), [(4, 2), (1000, 2), (1000, 300)])
def test_an_enqueue_with_keys_costs_the_same_for_any_number_of_jobs_and_keys(
    db, vendor, quiet, count, keys
):
    jobs = keyed(db, count, keys)

    # Jobs, their state, and what it takes to give slots to the first of each key.
    assert cost(db, lambda: enqueue(db, jobs, now=NOW)) == (
        TWO_TABLES[vendor] + SETTLE[vendor],
        True,
    )
    assert counts(db) == {"ready": keys, "blocked": count - keys}


@pytest.mark.parametrize(("count", "keys"), [(6, 2), (1000, 50)])
def test_a_finish_hands_on_slots_at_the_same_cost_for_any_number_of_keys(
    db, vendor, quiet, count, keys
):
    enqueue(db, keyed(db, count, keys), now=NOW)
    claimed = claim(db, ["*"], limit=count, process_id=ME, now=NOW)
    outcomes = [execute(db, row, clock=lambda: NOW) for row in claimed]

    def work() -> None:
        assert len(finish(db, outcomes)) == keys

    assert cost(db, work) == (FINISH[vendor][0] + HAND_ON[vendor], True)
    assert counts(db) == {"finished": keys, "ready": keys, "blocked": count - 2 * keys}


def test_a_hot_key_is_handed_on_in_few_statements(db, vendor, quiet):
    enqueue(db, keyed(db, 3, 1), now=NOW)
    [row] = claim(db, ["*"], limit=9, process_id=ME, now=NOW)
    outcome = execute(db, row, clock=lambda: NOW)

    statements = FINISH[vendor][0] + HAND_ON_HOT[vendor]
    assert cost(db, lambda: finish(db, [outcome])) == (statements, True)
    assert counts(db) == {"finished": 1, "ready": 1, "blocked": 1}


def test_an_heir_spares_the_claim_of_a_hot_key(db, vendor):
    enqueue(db, keyed(db, 3, 1), now=NOW)
    [row] = claim(db, ["*"], limit=9, process_id=ME, now=NOW)
    outcome = execute(db, row, clock=lambda: NOW)
    heir = Heir(Holder(ME, new_id(), NOW), frozenset({row.queue_name}), room=1)

    # Nobody is told: none became ready.
    statements = FINISH[vendor][0] + HAND_ON_HOT[vendor] + INHERIT[vendor]
    assert cost(db, lambda: finish_and_inherit(db, [outcome], heir)) == (statements, True)
    assert counts(db) == {"finished": 1, "claimed": 1, "blocked": 1}


def test_jobs_that_find_no_slot_and_discard_are_one_look(db):
    enqueue(db, keyed(db, 1, 1), now=NOW)
    jobs = keyed(db, 50, 1)
    for job in jobs:
        job.discards_on_conflict = True

    assert cost(db, lambda: enqueue(db, jobs, now=NOW)) == (1, False)


def test_a_dispatch_without_keys_looks_for_keys_once(db, vendor, quiet):
    later = NOW.replace(year=2100)
    enqueue(db, [build(db, run_after=later) for _ in range(20)], now=NOW)

    # What is due, its keys, the taking and the making ready.
    statements = 5 if vendor in ("mysql", "mariadb") else 4
    assert cost(db, lambda: dispatch_due(db, now=later, limit=20)) == (statements, True)


@pytest.mark.parametrize("count", [1, 100])
def test_claim_costs_the_same_for_any_number_of_jobs(db, vendor, count):
    store(db, count=count)

    def work() -> None:
        assert len(claim(db, ["*"], limit=count, process_id=ME, now=NOW)) == count

    assert cost(db, work) == CLAIM[vendor]


@pytest.mark.parametrize("selectors", [["*"], ["a", "b", "c"], ["a", "m*", "*"]])
def test_an_idle_poll_is_one_statement_and_no_transaction(db, selectors):
    store(queue_database("alerts"))
    look = partial(claim, db, selectors, limit=9, process_id=ME, now=NOW)

    assert cost(db, look) == (1, False)


@pytest.mark.parametrize("selector_count", [1, 20])
def test_a_claim_from_the_first_selector_costs_the_same_for_any_number(db, vendor, selector_count):
    names = [f"q{number:02d}" for number in range(selector_count)]
    for name in names:
        store(db, count=3, queue_name=name)

    def work() -> None:
        rows = claim(db, names, limit=3, process_id=ME, now=NOW)
        assert [row.queue_name for row in rows] == ["q00"] * 3

    assert cost(db, work) == CLAIM[vendor]


def test_a_claim_over_all_selectors_locks_once_more_at_most(db, vendor):
    names = [f"q{number:02d}" for number in range(20)]
    for name in names:
        store(db, queue_name=name)

    def work() -> None:
        rows = claim(db, names, limit=50, process_id=ME, now=NOW)
        assert [row.queue_name for row in rows] == names

    statements, in_transaction = CLAIM[vendor]
    one_more = vendor in ("mariadb", "mysql")
    assert cost(db, work) == (statements + one_more, in_transaction)


@pytest.mark.parametrize("selectors", [["*"], ["a*", "*"]])
def test_a_claim_beside_a_paused_queue_costs_little_more(db, vendor, selectors):
    store(db, count=5, queue_name="a1")
    store(db, count=5, queue_name="b", priority=9)
    pause(db, ["b"], now=NOW)

    def work() -> None:
        rows = claim(db, selectors, limit=5, process_id=ME, now=NOW)
        assert [row.queue_name for row in rows] == ["a1"] * 5

    statements, in_transaction = CLAIM[vendor]
    more = IDLE_BESIDE_PAUSES[vendor] - 1 if selectors == ["*"] else 0
    assert cost(db, work) == (statements + more, in_transaction)


@pytest.mark.parametrize("selectors", [["*"], ["q*"], ["q*", "*"], ["q00", "q01"]])
def test_an_idle_poll_beside_many_pauses_costs_no_more_than_beside_one(db, vendor, selectors):
    names = [f"q{number:02d}" for number in range(50)]
    enqueue(db, [build(db, queue_name=name) for name in names], now=NOW)
    pause(db, names, now=NOW)

    def work() -> None:
        assert claim(db, selectors, limit=9, process_id=ME, now=NOW) == []

    assert cost(db, work) == (IDLE_BESIDE_PAUSES[vendor] if selectors == ["*"] else 1, False)


@pytest.mark.parametrize("count", [1, 100])
def test_finish_costs_the_same_for_any_number_of_jobs(db, vendor, count):
    store(db, count=count)
    claimed = claim(db, ["*"], limit=count, process_id=ME, now=NOW)
    outcomes = [execute(db, row, clock=lambda: NOW) for row in claimed]

    def work() -> None:
        assert len(finish(db, outcomes)) == count

    assert cost(db, work) == FINISH[vendor]


@pytest.mark.parametrize("count", [2, 100])
def test_finish_of_successes_and_failures_adds_a_state_and_their_attempts(db, vendor, count):
    store(db, count=count // 2)
    store(db, count=count // 2, task_path="tests.shop.tasks.fail", args=["no"])
    claimed = claim(db, ["*"], limit=count, process_id=ME, now=NOW)
    outcomes = [execute(db, row, clock=lambda: NOW) for row in claimed]

    assert cost(db, lambda: finish(db, outcomes)) == (FINISH[vendor][0] + FAIL[vendor], True)


@pytest.mark.parametrize("count", [4, 100])
def test_finish_of_every_kind_adds_a_statement_per_state_at_most(db, vendor, count, monkeypatch):
    again = {"max_attempts": 2, "task_path": "tests.shop.retries.stumble", "args": ["oh"]}
    store(db, count=count // 4)
    store(db, count=count // 4, **again | {"max_attempts": 1})
    store(db, count=count // 4, **again)
    at_once = again | {"task_path": "tests.shop.retries.stumble_at_once", "args": []}
    store(db, count=count // 4, **at_once)
    claimed = claim(db, ["*"], limit=count, process_id=ME, now=NOW)
    outcomes = [execute(db, row, clock=lambda: NOW) for row in claimed]

    def work() -> None:
        assert len(finish(db, outcomes)) == count

    # PostgreSQL tells the workers of the ready ones, unless it has just done so.
    monkeypatch.setattr(type(engine_for(db)), "wake", lambda *_: None)

    two_more_states = 2 if TWO_TABLES[vendor] == 2 else 0
    assert cost(db, work) == (FINISH[vendor][0] + FAIL[vendor] + two_more_states, True)
    states = {"finished", "failed", "scheduled", "ready"}
    assert counts(db) == dict.fromkeys(states, count // 4)


@pytest.mark.parametrize("state", ["ready", "claimed", "finished", "failed"])
def test_get_result_is_two_statements_in_every_state(db, state):
    [job] = store(db, task_path=f"tests.shop.tasks.{'fail' if state == 'failed' else 'echo'}")
    if state != "ready":
        claimed = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
        if state != "claimed":
            finish(db, [execute(db, row, clock=lambda: NOW) for row in claimed])

    backend = task_backends[db.backend]

    assert cost(db, lambda: backend.get_result(str(job.id))) == (2, False)
