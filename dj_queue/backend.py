"""DjQueueBackend: the Tasks contract on a queue database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async

from dj_queue import parsers, timezone
from dj_queue.compat import (
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    task_enqueued,
)
from dj_queue.engines.clock import enqueueing
from dj_queue.keys import checked
from dj_queue.models import Job
from dj_queue.models.fields import normalize_json
from dj_queue.models.ids import new_id
from dj_queue.operations.concurrency import assign_key
from dj_queue.operations.enqueue import enqueue
from dj_queue.parsers import PATH_LENGTH, QUEUE_NAME, is_queue_name
from dj_queue.quoting import quoted
from dj_queue.results import discarded_result, enqueued_result, load_result
from dj_queue.routers import QueueDatabase, queue_database
from dj_queue.routers.registry import APPLICATION_ALIAS
from dj_queue.signatures import require_arguments
from dj_queue.tasks import QueueTask, is_relative, timed

Call = tuple[Task, Sequence[Any], dict[str, Any]]
"""A task with its positional and keyword arguments."""


class DjQueueBackend(BaseTaskBackend):
    """Keeps tasks in the queue database that TASKS gives this backend."""

    task_class = QueueTask

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    @property
    def database(self) -> QueueDatabase:
        """The handle of this backend's queue database; InvalidOption while a setting is wrong.

        A job must not go to the database that a mistyped option has as its default.
        """
        db = queue_database(self.alias)
        _ = db.options
        return db

    def validate_task(self, task: Task) -> None:
        """Raise InvalidTask when the task cannot run on this backend."""
        name = task.queue_name
        if self.queues and name not in self.queues:
            raise InvalidTask(
                f"queue_name: expected one of TASKS[{self.alias!r}]['QUEUES'] "
                f"({', '.join(map(repr, sorted(self.queues)))}), got {quoted(name)}"
            )
        if not is_queue_name(name):
            raise InvalidTask(f"queue_name: expected {QUEUE_NAME}, got {quoted(name)}")
        if len(task.module_path) > PATH_LENGTH:
            raise InvalidTask(
                f"func: expected a path of at most {PATH_LENGTH} characters, "
                f"got {task.module_path!r}"
            )
        if not isinstance(task.priority, int) or isinstance(task.priority, bool):
            raise InvalidTask(
                f"priority: expected a whole number from -100 to 100, got {quoted(task.priority)}"
            )
        if is_relative(task):
            timed(task, timezone.now())  # It is validated when it is made.
            return
        if task.run_after is not None:
            checked(parsers.moment, task.run_after, "run_after")
        super().validate_task(task)

    def enqueue(self, task: Task, args: Sequence[Any], kwargs: dict[str, Any]) -> TaskResult:
        """Store one job and return its result; see enqueue_all."""
        now = self._now([task])
        task = timed(task, now)
        self.validate_task(task)
        return self._store([task], [self._job(task, args, kwargs, now)], now)[0]

    def enqueue_all(self, calls: Iterable[Call]) -> list[TaskResult]:
        """Store jobs, all or none, and return their results in the order given.

        A job that is discarded because of its concurrency key is not stored; its result has failed,
        with JobDiscarded. Joins the queue database's open transaction, otherwise commits at once.
        Raises InvalidTask or NotSerializable before anything is stored.
        """
        calls, tasks, jobs = list(calls), [], []
        now = self._now(task for task, _, _ in calls)
        valid: dict[int, Task] = {}  # by id: a Task has no hash, and here each stays alive
        for index, (task, args, kwargs) in enumerate(calls):
            path = f"calls[{index}]: "
            if id(task) not in valid:
                self._validate(task, path)
                valid[id(task)] = timed(task, now)
            tasks.append(valid[id(task)])
            jobs.append(self._job(tasks[-1], args, kwargs, now, path))
        return self._store(tasks, jobs, now)

    def guarantee(self, using: str = APPLICATION_ALIAS) -> str:
        """Say what an enqueue inside a transaction on `using` is: "atomic" or "immediate".

        Atomic: committed and rolled back with it. Immediate: committed at once, whatever becomes
        of the transaction.
        """
        return self.database.guarantee(using)

    async def aenqueue_all(self, calls: Iterable[Call]) -> list[TaskResult]:
        """As enqueue_all."""
        return await sync_to_async(self.enqueue_all, thread_sensitive=True)(calls)

    def get_result(self, result_id: str) -> TaskResult:
        """Return the result of a job of this backend; raise TaskResultDoesNotExist.

        Asks this backend's queue database and no other.
        """
        try:
            job_id = UUID(str(result_id))
        except ValueError:
            raise TaskResultDoesNotExist(
                f"expected a job id (a UUID), got {quoted(result_id)}"
            ) from None
        result = load_result(self.database, job_id)
        if result is None:
            raise TaskResultDoesNotExist(f"backend {self.alias!r} has no job {result_id}")
        return result

    def _now(self, tasks: Iterable[Task]) -> datetime:
        """Return the time of an enqueue: by the database's clock where a job may have to wait."""
        if all(task.run_after is None for task in tasks):
            return timezone.now()
        return enqueueing(self.database)

    def _store(self, tasks: Sequence[Task], jobs: Sequence[Job], now: datetime) -> list[TaskResult]:
        discarded = enqueue(self.database, jobs, now=now)
        results = []
        for job, task in zip(jobs, tasks, strict=True):
            if job.id in discarded:
                results.append(discarded_result(job, task))
                continue
            results.append(enqueued_result(job, task))
            task_enqueued.send_robust(sender=type(self), task_result=results[-1])
        return results

    def _job(
        self, task: Task, args: Sequence[Any], kwargs: dict[str, Any], now: datetime, path: str = ""
    ) -> Job:
        # By position, as the columns stand: half the time of names.
        job = Job(
            new_id(),
            self.alias,
            task.queue_name,
            task.module_path,
            normalize_json(list(args), f"{path}args"),
            normalize_json(dict(kwargs), f"{path}kwargs"),
            int(task.priority),  # An enum's number is no number to every driver.
            None if task.run_after is None else timezone.to_utc(task.run_after),
            now,
            # A Task of another decorator is run once.
            getattr(task, "max_attempts", 1),
            # No key yet. A column that is not given is looked for.
            concurrency_key=None,
            concurrency_limit=None,
            concurrency_seconds=None,
            discards_on_conflict=None,
        )
        if getattr(task, "concurrency", None) is not None:
            default = self.database.options.default_concurrency_duration
            assign_key(task, job, default, path)
        require_arguments(task, args, kwargs, path)
        return job

    def _validate(self, task: Task, path: str) -> None:
        if task.backend != self.alias:
            raise InvalidTask(
                f"{path}expected a task of backend {self.alias!r}, got one of "
                f"{task.backend!r}: use task.using(backend={self.alias!r})"
            )
        self.validate_task(task)
