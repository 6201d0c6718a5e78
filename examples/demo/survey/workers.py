"""The worker processes: `manage.py dj_queue`, one for each queue database."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TextIO

from django.conf import settings

from dj_queue.routers.registry import backends_on, databases

STOP_SECONDS = 15.0


class DirectoryRefused(Exception):
    """Another demo is at work there, or it cannot be written to; the message is for the user."""


class WorkerEnded(Exception):
    """A worker ended though nobody told it to; the message is for the user."""


@contextmanager
def locked(directory: Path) -> Iterator[TextIO]:
    """Make `directory` and keep other demos away from it; raise DirectoryRefused."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "demo.lock").open("a+")
    except OSError as error:
        raise DirectoryRefused(
            f"expected DJ_QUEUE_DEMO_VAR to be a directory to write to, got {directory}: {error}"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            processes = lock.read()
            raise DirectoryRefused(
                f"another demo is at work in {directory}; end it first: kill {processes}"
            ) from None
        _note_processes(lock, [])
        yield lock


@contextmanager
def workers(log: Path, lock: TextIO) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run a worker for each queue database; all have ended when the block is left.

    They write to `log` and hold `lock`: it stays taken should they outlive this process.
    """
    running: list[subprocess.Popen[bytes]] = []
    with log.open("wb") as output:
        try:
            for alias in databases():
                running.append(_start(alias, output, lock))
                _note_processes(lock, running)
            yield running
        finally:
            _stop(running)
            _note_processes(lock, [])


def look_after(running: list[subprocess.Popen[bytes]], log: Path) -> None:
    """Raise WorkerEnded, with what it wrote last, when one of the workers has ended."""
    for worker in running:
        status = worker.poll()
        if status is not None:
            wrote = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise WorkerEnded(f"a worker ended with status {status}; its log, {log}:\n{wrote}")


def _note_processes(lock: TextIO, running: list[subprocess.Popen[bytes]]) -> None:
    lock.seek(0)
    lock.truncate()
    lock.write(" ".join(str(pid) for pid in (os.getpid(), *(each.pid for each in running))))
    lock.flush()


def _start(alias: str, output: IO[bytes], lock: TextIO) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "dj_queue"]
    for backend in backends_on(alias):
        command += ["--backend", backend]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=[lock.fileno()],
        # Ctrl-C reaches the terminal's whole group, and a second signal would end the drain.
        start_new_session=True,
    )


def _stop(running: list[subprocess.Popen[bytes]]) -> None:
    try:
        for worker in running:
            worker.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for worker in running:
            with suppress(subprocess.TimeoutExpired):
                worker.wait(max(0.0, deadline - time.monotonic()))
    finally:  # Also when a second Ctrl-C cuts the wait short.
        for worker in running:
            worker.kill()
            worker.wait()
