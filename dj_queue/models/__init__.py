"""The tables of a queue database."""

from dj_queue.models.executions import (
    STATES,
    ClaimedExecution,
    Execution,
    FailedExecution,
    FinishedExecution,
    ReadyExecution,
    ScheduledExecution,
)
from dj_queue.models.jobs import Attempt, Job
from dj_queue.models.pauses import Pause

__all__ = [
    "STATES",
    "Attempt",
    "ClaimedExecution",
    "Execution",
    "FailedExecution",
    "FinishedExecution",
    "Job",
    "Pause",
    "ReadyExecution",
    "ScheduledExecution",
]
