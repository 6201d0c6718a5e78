"""Whether a task's function takes the arguments of a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from inspect import Signature, signature
from types import FunctionType
from typing import Any

from dj_queue.compat import InvalidTask, Task
from dj_queue.quoting import MAX_ERROR_LENGTH


def require_arguments(
    task: Task, args: Sequence[Any], kwargs: Mapping[str, Any], path: str = ""
) -> None:
    """Raise InvalidTask where calling the task's function with these arguments cannot succeed.

    Where its signature cannot be had, or `__signature__` claims another, anything is taken.
    """
    count = len(args) + task.takes_context
    problem = _problem(task.func, count, tuple(kwargs))
    if problem is not None:
        names = ", ".join(_names(task))
        raise InvalidTask(
            f"{path}expected arguments that {task.module_path} takes ({names}), got: {problem}"
        )


@lru_cache(maxsize=1024)
def _problem(func: Callable[..., Any], count: int, names: tuple[str, ...]) -> str | None:
    """Say what is wrong with so many positional arguments and these keywords, whatever they are.

    Kept, because binding costs as much as the rest of what is asked of a job.
    """
    found = _signature(func)
    if found is None:
        return None
    try:
        found.bind(*[None] * count, **dict.fromkeys(names))
    except TypeError as error:
        return str(error)[:MAX_ERROR_LENGTH]
    return None


def _names(task: Task) -> list[str]:
    found = _signature(task.func)
    return list(found.parameters)[task.takes_context :] if found is not None else []


def _signature(func: Callable[..., Any]) -> Signature | None:
    if type(func) is not FunctionType or hasattr(func, "__signature__"):
        return None
    try:
        # Its own, not that of a function it wraps: a decorator may add arguments, or take some.
        return signature(func, follow_wrapped=False)
    except Exception:  # Of annotations, which are the task's code.
        return None
