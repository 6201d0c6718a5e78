"""How many statements an operation sends: constant, whatever the number of jobs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from dj_queue.compat import task_backends
from dj_queue.operations.claim import claim
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.operations.pauses import pause
from dj_queue.routers import QueueDatabase, queue_database
from tests.jobs import EVERY, ME, NOW, build, store
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
# All but PostgreSQL look before they lock; then they take, insert and load the payload. MySQL and
# MariaDB take in two: they cannot skip locked rows in a DELETE.
CLAIM = {"postgresql": (1, False), "mariadb": (5, True), "mysql": (5, True), "sqlite": (4, True)}
# MySQL has no DELETE … RETURNING: it locks, then deletes.
FINISH = {"postgresql": (1, False), "mariadb": (2, True), "mysql": (3, True), "sqlite": (2, True)}
# To take the failures, to insert them and their attempts.
FAIL = {"postgresql": 3, "mariadb": 3, "mysql": 4, "sqlite": 3}
# A vendor that reads every row for the names of the queues asks for one name at a time.
QUEUE_BY_QUEUE = {"mariadb"}


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
    controls = [sql for sql in queries if sql.startswith(("BEGIN", "COMMIT"))]
    sent.in_transaction = [sql.split()[0] for sql in controls] == ["BEGIN", "COMMIT"]
    assert sent.in_transaction or not controls
    sent.statements = [sql for sql in queries if sql not in controls]


@pytest.fixture
def vendor(db: QueueDatabase, vendor_by_alias: dict[str, str]) -> str:
    return vendor_by_alias[db.alias]


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
    assert len(sent.statements) == (1 if vendor == "postgresql" else 4)


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

    # The pauses and the names of the queues: "a1", "b" and that there is no other.
    more = 0 if vendor in ("postgresql", "sqlite") else 4 if vendor in QUEUE_BY_QUEUE else 2
    assert cost(db, work) == (CLAIM[vendor][0] + more, CLAIM[vendor][1])


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


@pytest.mark.parametrize("state", ["ready", "claimed", "finished", "failed"])
def test_get_result_is_two_statements_in_every_state(db, state):
    [job] = store(db, task_path=f"tests.shop.tasks.{'fail' if state == 'failed' else 'echo'}")
    if state != "ready":
        claimed = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
        if state != "claimed":
            finish(db, [execute(db, row, clock=lambda: NOW) for row in claimed])

    backend = task_backends[db.backend]

    assert cost(db, lambda: backend.get_result(str(job.id))) == (2, False)
