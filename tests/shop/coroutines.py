"""Coroutine tasks of the shop."""

import asyncio
import threading
from contextvars import ContextVar
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.utils import timezone

from dj_queue.compat import TaskContext, task
from dj_queue.models import Job, Pause
from dj_queue.routers import queue_database
from dj_queue.tasks import Retry
from dj_queue.tasks import task as queue_task
from tests.shop.tasks import GATE

AT_GATE: list[str] = []
"""Who waits at the gate, or did: what each was given."""
CLEANED_UP: list[str] = []
SEEN: list[Any] = []
COLOUR: ContextVar[str] = ContextVar("colour", default="none")


@task
async def wait(name: str = "") -> str:
    """Return when the gate opens; note that it was cancelled."""
    AT_GATE.append(name)
    try:
        while not GATE.is_set():
            await asyncio.sleep(0.002)
    except asyncio.CancelledError:
        await asyncio.sleep(0.01)
        CLEANED_UP.append(name)
        raise
    return threading.current_thread().name


@task(takes_context=True)
async def count_jobs(context: TaskContext) -> int:
    """Count the jobs of this backend's database, and note the connection that did it."""
    db = queue_database(context.task_result.backend)
    count = await Job.objects.using(db.alias).acount()
    await sync_to_async(note_connection)(db.alias)
    return count


@task(takes_context=True)
async def use_no_thread(context: TaskContext) -> int:
    """Use the ORM as no coroutine may."""
    return Job.objects.using(queue_database(context.task_result.backend).alias).count()


@task
async def raise_what(name: str) -> None:
    """Raise an exception of each kind, some where no one looks for it."""
    if name == "cancel itself":
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        await asyncio.sleep(60)
    if name == "exit in a task of its own":
        await asyncio.create_task(leave())
    if name == "recursion":
        await raise_what.func(name)
    raise {"exit": SystemExit, "interrupt": KeyboardInterrupt, "cancel": asyncio.CancelledError}[
        name
    ]


@task
async def leave_a_transaction_open(alias: str, raises: bool = False) -> None:
    """Write something, and never commit it."""
    await sync_to_async(begin_and_write)(alias)
    if raises:
        raise ValueError("of its own")


@task
async def begin_raw(alias: str, raises: bool = False) -> None:
    """Begin a transaction that Django knows nothing of, write something, and never commit it."""
    await sync_to_async(begin_raw_and_write)(alias)
    if raises:
        raise ValueError("of its own")


def begin_raw_and_write(alias: str) -> None:
    """Pause a queue in a transaction that is begun by a statement."""
    note_connection(alias)
    connections[alias].cursor().execute("BEGIN")
    Pause.objects.using(alias).create(queue_name="left", paused_at=timezone.now())


def begin_and_write(alias: str) -> None:
    """Begin a transaction and pause a queue in it."""
    note_connection(alias)
    transaction.atomic(using=alias).__enter__()
    Pause.objects.using(alias).create(queue_name="left", paused_at=timezone.now())


@task
async def nap(seconds: float) -> None:
    """Sleep."""
    await asyncio.sleep(seconds)


@queue_task(takes_context=True, max_attempts=3, backoff=0)
async def succeed_at_last(context: TaskContext) -> int:
    """Ask for another attempt until there is none left."""
    if context.attempt < 3:
        raise Retry(after=0)
    return context.attempt


@task
async def colour(name: str) -> str:
    """Return what the context says, and change it."""
    before = COLOUR.get()
    COLOUR.set(name)
    return before


async def leave() -> None:
    """Raise SystemExit."""
    raise SystemExit(3)


def note_connection(alias: str) -> None:
    """Note the connection of this thread, and whether it is open."""
    connection = connections[alias]
    SEEN.append((connection, connection.connection is not None, threading.current_thread()))
