"""Tasks that no task should be like."""

import ctypes
import os
import signal
import threading

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
def begin_raw(context: TaskContext, alias: str, raises: bool = False) -> None:
    """Begin a transaction that Django knows nothing of, and never commit it."""
    begin(context)
    connections[alias].cursor().execute("BEGIN")
    if alias == "default":
        Order.objects.create(reference=f"lost {context.task_result.id}")
    if raises:
        raise ValueError("beside that")


@task(takes_context=True)
def run_statements(context: TaskContext, alias: str, statements: list[str]) -> None:
    """Run SQL as it is."""
    begin(context)
    for statement in statements:
        connections[alias].cursor().execute(statement)


@task(takes_context=True)
def use_transactions(context: TaskContext, alias: str) -> None:
    """Begin and end transactions as Django does, one inside another, and enqueue jobs."""
    begin(context)
    with transaction.atomic(using=alias):
        connections[alias].cursor().execute("SELECT 1")
        try:
            with transaction.atomic(using=alias):
                raise ValueError("undone")
        except ValueError:
            pass
    again = write_an_order.using(backend=context.task_result.backend)
    again.get_backend().enqueue_all([(again, [f"order {number}"], {}) for number in range(3)])


@task(takes_context=True)
def turn_autocommit_off_raw(context: TaskContext, alias: str) -> None:
    """Turn autocommit off at the driver, below Django."""
    begin(context)
    connection = connections[alias]
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        connection.connection.isolation_level = ""
    elif connection.vendor == "mysql":
        connection.cursor().execute("SET autocommit = 0")
    else:
        connection.connection.autocommit = False


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
def kill_everything(context: TaskContext) -> None:
    """Kill all processes of the command, at the first attempt only."""
    begin(context)
    await_quiet(context)
    if context.attempt == 1:
        os.killpg(0, signal.SIGKILL)


@task(takes_context=True)
def hold_the_interpreter(context: TaskContext) -> None:
    """Let no other thread of this process run any more."""
    begin(context)
    ctypes.PyDLL(None).sleep(600)


@task(takes_context=True)
def end_threads(context: TaskContext, name: str) -> None:
    """End the threads of this process that are called so, as an asynchronous exception does."""
    begin(context)
    for thread in threading.enumerate():
        if thread.name.startswith(name):
            ident, error = ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error)


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
