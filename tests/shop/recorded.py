"""Tasks that write down each call: for tests of what other processes do."""

import asyncio
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from uuid import UUID

from dj_queue.compat import TaskContext
from dj_queue.models import ClaimedExecution
from dj_queue.routers import queue_database
from dj_queue.tasks import task
from tests.processes.sessions import myself

VARIABLE = "DJ_QUEUE_TEST_RECORDS"
BEGAN = "began"
GATE_SECONDS = 120


def begin(context: TaskContext) -> None:
    """Write down that a call began, where there is a place; a kill cannot tear one write."""
    if VARIABLE not in os.environ:
        return
    line = f"{context.task_result.id} {context.attempt} {os.getpid()}\n"
    target = os.open(directory() / BEGAN, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(target, line.encode())
    finally:
        os.close(target)


def pass_gate(gate: str) -> None:
    """Wait until the test opens a gate."""
    deadline = time.monotonic() + GATE_SECONDS
    while not (directory() / gate).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the gate {gate} stayed shut")
        time.sleep(0.005)


@task(takes_context=True, backoff=0)
def note(context: TaskContext) -> int:
    """Return the process that ran it."""
    begin(context)
    return os.getpid()


@task(takes_context=True, backoff=0)
async def note_coroutine(context: TaskContext) -> int:
    """Do the same on an event loop."""
    begin(context)
    return os.getpid()


@task(takes_context=True, backoff=0)
def hold(context: TaskContext, gate: str) -> int:
    """Run until the test opens a gate."""
    begin(context)
    pass_gate(gate)
    return os.getpid()


@task(takes_context=True, backoff=0)
def signal_myself(context: TaskContext, number: int) -> str:
    """Send a signal to this process, at the first attempt only, when it is quiet."""
    begin(context)
    if context.attempt == 1:
        await_quiet(context)
        # By this thread: sent to the process, it may run on until another one has taken it.
        signal.pthread_kill(threading.get_ident(), number)
    return f"attempt {context.attempt}"


ENDINGS = {"none": None, "small": {"a": [1, "é"]}, "large": "x" * 1000}


@task(takes_context=True, backoff=0)
def ending(context: TaskContext, how: str) -> object:
    """End in some way when the test opens the gate."""
    begin(context)
    pass_gate("end")
    return _end(how)


@task(takes_context=True, backoff=0)
async def ending_coroutine(context: TaskContext, how: str) -> object:
    """Do the same on an event loop."""
    begin(context)
    while not (directory() / "end").exists():
        await asyncio.sleep(0.005)
    return _end(how)


def _end(how: str) -> object:
    if how == "raise":
        raise ValueError("no such order")
    return ENDINGS[how]


@task(takes_context=True)
def leave_an_orphan(context: TaskContext) -> None:
    """Start a process whose parent ends before it does."""
    begin(context)
    subprocess.run(["/bin/sh", "-c", "sleep 0.2 &"], check=True)


@task(takes_context=True, backoff=0)
def use_the_queue(context: TaskContext, gate: str) -> int:
    """Ask the queue database for this connection's number, and once more behind the gate."""
    begin(context)
    db = queue_database(context.task_result.backend)
    number = myself(db.alias)
    (directory() / f"{gate}.session").write_text(str(number))
    pass_gate(gate)
    return myself(db.alias)


def await_quiet(context: TaskContext) -> None:
    """Return when what this process ran before is recorded and it is in no transaction.

    For a task that runs alone in its process: others may be claimed ahead of it.
    """
    db = queue_database(context.task_result.backend)
    lines = (directory() / BEGAN).read_text().splitlines()
    begun = {UUID(line.split()[0]) for line in lines} - {UUID(context.task_result.id)}
    while db.objects(ClaimedExecution).filter(job_id__in=begun).exists():
        time.sleep(0.002)
    # Where there is one writer at a time, this thread is it now, and no other is.
    with db.atomic():
        pass


def directory() -> Path:
    """Give where the test finds what is written down."""
    return Path(os.environ[VARIABLE])
