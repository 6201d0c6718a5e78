"""The `task` decorator: Django's, and how often, when again and beside what a job is run."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, Literal, Self, TypeVar, get_args, overload

from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils.module_loading import import_string

from dj_queue import parsers, timezone
from dj_queue.compat import DummyBackend, ImmediateBackend, InvalidTask, Task, TaskResult
from dj_queue.compat import task as django_task
from dj_queue.engines.clock import enqueueing
from dj_queue.keys import Concurrency, checked
from dj_queue.quoting import quoted
from dj_queue.routers import queue_database
from dj_queue.routers.registry import routes

__all__ = ["DELAY", "Concurrency", "QueueTask", "Retry", "RetryPolicy", "task"]

MOST_ATTEMPTS = 1000
ATTEMPTS = parsers.whole(1, MOST_ATTEMPTS)
DELAY = parsers.seconds(0, 31_536_000)  # a year at the most

RULES = {"backoff", "retry_on", "give_up_on"}

Growth = Literal["constant", "linear", "exponential"]
AnyTask = TypeVar("AnyTask", bound=Task)
ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]


class Retry(Exception):
    """Raised by a task to be run again; counts as an attempt and is recorded as one.

    `after` says when: seconds or a timedelta, up to a year, or a datetime, which is aware unless
    USE_TZ is off. None leaves it to the task's backoff. With no attempt left the job fails with
    this error.
    """

    def __init__(
        self,
        reason: str = "the task asked to be run again",
        *,
        after: float | timedelta | datetime | None = None,
    ) -> None:
        super().__init__(reason)
        if isinstance(after, datetime):
            checked(parsers.moment, after, "after", ValueError)
            if settings.USE_TZ and after.utcoffset() is None:
                raise ValueError(f"after: expected an aware datetime, got {quoted(after)}")
        elif after is not None:
            number = after.total_seconds() if isinstance(after, timedelta) else after
            after = timedelta(seconds=checked(DELAY, number, "after", ValueError))
        self.after = after


@dataclass(frozen=True)
class RetryPolicy:
    """How long a failed job waits for its next attempt.

    The first wait is `seconds`. It stays so (constant), grows by as much each time (linear) or
    doubles (exponential), up to `ceiling` seconds. `jitter`, from 0 to 1, is how much of a wait
    may be left off by chance: jobs that failed together do not come back together.

    To wait otherwise, override `base_seconds`.
    """

    growth: Growth = "exponential"
    seconds: float = 10
    ceiling: float = 3600
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if self.growth not in get_args(Growth):
            kinds = ", ".join(map(repr, get_args(Growth)))
            raise InvalidTask(f"growth: expected one of {kinds}, got {quoted(self.growth)}")
        checked(DELAY, self.ceiling, "ceiling")
        checked(parsers.seconds(0, self.ceiling), self.seconds, "seconds")
        is_number = isinstance(self.jitter, int | float) and not isinstance(self.jitter, bool)
        if not is_number or not 0 <= self.jitter <= 1:
            raise InvalidTask(f"jitter: expected a number from 0 to 1, got {quoted(self.jitter)}")

    def base_seconds(self, attempt: int) -> float:
        """Return the wait after this attempt, counted from 1, before ceiling and jitter."""
        match self.growth:
            case "constant":
                return self.seconds
            case "linear":
                return self.seconds * attempt
            case "exponential":  # A float has no room for more than 1,023 doublings.
                return self.seconds * 2.0 ** min(attempt - 1, MOST_ATTEMPTS)

    def delay_seconds(self, attempt: int, *, draw: Callable[[], float] = random.random) -> float:
        """Return the wait after this attempt, from 0 to `ceiling`; `draw` gives 0 up to 1."""
        longest = max(min(self.base_seconds(attempt), self.ceiling), 0)
        return longest * (1 - self.jitter * draw())


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTask(Task):
    """A Task that says how often its jobs are attempted, when again, and beside which others.

    `backoff` may be given as a number of seconds, the same after every attempt. An error is
    retried when it is one of `retry_on` and none of `give_up_on`.
    """

    max_attempts: int = 1
    backoff: RetryPolicy = field(default_factory=RetryPolicy)
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()
    concurrency: Concurrency | None = None

    def __post_init__(self) -> None:
        checked(ATTEMPTS, self.max_attempts, "max_attempts")
        object.__setattr__(self, "backoff", _policy(self.backoff))
        for name in ("retry_on", "give_up_on"):
            object.__setattr__(self, name, _error_types(getattr(self, name), name))
        if self.concurrency is not None and not isinstance(self.concurrency, Concurrency):
            raise InvalidTask(
                f"concurrency: expected a Concurrency, got {quoted(self.concurrency)}"
            )
        if self.max_attempts > 1:
            self._require_ours("max_attempts", "1", self.max_attempts, "attempts a job again")
        if self.concurrency is not None:
            self._require_ours("concurrency", "None", self.concurrency, "keeps jobs apart")
        if is_relative(self):
            timed(self, timezone.now())  # Other backends than ours know moments only.
        else:
            Task.__post_init__(self)  # Not super(): it does not know a class with slots.
        if self.concurrency is not None:
            self.concurrency.require_arguments(self)

    def __reduce__(self) -> tuple[Callable[..., Task], tuple[Any, ...]]:
        # The function cannot be pickled: at its path stands the task.
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return _rebuilt, (type(self), self.module_path, values | {"func": None})

    def using(
        self,
        *,
        max_attempts: int | None = None,
        concurrency: Concurrency | None = None,
        **changes: Any,
    ) -> Self:
        """Return a task with these values changed; the rest as Django's `using`.

        Only what is stored with a job can differ from the decorator's: `backoff`, `retry_on` and
        `give_up_on` are refused with a TypeError, for they are read from the code when an attempt
        fails, and would be without effect.
        """
        for name in RULES & changes.keys():
            raise TypeError(
                f"{name}: expected in the decorator, where a failed attempt looks for it, got it "
                "in using(), which changes single jobs"
            )
        given = {"max_attempts": max_attempts, "concurrency": concurrency}
        own: Any = {name: value for name, value in given.items() if value is not None}
        changed: Any = Task.using(self, **changes) if changes or not own else self
        return replace(changed, **own) if own else changed

    def enqueue(self, *args: Any, **kwargs: Any) -> TaskResult:
        """Enqueue a job, as Django's; a `run_after` that is a timedelta counts from now."""
        return Task.enqueue(self._timed(), *args, **kwargs)

    async def aenqueue(self, *args: Any, **kwargs: Any) -> TaskResult:
        """As enqueue."""
        task = await sync_to_async(self._timed)() if is_relative(self) else self
        return await Task.aenqueue(task, *args, **kwargs)

    def _timed(self) -> Self:
        """Return the task with a moment as `run_after`, by the clock of its queue database."""
        if not is_relative(self):
            return self
        is_ours = self.backend in routes()
        now = enqueueing(queue_database(self.backend)) if is_ours else timezone.now()
        return timed(self, now)

    def _require_ours(self, name: str, plain: str, value: object, what: str) -> None:
        """Raise where what only our backends know is asked of another."""
        backend = self.get_backend()
        # Django's own two are for development and tests: a project's tasks must pass there.
        if self.backend in routes() or isinstance(backend, ImmediateBackend | DummyBackend):
            return
        raise InvalidTask(
            f"{name}: expected {plain} on backend {self.backend!r}, which is a "
            f"{type(backend).__name__}, got {value}: only a backend of dj_queue "
            f"({', '.join(map(repr, routes()))}) {what}"
        )


@overload
def task(function: Callable[..., Any], /) -> QueueTask: ...


@overload
def task(
    *,
    max_attempts: int = 1,
    backoff: RetryPolicy | float = ...,
    retry_on: ErrorTypes = ...,
    give_up_on: ErrorTypes = ...,
    concurrency: Concurrency | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], QueueTask]: ...


def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a task, as Django's decorator does, with what QueueTask adds.

    Raises InvalidTask when a value is out of bounds, or is none for the task's backend.
    """
    names = {each.name for each in fields(QueueTask)} - {each.name for each in fields(Task)}
    own = {name: options.pop(name) for name in names & options.keys()}

    def wrap(func: Callable[..., Any]) -> QueueTask:
        made: Any = django_task(**options)(func)
        kind = type(made) if isinstance(made, QueueTask) else QueueTask
        return kind(**{each.name: getattr(made, each.name) for each in fields(made)} | own)

    return wrap if function is None else wrap(function)


def is_relative(task: Task) -> bool:
    """Tell whether `run_after` counts from the enqueue; to Django it is a datetime."""
    return isinstance(task.run_after, timedelta)


def timed(task: AnyTask, now: datetime) -> AnyTask:
    """Return the task with a moment as `run_after`, counted from `now` if it is a timedelta."""
    if not is_relative(task):
        return task
    delay: Any = task.run_after
    try:
        return replace(task, run_after=timezone.for_project(now + delay))
    except OverflowError:
        raise InvalidTask(
            f"run_after: expected a timedelta that ends in the years {parsers.FIRST_YEAR} to "
            f"{parsers.LAST_YEAR}, got {delay!r}"
        ) from None


def _policy(value: Any) -> RetryPolicy:
    if isinstance(value, RetryPolicy):
        return value
    number = checked(DELAY, value, "backoff")
    return RetryPolicy("constant", seconds=number, ceiling=number, jitter=0)


def _error_types(value: Any, name: str) -> tuple[type[BaseException], ...]:
    kinds = tuple(value) if isinstance(value, list | tuple) else (value,)
    for kind in kinds:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise InvalidTask(f"{name}: expected exception classes, got {quoted(kind)}")
    return kinds


def _rebuilt(kind: type[Task], path: str, values: dict[str, Any]) -> Task:
    return kind(**values | {"func": import_string(path).func})
