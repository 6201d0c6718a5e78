"""Execute: run the task of one claimed job and say what came of it. Writes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import DatabaseError, InterfaceError

from dj_queue.compat import (
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultStatus,
    task_started,
)
from dj_queue.exceptions import (
    InvalidArguments,
    InvalidReturnValue,
    NotSerializable,
)
from dj_queue.models import ClaimedExecution
from dj_queue.models.fields import normalize_json
from dj_queue.operations.failure import Failure
from dj_queue.operations.forked import ForkedProcessesEndHere
from dj_queue.operations.left_open import (
    end_and_log_transactions,
    end_transactions,
    ended_transactions,
)
from dj_queue.operations.receivers import sender_of, tell_here
from dj_queue.operations.retry import next_attempt_at
from dj_queue.quoting import quoted
from dj_queue.results import (
    attempts_of,
    described_task,
    errors_of,
    is_loaded,
    running_result,
)
from dj_queue.routers import Database, QueueDatabase
from dj_queue.timezone import for_project

LastCall = Callable[[Callable[[], None]], Awaitable[None]]
"""Makes a call in the thread that a coroutine had for its synchronous calls, if it had one."""


@dataclass(slots=True, eq=False)  # Not frozen: that costs each job as much as its state's row.
class Outcome:
    """How one attempt at a claimed job ended; `error` and `failure` are None when it returned.

    `retry_at` is when the next attempt is due; None when there is none.
    """

    claimed: ClaimedExecution
    started_at: datetime
    ended_at: datetime
    result: TaskResult
    return_value: Any = None
    error: BaseException | None = None
    failure: Failure | None = None
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext(TaskContext):  # type: ignore[misc] # django-stubs: it is frozen in fact
    """A context that knows its attempt, though the earlier ones could not be read."""

    number: int

    @property
    def attempt(self) -> int:
        return self.number


def execute(
    db: QueueDatabase, claimed: ClaimedExecution, *, clock: Callable[[], datetime]
) -> Outcome:
    """Run the job's task in this thread and return the outcome, whatever it raised.

    Sends task_started. A path that names no Task fails the job and calls nothing. The job has a
    context of its own: no other finds what it sets, nor does the caller.
    """
    try:
        sender = sender_of(db)
    except BaseException as error:
        problem = error  # The name `error` ends with the clause.
        return Context().run(lambda: _Run(claimed, clock).raised(problem))
    return Context().run(_execute, db, claimed, clock, sender)


def _execute(
    db: Database, claimed: ClaimedExecution, clock: Callable[[], datetime], sender: type
) -> Outcome:
    run = _Run(claimed, clock)
    try:
        with ended_transactions(), ForkedProcessesEndHere():
            run.begin(db, sender)
            args, kwargs = run.arguments()
            value = run.task.call(*args, **kwargs)
        return run.returned(value)
    except BaseException as error:  # SystemExit and KeyboardInterrupt end the job, not the worker.
        return run.raised(error)


def begin(
    db: QueueDatabase, claimed: ClaimedExecution, *, clock: Callable[[], datetime], last: LastCall
) -> Coroutine[Any, Any, Outcome]:
    """Do what comes before the task in this thread; return the rest, for an event loop.

    The first part may use the ORM, as receivers of task_started do, so the thread must have no
    event loop. The rest awaits the task, and `last` for what is to be done after it in the thread
    of its database connections. It returns the outcome, whatever was raised. Both parts need the
    same context, the job's own.
    """
    run = _Run(claimed, clock)
    try:
        with ended_transactions():
            run.begin(db, sender_of(db))
    except BaseException as error:
        return _rest(run, last, problem=error)
    return _rest(run, last)


def abandoned(
    claimed: ClaimedExecution, error: BaseException, *, now: datetime, may_import: bool = True
) -> Outcome:
    """Return the outcome of a job that its process gives up while it runs.

    The task is only imported where it has a say in what follows: a module that ends the process
    when it is imported would also end that of whoever recovers its jobs. Where it has, and it is
    not loaded and not `may_import`, the attempt was the last.
    """
    has_attempts = claimed.attempt < claimed.job.max_attempts
    can_say = has_attempts and (may_import or is_loaded(claimed.job))
    result = running(claimed, claimed.claimed_at, may_import=can_say)
    return failed(
        claimed, result, error, started_at=claimed.claimed_at, ended_at=now, is_last=not can_say
    )


def failed(
    claimed: ClaimedExecution,
    result: TaskResult,
    error: BaseException,
    *,
    started_at: datetime,
    ended_at: datetime,
    is_last: bool = False,
) -> Outcome:
    """Return the outcome of an attempt that raised; the task's rules say whether it `is_last`."""
    failure, retry_at = Failure.of(error), None
    if not is_last:
        retry_at = next_attempt_at(result.task, claimed.job, claimed.attempt, error, now=ended_at)
    return settled(
        Outcome(
            claimed, started_at, ended_at, result, error=error, failure=failure, retry_at=retry_at
        )
    )


def settled(outcome: Outcome) -> Outcome:
    """Return the outcome, whose result says what it says."""
    result, failure = outcome.result, outcome.failure
    if failure is None:
        _settle(result, TaskResultStatus.SUCCESSFUL, outcome.ended_at)
        object.__setattr__(result, "_return_value", outcome.return_value)
        return outcome
    result.errors.append(
        TaskError(exception_class_path=failure.exception_path, traceback=failure.traceback)
    )
    if outcome.retry_at is None:
        _settle(result, TaskResultStatus.FAILED, outcome.ended_at)
    else:
        _settle(result, TaskResultStatus.READY, None)
    return outcome


class _Run:
    """One attempt at a claimed job, from its start to its outcome; the call itself is not here."""

    def __init__(self, claimed: ClaimedExecution, clock: Callable[[], datetime]) -> None:
        self.claimed = claimed
        self.clock = clock
        self.started_at = clock()
        with ForkedProcessesEndHere():  # Its module may be imported for it.
            self.result = running(claimed, self.started_at)
        self.task = self.result.task

    def begin(self, db: Database, sender: type) -> None:
        if self.claimed.attempt > 1:
            _recall(db, self.claimed, self.result)
        tell_here(task_started, sender, self.result)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        result = self.result
        context: list[Any] = []
        if self.task.takes_context:
            context.append(JobContext(task_result=result, number=self.claimed.attempt))
        for name, kind in (("args", list), ("kwargs", dict)):
            stored = getattr(result, name)
            if not isinstance(stored, kind):
                raise InvalidArguments(
                    f"{name}: expected a stored JSON {kind.__name__}, got {quoted(stored)}"
                )
        return [*context, *result.args], result.kwargs

    def returned(self, value: Any) -> Outcome:
        try:
            value = normalize_json(value, "return value")
        except NotSerializable as error:
            raise InvalidReturnValue(str(error)) from error
        started_at, ended_at = self.started_at, self.clock()
        return settled(Outcome(self.claimed, started_at, ended_at, self.result, return_value=value))

    def raised(self, error: BaseException) -> Outcome:
        started_at, ended_at = self.started_at, self.clock()
        with ForkedProcessesEndHere():  # The task's rules have their say.
            return failed(
                self.claimed, self.result, error, started_at=started_at, ended_at=ended_at
            )


async def _rest(run: _Run, last: LastCall, problem: BaseException | None = None) -> Outcome:
    try:
        if problem is not None:
            raise problem
        args, kwargs = run.arguments()
        try:
            with ForkedProcessesEndHere():
                value = await run.task.acall(*args, **kwargs)
        except BaseException:  # CancelledError too: what a task cancels is its own affair.
            await last(end_and_log_transactions)
            raise
        await last(end_transactions)
        return run.returned(value)
    except BaseException as error:
        return run.raised(error)


def running(
    claimed: ClaimedExecution, started_at: datetime, *, may_import: bool = True
) -> TaskResult:
    """Return the result of an attempt that runs; of one whose task may be imported, or not."""
    return running_result(
        claimed.job,
        described_task(claimed.job, may_import=may_import),
        worker_id=claimed.process_id,
        started_at=started_at,
    )


def _recall(db: Database, claimed: ClaimedExecution, result: TaskResult) -> None:
    """Tell the task of its earlier attempts, or not, when the database just does not answer."""
    try:
        earlier = attempts_of(db, claimed.job_id, before=claimed.attempt)
    except (DatabaseError, InterfaceError):
        return
    result.errors[:0] = errors_of(earlier)
    result.worker_ids[:0] = [str(attempt.worker_id) for attempt in earlier]
    if earlier:
        object.__setattr__(result, "started_at", for_project(earlier[0].started_at))


def _settle(result: TaskResult, status: TaskResultStatus, finished_at: datetime | None) -> None:
    object.__setattr__(result, "status", status)
    object.__setattr__(result, "finished_at", for_project(finished_at))
