"""Tasks that no task should be like."""

import os

from django.db import connections, transaction

from dj_queue.compat import TaskContext
from dj_queue.routers import queue_database
from dj_queue.tasks import task
from tests.shop.models import Order
from tests.shop.recorded import await_quiet, begin, pass_gate


class Outlaw(BaseException):
    """Is caught by nobody who catches Exception."""


@task(takes_context=True)
def leave_a_transaction_open(context: TaskContext, alias: str) -> None:
    """Write something, and never commit it."""
    begin(context)
    transaction.atomic(using=alias).__enter__()
    if alias == "default":
        Order.objects.create(reference=f"lost {context.task_result.id}")


@task(takes_context=True)
def leave_autocommit_off(context: TaskContext, alias: str) -> None:
    """Begin a transaction in the other way, and never commit it."""
    begin(context)
    transaction.set_autocommit(False, using=alias)
    connections[alias].cursor().execute("SELECT 1")


@task(takes_context=True)
def break_the_connection(context: TaskContext, alias: str) -> None:
    """Close the driver's connection under Django's, and go on with it."""
    begin(context)
    connections[alias].ensure_connection()
    connections[alias].connection.close()
    connections[alias].cursor().execute("SELECT 1")


@task(takes_context=True)
def raise_what_nobody_catches(context: TaskContext, name: str) -> None:
    """Raise an exception of that name, which is no Exception."""
    begin(context)
    raise {
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "GeneratorExit": GeneratorExit(),
        "Outlaw": Outlaw("no law"),
    }[name]


@task(takes_context=True)
def recurse(context: TaskContext) -> None:
    """Call itself without end."""
    begin(context)

    def deeper(depth: int) -> int:
        return deeper(depth + 1) + 1

    deeper(0)


@task(takes_context=True, backoff=0)
def vanish(context: TaskContext, gate: str | None = None, status: int = 7) -> str:
    """End the process as nobody should, at the first attempt."""
    begin(context)
    if context.attempt == 1:
        if gate is None:
            await_quiet(context)
        else:
            pass_gate(gate)
        os._exit(status)
    return "came back"


@task(takes_context=True)
def write_an_order(context: TaskContext, reference: str) -> str:
    """Write as an ordinary task does, to the application's database and to the queue's."""
    begin(context)
    Order.objects.create(reference=reference)
    db = queue_database(context.task_result.backend)
    with db.atomic(), db.cursor() as cursor:
        cursor.execute("SELECT 1")
    return reference
