"""What tasks of other processes did, and the audit: what must hold whatever happened to them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from dj_queue.models import ClaimedExecution, FailedExecution, FinishedExecution, Process
from dj_queue.routers import QueueDatabase
from tests.jobs import states
from tests.shop.recorded import BEGAN, VARIABLE


@dataclass(frozen=True)
class Execution:
    """One call of a task."""

    job_id: UUID
    attempt: int
    pid: int


class Records:
    """A directory that the tasks of tests.shop.recorded write to, and find their gates in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a process whose tasks write here."""
        return {VARIABLE: str(self.directory)}

    @property
    def executions(self) -> list[Execution]:
        """The calls that began, in order."""
        file = self.directory / BEGAN
        # The last line may be half written.
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        parts = [line.split() for line in lines]
        return [Execution(UUID(job), int(attempt), int(pid)) for job, attempt, pid in parts]

    def of(self, job_id: object) -> list[Execution]:
        """The calls for one job."""
        return [each for each in self.executions if str(each.job_id) == str(job_id)]

    def open(self, gate: str) -> None:
        """Let the tasks pass that wait at this gate."""
        (self.directory / gate).touch()


def check(db: QueueDatabase, records: Records, *, enqueued: int) -> None:
    """Fail unless all is done, each job is in one state, and none ran beyond its attempts."""
    found = states(db)
    assert len(found) == enqueued
    assert {tuple(each) for each in found.values()} <= {("finished",), ("failed",)}
    attempts: dict[UUID, int] = {}
    for state in (FinishedExecution, FailedExecution):
        attempts |= dict(db.objects(state).values_list("job_id", "attempt"))
    executed = Counter(each.job_id for each in records.executions)
    assert {job: count for job, count in executed.items() if count > attempts[job]} == {}


def check_stopped(db: QueueDatabase) -> None:
    """Fail unless no process is registered any more, and nothing claimed."""
    assert not db.objects(ClaimedExecution).exists()
    left = [(each.name, each.pid) for each in db.objects(Process).all()]
    assert left == []


def process_of(db: QueueDatabase, kind: str) -> Process | None:
    """Give the row of the only process of this kind, None when there is none."""
    return db.objects(Process).filter(kind=kind).first()
