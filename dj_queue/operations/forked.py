"""Forked: a process that a task forks ends where it leaves the task, and is no second worker."""

from __future__ import annotations

import os
import traceback

from dj_queue import output


class ForkedProcessesEndHere:
    """End a process that was forked inside the block and leaves it, as a script ends.

    It would go on as a worker with everything that was claimed, and has neither a heartbeat nor a
    connection.
    """

    __slots__ = ("_pid",)

    def __enter__(self) -> None:
        self._pid = os.getpid()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if os.getpid() != self._pid:
            end_process(0 if error is None else _status_of(error))


def _status_of(error: BaseException) -> int:
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        return error.code or 0
    if isinstance(error, SystemExit):
        output.say(str(error.code))
    else:
        output.say("".join(traceback.format_exception(error)).rstrip())
    return 1


def end_process(status: int) -> None:
    """End this process at once, as a script ends."""
    output.flush()
    os._exit(status & 0xFF)
