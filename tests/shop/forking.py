"""Tasks that start processes of their own."""

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import time
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

from dj_queue.compat import TaskContext
from dj_queue.routers import queue_database
from dj_queue.tasks import task
from tests.processes.sessions import myself, sessions
from tests.shop.offspring import files_here, report
from tests.shop.recorded import begin


@task
def ask_a_child(method: str) -> list[Any]:
    """Start a child by a method of multiprocessing; give its signals and how much it shares.

    Of some children the one that shares least: another thread may be about to connect.
    """
    for alias in connections:
        connections[alias].ensure_connection()
    databases = [str(connections.databases[alias]["NAME"]) for alias in connections]
    names = [f"{name}{suffix}" for name in databases for suffix in ("", "-wal", "-shm")]
    answers = []
    while len(answers) < 10 and not (answers and answers[-1][1] == 0):
        answers.append(_ask_a_child(method, names))
    return answers[-1]


def _ask_a_child(method: str, names: list[str]) -> list[Any]:
    open_here = files_here(names)
    assert open_here
    processes = multiprocessing.get_context(method)
    source, target = processes.Pipe(duplex=False)
    child = processes.Process(target=report, args=(names, open_here, target))
    child.start()
    target.close()
    answer: list[Any] = source.recv()
    child.join(30)
    return answer


@task
def ask_a_program() -> list[Any]:
    """Give the signal handling of another program, started as a subprocess."""
    command = [sys.executable, "-m", "tests.shop.offspring"]
    done = subprocess.run(command, capture_output=True, check=True)
    answer: list[Any] = json.loads(done.stdout)
    return answer


@task(takes_context=True)
def keep_sessions(context: TaskContext) -> list[Any]:
    """Give the server's sessions before a child used the database, and after; and the child's."""
    alias = queue_database(context.task_result.backend).alias
    before = sessions(alias)
    processes = multiprocessing.get_context("fork")
    source, target = processes.Pipe(duplex=False)
    child = processes.Process(target=use_the_database, args=(alias, target))
    child.start()
    child.join(30)
    time.sleep(0.1)  # The server may take a moment to end what was closed.
    return [before, sessions(alias), source.recv()]


def use_the_database(alias: str, target: Any) -> None:
    """Tell which session this process has, and close all it has."""
    target.send(myself(alias))
    connections.close_all()


@task
def overrun() -> None:
    """Give a pool less time than its work takes."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.apply_async(time.sleep, (600,)).get(timeout=0.2)


@task(takes_context=True)
def come_back_as_two(context: TaskContext, how: str) -> int:
    """Fork; the child leaves the task as well, the parent gives how it ended."""
    begin(context)
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if how == "raise":
        raise ValueError("in the child")
    if how == "exit":
        sys.exit(5)
    return 0


@task(takes_context=True)
async def come_back_as_two_from_a_call(context: TaskContext, how: str) -> int:
    """Do the same in a synchronous call that a coroutine waits for."""
    answer: int = await sync_to_async(come_back_as_two.func)(context, how)
    return answer


@task(takes_context=True)
async def come_back_as_two_coroutines(context: TaskContext, how: str) -> int:
    """Do the same on an event loop."""
    answer: int = come_back_as_two.func(context, how)
    return answer


@task(takes_context=True)
async def go_on_as_two(context: TaskContext) -> int:
    """Fork on an event loop; the child waits for something, as the parent does."""
    begin(context)
    pid = os.fork()
    if not pid:
        await asyncio.sleep(0)
        begin(context)  # It got as far as this.
        await asyncio.sleep(600)
    return os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1])
