"""How many statements an operation sends: constant, whatever the number of jobs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from dj_queue.compat import task_backends
from dj_queue.operations.claim import claim
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY, ME, NOW, build, store
from tests.shop import tasks

# Real transactions: BEGIN and COMMIT are counted too.
pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

# Statements, and the transaction around them where there is one (BEGIN and COMMIT).
ENQUEUE = {"postgresql": (1, False), "mariadb": (2, True), "mysql": (2, True), "sqlite": (2, True)}
# SQLite looks before it takes the write lock; the others take, insert and load the payload.
CLAIM = {"postgresql": (1, False), "mariadb": (4, True), "mysql": (4, True), "sqlite": (4, True)}
EMPTY = {"postgresql": (1, False), "mariadb": (1, True), "mysql": (1, True), "sqlite": (1, False)}
# MySQL has no DELETE … RETURNING: it locks, then deletes.
FINISH = {"postgresql": 2, "mariadb": 2, "mysql": 3, "sqlite": 2}


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


@pytest.mark.parametrize("count", [10, 1000])
def test_enqueue_all_costs_the_same_for_any_number_of_jobs(db, vendor, count):
    backend = task_backends[db.backend]
    calls = [(tasks.add.using(backend=db.backend), (n, n), {}) for n in range(count)]

    assert cost(db, lambda: backend.enqueue_all(calls)) == ENQUEUE[vendor]


def test_enqueue_of_ready_and_scheduled_jobs_adds_one_table(db, vendor):
    jobs = [build(db), build(db, run_after=NOW.replace(year=2100))]
    one_more = 0 if vendor == "postgresql" else 1

    statements, _ = cost(db, lambda: enqueue(db, jobs, now=NOW))

    assert statements == ENQUEUE[vendor][0] + one_more


@pytest.mark.parametrize("count", [1, 100])
def test_claim_costs_the_same_for_any_number_of_jobs(db, vendor, count):
    store(db, count=count)

    def work() -> None:
        assert len(claim(db, ["*"], limit=count, process_id=ME, now=NOW)) == count

    assert cost(db, work) == CLAIM[vendor]


def test_an_empty_claim_is_one_statement(db, vendor):
    assert cost(db, lambda: claim(db, ["*"], limit=9, process_id=ME, now=NOW)) == EMPTY[vendor]


@pytest.mark.parametrize("count", [1, 100])
def test_finish_costs_the_same_for_any_number_of_jobs(db, vendor, count):
    store(db, count=count)
    claimed = claim(db, ["*"], limit=count, process_id=ME, now=NOW)
    outcomes = [execute(db, row, clock=lambda: NOW) for row in claimed]

    def work() -> None:
        assert len(finish(db, outcomes)) == count

    assert cost(db, work) == (FINISH[vendor], True)


@pytest.mark.parametrize("count", [2, 100])
def test_finish_of_successes_and_failures_adds_a_state_and_their_attempts(db, vendor, count):
    store(db, count=count // 2)
    store(db, count=count // 2, task_path="tests.shop.tasks.fail", args=["no"])
    claimed = claim(db, ["*"], limit=count, process_id=ME, now=NOW)
    outcomes = [execute(db, row, clock=lambda: NOW) for row in claimed]

    assert cost(db, lambda: finish(db, outcomes)) == (FINISH[vendor] + 2, True)


@pytest.mark.parametrize("state", ["ready", "claimed", "finished", "failed"])
def test_get_result_is_two_statements_in_every_state(db, state):
    [job] = store(db, task_path=f"tests.shop.tasks.{'fail' if state == 'failed' else 'echo'}")
    if state != "ready":
        claimed = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
        if state != "claimed":
            finish(db, [execute(db, row, clock=lambda: NOW) for row in claimed])

    backend = task_backends[db.backend]

    assert cost(db, lambda: backend.get_result(str(job.id))) == (2, False)
