"""Transactions that Django knows nothing of: begun by SQL, or at the driver, and never ended."""

import pytest
from django.db import connections, transaction

from dj_queue.compat import task_started
from dj_queue.operations.claim import claim
from dj_queue.operations.execute import execute
from tests.jobs import EVERY, ME, NOW, store
from tests.races.together import together
from tests.runtime.test_receivers import receiving
from tests.shop.models import Order

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

LEFT_OPEN = "dj_queue.exceptions.TransactionLeftOpen"


@pytest.fixture(params=["default", "queue"])
def alias(request):
    """Give an alias whose connection is as if no job had been before, and does not stay open."""
    connections[request.param].close()
    yield request.param
    connections[request.param].close()


def outcome_of(db, name, *args):
    store(db, task_path=f"tests.shop.misbehaving.{name}", args=args)
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    return execute(db, row, clock=lambda: NOW)


def orders():
    """Give the orders that are committed: those that another connection sees."""
    found = []
    together([lambda: found.extend(Order.objects.values_list("reference", flat=True))])
    return [each for each in found if not each.startswith("lost")]


@pytest.mark.parametrize("name", ["begin_raw", "turn_autocommit_off_raw"])
def test_a_transaction_begun_past_django_fails_its_job_and_swallows_no_later_one(db, alias, name):
    outcomes = [outcome_of(db, name, alias) for _ in range(2)]
    later = outcome_of(db, "write_an_order", "later")

    assert [each.failure.exception_path for each in outcomes] == [LEFT_OPEN] * 2
    assert f"got one left open on '{alias}'" in outcomes[0].failure.message
    assert later.failure is None
    assert orders() == ["later"]


def test_one_beside_which_the_task_raised_is_rolled_back_and_logged(db, alias, events):
    outcome = outcome_of(db, "begin_raw", alias, True)
    outcome_of(db, "write_an_order", "later")

    assert outcome.failure.exception_path == "builtins.ValueError"
    assert events() == [("transaction_left_open", {"database": alias})]
    assert orders() == ["later"]


@pytest.mark.parametrize(
    "statements",
    [
        ["BEGIN", "SELECT 1", "ROLLBACK"],
        ["BEGIN", "SELECT 1; ", "COMMIT"],
        ["SELECT 1"],
        ["SELECT ';'"],
    ],
    ids=str,
)
def test_one_that_the_task_ends_by_itself_is_its_own_affair(db, alias, statements):
    outcome = outcome_of(db, "run_statements", alias, statements)

    assert outcome.failure is None


@pytest.mark.parametrize("statements", [["BEGIN", "no sql"], ["/* why */ begin", "SELECT 1"]])
def test_one_is_found_whatever_became_of_it(db, alias, statements, events):
    outcome = outcome_of(db, "run_statements", alias, statements)

    assert outcome.failure is not None
    is_quiet = outcome.failure.exception_path == LEFT_OPEN
    assert is_quiet or [name for name, _ in events()] == ["transaction_left_open"]
    assert not connections[alias].in_atomic_block
    outcome_of(db, "write_an_order", "later")
    assert orders() == ["later"]


def test_one_of_a_receiver_of_task_started_fails_the_job(db, alias):
    def receiver():
        connections[alias].cursor().execute("BEGIN")

    with receiving(task_started, receiver):
        outcome = outcome_of(db, "run_statements", alias, [])
    outcome_of(db, "write_an_order", "later")

    assert outcome.failure.exception_path == LEFT_OPEN
    assert orders() == ["later"]


def test_transactions_of_django_and_enqueues_are_not_taken_for_one(db, alias):
    outcome = outcome_of(db, "use_transactions", alias)

    assert outcome.failure is None
    with transaction.atomic(using=alias):
        assert outcome_of(db, "write_an_order", "inside").failure is None
