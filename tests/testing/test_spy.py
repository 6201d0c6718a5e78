"""The spy lets nothing pass but to the databases it is told."""

from threading import Thread

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections, transaction
from django.db.utils import ConnectionDoesNotExist

from dj_queue.models import Job
from dj_queue.routers import queue_database
from dj_queue.testing import drain
from dj_queue.testing.spy import Statement, StrayStatement, no_statements, statements_only_on
from tests.shop.models import Order
from tests.shop.tasks import add
from tests.testing.tasks import count_orders

pytestmark = pytest.mark.dj_queue


@pytest.fixture(autouse=True)
def nothing_stays():
    """Fail when a wrapper is left behind."""
    yield
    assert {alias: connections[alias].execute_wrappers for alias in connections} == {
        alias: [] for alias in connections
    }


def test_statements_to_the_databases_named_pass_and_are_given():
    with statements_only_on("queue") as passed:
        add.enqueue(1, 2)

    assert {each.alias for each in passed} == {"queue"}
    assert any("dj_queue_job" in each.sql for each in passed)


def test_a_statement_elsewhere_is_refused_with_alias_and_sql():
    with (
        pytest.raises(StrayStatement) as raised,
        statements_only_on("queue", "bulk") as passed,
    ):
        connections["default"].cursor().execute("SELECT 1")

    assert str(raised.value) == (
        "expected no statement but on 'queue', 'bulk', got one on 'default': SELECT 1"
    )
    assert passed == []


def test_no_statement_at_all_may_pass():
    with pytest.raises(StrayStatement) as raised, no_statements():
        connections["bulk"].cursor().execute("SELECT 1")

    assert str(raised.value) == "expected no statement, got one on 'bulk': SELECT 1"
    with no_statements():
        Order.objects.filter(pk=1)


def test_a_refused_statement_does_not_reach_the_database():
    with pytest.raises(StrayStatement), statements_only_on("default"), transaction.atomic():
        add.enqueue(1, 2)

    assert not queue_database("default").objects(Job).exists()


def test_a_savepoint_is_a_statement():
    with (
        pytest.raises(StrayStatement, match="got one on 'default': SAVEPOINT"),
        statements_only_on("queue"),
        transaction.atomic(),
    ):
        pass


def test_a_refusal_that_was_caught_is_told_at_the_end():
    """A worker, for one, takes whatever a task raises for the task's own failure."""
    count_orders.enqueue()

    with (
        pytest.raises(StrayStatement, match="but on 'queue', 'bulk', got one on 'default': SEL"),
        statements_only_on("queue", "bulk"),
    ):
        (result,) = drain()

    assert result.errors[0].exception_class is StrayStatement


def test_a_refusal_that_was_caught_is_added_to_another_error():
    with pytest.raises(ZeroDivisionError) as raised, no_statements():
        try:
            Order.objects.count()
        except StrayStatement:
            raise ZeroDivisionError from None

    assert "got one on 'default': SELECT COUNT" in raised.value.__notes__[0]


def test_spies_nest():
    with statements_only_on("queue", "default") as outer:
        with statements_only_on("queue") as inner:
            connections["queue"].cursor().execute("SELECT 1")
        connections["default"].cursor().execute("SELECT 2")

    assert inner == [Statement("queue", "SELECT 1")]
    assert outer == [Statement("queue", "SELECT 1"), Statement("default", "SELECT 2")]


def test_wrappers_of_others_are_left_alone():
    def wrapper(execute, *args):
        return execute(*args)

    spy = statements_only_on("queue")
    with connections["queue"].execute_wrapper(wrapper):
        spy.__enter__()
    assert wrapper not in connections["queue"].execute_wrappers
    spy.__exit__(None, None, None)


def test_an_unknown_alias_is_refused():
    with pytest.raises(ConnectionDoesNotExist, match="blk"):
        statements_only_on("blk")


def test_asynchronous_statements_are_watched():
    async def work():
        async with statements_only_on("queue") as passed:
            await add.aenqueue(1, 2)
            await Order.objects.acount()
        return passed

    with pytest.raises(StrayStatement, match="got one on 'default'"):
        async_to_sync(work)()


def test_asynchronous_statements_pass_where_they_may():
    async def work():
        async with statements_only_on("queue") as passed:
            await add.aenqueue(1, 2)
            await sync_to_async(Order.objects.all)()
        return passed

    assert {each.alias for each in async_to_sync(work)()} == {"queue"}


@pytest.mark.django_db(transaction=True)
def test_a_thread_that_connects_meanwhile_is_watched():
    refused = []

    def work():
        try:
            Order.objects.count()
        except StrayStatement as error:
            refused.append(error)
        finally:
            connections.close_all()

    with pytest.raises(StrayStatement, match="got one on 'default'"), statements_only_on("queue"):
        thread = Thread(target=work)
        thread.start()
        thread.join()

    assert len(refused) == 1
