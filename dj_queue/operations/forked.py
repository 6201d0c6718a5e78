"""Forked: a process that a task forks ends where it leaves the task, and is no second worker."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def forked_processes_end_here() -> Iterator[None]:
    """End a process that was forked inside the block and leaves it, as a script ends.

    It would go on as a worker with everything that was claimed, and has neither a heartbeat nor a
    connection.
    """
    pid = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() != pid:
            _end(_status_of(error))
        raise
    if os.getpid() != pid:
        _end(0)


def _status_of(error: BaseException) -> int:
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        return error.code or 0
    if isinstance(error, SystemExit):
        print(error.code, file=sys.stderr)
    else:
        traceback.print_exception(error)
    return 1


def _end(status: int) -> None:
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status & 0xFF)
