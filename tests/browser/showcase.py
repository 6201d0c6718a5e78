"""A queue with a bit of everything: what the browser looks at and screenshots show."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from dj_queue.models import (
    Attempt,
    BlockedExecution,
    ClaimedExecution,
    Execution,
    FailedExecution,
    FinishedExecution,
    Job,
    Process,
    QueueMinute,
    ReadyExecution,
    RecurringTask,
    ScheduledExecution,
    Semaphore,
    state_of,
)
from dj_queue.models.ids import new_id
from dj_queue.operations.pauses import pause
from dj_queue.routers import QueueDatabase, queue_database

TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/mail/tasks.py", line 41, in send_receipt
    connection.login(settings.user, settings.password)
  File "/usr/lib/python3.13/smtplib.py", line 750, in login
    raise last_exception
smtplib.SMTPAuthenticationError: (535, b'5.7.8 authentication failed')
"""
MESSAGE = "(535, b'5.7.8 authentication failed')"
# Queue, task, and how many jobs in which state.
QUEUES: list[tuple[str, str, dict[type[Execution], int]]] = [
    ("mail", "shop.mail.tasks.send_receipt", {ReadyExecution: 48, FailedExecution: 30}),
    ("images", "shop.media.tasks.resize", {ReadyExecution: 3, ClaimedExecution: 2}),
    ("payments", "shop.billing.tasks.capture", {BlockedExecution: 4, ClaimedExecution: 2}),
    ("reports", "shop.reports.tasks.nightly", {ScheduledExecution: 6}),
    ("search/index", "shop.search.tasks.reindex", {ReadyExecution: 12}),
    ("webhooks", "shop.hooks.tasks.deliver", {FinishedExecution: 20}),
]


def fill(now: datetime) -> None:
    """Fill the databases; the backend bulk stays empty."""
    db = queue_database("default")
    boss = _processes(db, now)
    for queue, task, states in QUEUES:
        for state, count in {FinishedExecution: 40, **states}.items():
            jobs(db, state, count, queue_name=queue, task_path=task, now=now, process_id=boss)
    pause(db, ["search/index", "imports"], now=now)
    _recurring(db, now)
    _semaphores(db, now)
    _minutes(db, now)
    jobs(queue_database("alerts"), ReadyExecution, 2, queue_name="pages", now=now)


def jobs(
    db: QueueDatabase, state: type[Execution], count: int, *, now: datetime, **columns: Any
) -> list[Job]:
    """Store jobs in a state, the later ones younger."""
    process_id = columns.pop("process_id", new_id())
    made = []
    for number in range(count):
        values = {
            "backend": db.backend,
            "queue_name": "default",
            "task_path": "shop.tasks.work",
            "args": [f"order-{1000 + number}", {"e-mail": f"customer{number}@example.org"}],
            "kwargs": {"language": "en"},
            "priority": 0,
            "enqueued_at": now - timedelta(seconds=20 + 15 * (count - number)),
        }
        made.append(Job(**values | columns))
    rows = [state_of(state, job, **_state_columns(state, job, now, process_id)) for job in made]
    with db.atomic():
        db.objects(Job).bulk_create(made)
        db.objects(state).bulk_create(rows)
        if state is FailedExecution:
            db.objects(Attempt).bulk_create([_attempt(job, now) for job in made])
    return made


def _state_columns(
    state: type[Execution], job: Job, now: datetime, process_id: Any
) -> dict[str, Any]:
    began = job.enqueued_at + timedelta(seconds=2)
    ended = began + timedelta(seconds=0.8)
    failure = {"exception_path": "smtplib.SMTPAuthenticationError", "message": MESSAGE}
    by_state: dict[str, dict[str, Any]] = {
        "scheduled": {"run_after": now + timedelta(hours=3)},
        "blocked": {
            "concurrency_key": "account:42",
            "concurrency_limit": 2,
            "concurrency_seconds": 120,
            "expires_at": now + timedelta(minutes=2),
        },
        "claimed": {"process_id": process_id, "claim_token": new_id(), "claimed_at": began},
        "failed": {"failed_at": ended, **failure},
        "finished": {
            "worker_id": process_id,
            "started_at": began,
            "finished_at": ended,
            "return_value": {"sent": True},
        },
    }
    return by_state.get(state.state, {})


def _attempt(job: Job, now: datetime) -> Attempt:
    began = job.enqueued_at + timedelta(seconds=2)
    return Attempt(
        job_id=job.id,
        number=1,
        worker_id=new_id(),
        started_at=began,
        ended_at=began + timedelta(seconds=0.8),
        exception_path="smtplib.SMTPAuthenticationError",
        message=MESSAGE,
        traceback=TRACEBACK,
    )


def _processes(db: QueueDatabase, now: datetime) -> Any:
    rows, boss = [], new_id()
    lost = new_id()
    family = [
        (boss, "supervisor", "supervisor", None, "web-1", 1, {}),
        (new_id(), "worker", "worker 1", boss, "web-1", 21, {"queues": ["*"]}),
        (new_id(), "worker", "worker 2", boss, "web-1", 22, {"queues": ["mail", "pay*"]}),
        (new_id(), "dispatcher", "dispatcher", boss, "web-1", 23, {}),
        (new_id(), "scheduler", "scheduler", boss, "web-1", 24, {}),
    ]
    family.append((lost, "supervisor", "supervisor", None, "web-2", 1, {}))
    family.append((new_id(), "worker", "worker 1", lost, "web-2", 19, {"queues": ["*"]}))
    for row_id, kind, name, supervisor, host, pid, metadata in family:
        age = 4400 if host == "web-2" else 3
        rows.append(
            Process(
                id=row_id,
                kind=kind,
                name=name,
                backend="" if kind == "supervisor" else db.backend,
                pid=pid,
                hostname=host,
                supervisor_id=supervisor,
                metadata=metadata,
                started_at=now - timedelta(hours=30),
                last_heartbeat_at=now - timedelta(seconds=age),
            )
        )
    db.objects(Process).bulk_create(rows)
    return boss


def _recurring(db: QueueDatabase, now: datetime) -> None:
    tasks = [
        ("nightly report", "shop.reports.tasks.nightly", "0 3 * * *", "reports", True),
        ("sweep carts", "shop.tasks.sweep", "*/5 * * * *", "housekeeping", True),
        ("import prices", "shop.imports.tasks.prices", "@hourly", "imports", False),
    ]
    for key, path, schedule, queue, is_static in tasks:
        row = RecurringTask(
            key=key,
            backend="default",
            task_path=path,
            schedule=schedule,
            timezone="UTC",
            misfire="latest",
            args=[],
            kwargs={},
            queue_name=queue,
            priority=0,
            is_static=is_static,
            last_run_at=now - timedelta(minutes=4),
            next_run_at=now + timedelta(minutes=1),
        )
        db.objects(RecurringTask).bulk_create([row])


def _semaphores(db: QueueDatabase, now: datetime) -> None:
    row = Semaphore(key="account:42", held=2, expires_at=now + timedelta(minutes=2))
    db.objects(Semaphore).bulk_create([row])


def _minutes(db: QueueDatabase, now: datetime) -> None:
    process_id, rows = new_id(), []
    this_minute = now.replace(second=0, microsecond=0)
    # Every minute of the hour, every fifth of the day.
    for back in [*range(60), *range(60, 24 * 60, 5)]:
        at = this_minute - timedelta(minutes=back)
        for number, queue in enumerate(("mail", "images", "payments", "webhooks")):
            swing = 1 + math.sin((back + 90 * number) / 75)
            finished = int((60 - 12 * number) * swing + (back * 7919 + number * 13) % 9)
            finished *= 1 if back < 60 else 5
            is_broken = queue == "mail" and back < 14
            rows.append(
                QueueMinute(
                    backend=db.backend,
                    queue_name=queue,
                    minute=at,
                    process_id=process_id,
                    finished=finished // 3 if is_broken else finished,
                    failed=12 if is_broken else int((back + number) % 97 == 0),
                    waiting_seconds=finished * (0.2 + 0.1 * number + (4.0 if is_broken else 0.0)),
                    running_seconds=finished * 0.4,
                )
            )
    db.objects(QueueMinute).bulk_create(rows, batch_size=500)
