"""The tables of a queue database."""

from dj_queue.models.dashboard import Dashboard
from dj_queue.models.executions import (
    STATES,
    BlockedExecution,
    ClaimedExecution,
    Execution,
    FailedExecution,
    FinishedExecution,
    ReadyExecution,
    ScheduledExecution,
    State,
    state_of,
)
from dj_queue.models.installations import Installation
from dj_queue.models.jobs import Attempt, Job
from dj_queue.models.minutes import QueueMinute
from dj_queue.models.pauses import Pause
from dj_queue.models.processes import Process
from dj_queue.models.recurring import RecurringRun, RecurringTask
from dj_queue.models.semaphores import Semaphore, Slot

__all__ = [
    "STATES",
    "Attempt",
    "BlockedExecution",
    "ClaimedExecution",
    "Dashboard",
    "Execution",
    "FailedExecution",
    "FinishedExecution",
    "Installation",
    "Job",
    "Pause",
    "Process",
    "QueueMinute",
    "ReadyExecution",
    "RecurringRun",
    "RecurringTask",
    "ScheduledExecution",
    "Semaphore",
    "Slot",
    "State",
    "state_of",
]
