"""Ask many databases at once, each within a time limit, so that a silent one delays nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, connections

from dj_queue.quoting import quoted_error

AWAY = (DatabaseError, InterfaceError, ImproperlyConfigured)
"""What a database raises that cannot be asked."""

Answer = TypeVar("Answer")

_lock = threading.Lock()
_asking: dict[tuple[str, Any], dict[threading.Thread, float]] = {}
"""The threads that wait for an answer, with the moment at which it is overdue.

By alias and question: one slow question does not make a database silent to the others.
"""


@dataclass(frozen=True)
class Reply(Generic[Answer]):
    """A database's answer, or the error when it gave none in time."""

    answer: Answer | None = None
    error: str = ""


def survey(
    aliases: Sequence[str], question: Callable[[str], Answer], *, seconds: float
) -> dict[str, Reply[Answer]]:
    """Ask each database in a thread of its own; return a reply for every alias.

    A database is silent when it has not answered this question within `seconds` (> 0). While an
    earlier survey still waits for its overdue answer to the same question, this one waits with it
    before it asks: a database that hangs does not collect threads.
    """
    replies: dict[str, Reply[Answer]] = {}
    deadline = time.monotonic() + seconds
    asked = getattr(question, "func", question)  # What partial() was given.

    def work(alias: str) -> None:
        key = alias, asked
        for thread in _overdue(key):
            thread.join(max(0.0, deadline - time.monotonic()))
        if _overdue(key):
            return
        with _lock:
            _asking.setdefault(key, {})[threading.current_thread()] = deadline
        try:
            replies[alias] = Reply(question(alias))
        except Exception as error:
            replies[alias] = Reply(error=_text_of(error))
        finally:
            with _lock:
                del _asking[key][threading.current_thread()]
            connections[alias].close()

    # Daemons: one that hangs in a connect must not keep the process from ending.
    threads = [threading.Thread(target=work, args=[alias], daemon=True) for alias in aliases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    in_time = dict(replies)
    silent: Reply[Any] = Reply(error=f"nothing within {seconds:g} s")
    return {alias: in_time.get(alias, silent) for alias in aliases}


def _overdue(key: tuple[str, Any]) -> list[threading.Thread]:
    now = time.monotonic()
    with _lock:
        return [thread for thread, due in _asking.get(key, {}).items() if due < now]


def _text_of(error: Exception) -> str:
    if isinstance(error, AWAY):
        return " ".join(str(error).split()) or type(error).__name__
    return quoted_error(error)
