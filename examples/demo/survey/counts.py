"""What the queue databases say about each backend's jobs."""

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max, Min, QuerySet

from dj_queue.models import STATES, Attempt, FailedExecution, FinishedExecution, Job
from dj_queue.routers import queue_database

ENDED = (FinishedExecution, FailedExecution)
# SyntaxError and its children, UnicodeDecodeError or NUL bytes, code that nests too deeply, a
# file that is unreadable or has gone.
FILE_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError, OSError)


@dataclass(frozen=True)
class Tally:
    """What came of jobs since a moment; `left` have not ended, `lost` are in no state."""

    finished: int
    failed: int
    left: int
    lost: int
    began: datetime | None
    ended: datetime | None

    @property
    def jobs(self) -> int:
        """All jobs that ended."""
        return self.finished + self.failed

    @property
    def seconds(self) -> float:
        """From the start of the first job to the end of the last."""
        if self.began is None or self.ended is None:
            return 0.0
        return (self.ended - self.began).total_seconds()


def tally(backend: str, since: datetime) -> Tally:
    """Count a backend's jobs that ended after `since`, and all that have not ended."""
    db = queue_database(backend)
    finished = db.objects(FinishedExecution).filter(backend=backend, finished_at__gte=since)
    attempts = db.objects(Attempt).filter(job__backend=backend, ended_at__gte=since)
    done = finished.aggregate(began=Min("started_at"), ended=Max("finished_at"))
    raised = attempts.aggregate(began=Min("started_at"), ended=Max("ended_at"))
    in_a_state = sum(db.objects(state).filter(backend=backend).count() for state in STATES)
    return Tally(
        finished=finished.count(),
        failed=failures(backend, since).count(),
        left=left(backend),
        lost=db.objects(Job).filter(backend=backend).count() - in_a_state,
        began=min(filter(None, (done["began"], raised["began"])), default=None),
        ended=max(filter(None, (done["ended"], raised["ended"])), default=None),
    )


def together(tallies: Sequence[Tally]) -> Tally:
    """Add up what several backends did side by side."""
    return Tally(
        finished=sum(each.finished for each in tallies),
        failed=sum(each.failed for each in tallies),
        left=sum(each.left for each in tallies),
        lost=sum(each.lost for each in tallies),
        began=min((each.began for each in tallies if each.began), default=None),
        ended=max((each.ended for each in tallies if each.ended), default=None),
    )


def left(backend: str) -> int:
    """Count a backend's jobs that have not ended; exact while no worker moves them."""
    db = queue_database(backend)
    waiting = (state for state in STATES if state not in ENDED)
    return sum(db.objects(state).filter(backend=backend).count() for state in waiting)


def ended(backend: str) -> int:
    """Count all jobs of a backend that ever ended."""
    db = queue_database(backend)
    return sum(db.objects(state).filter(backend=backend).count() for state in ENDED)


def failures(backend: str, since: datetime) -> QuerySet[FailedExecution]:
    """Give the failed executions of a backend since a moment, with their jobs."""
    failed = queue_database(backend).objects(FailedExecution).select_related("job")
    return failed.filter(backend=backend, failed_at__gte=since)


def unexpected(backend: str, since: datetime) -> int:
    """Count the failures that are not the file's own: it can be read by Python, or it cannot."""
    paths = failures(backend, since).values_list("exception_path", flat=True)
    return sum(not _is_the_files_own(path) for path in paths)


def _is_the_files_own(exception_path: str) -> bool:
    module, _, name = exception_path.rpartition(".")
    kind = getattr(builtins, name, None) if module == "builtins" else None
    return kind is not None and issubclass(kind, FILE_ERRORS)
