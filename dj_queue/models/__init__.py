"""The tables of a queue database."""

from dj_queue.models.dashboard import Dashboard
from dj_queue.models.executions import (
    STATES,
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
from dj_queue.models.pauses import Pause

__all__ = [
    "STATES",
    "Attempt",
    "ClaimedExecution",
    "Dashboard",
    "Execution",
    "FailedExecution",
    "FinishedExecution",
    "Installation",
    "Job",
    "Pause",
    "ReadyExecution",
    "ScheduledExecution",
    "State",
    "state_of",
]
