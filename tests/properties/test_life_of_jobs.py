"""Whatever happens to jobs, in whatever order: the tables hold what a model in memory holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dj_queue import timezone
from dj_queue.engines.claims import claim_of
from dj_queue.exceptions import ProcessPruned
from dj_queue.models import STATES, Attempt, FailedExecution, FinishedExecution, Job, Pause
from dj_queue.models.ids import first_id_at, new_id
from dj_queue.operations.claim import claim, give_back, release
from dj_queue.operations.dispatch import dispatch_due
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import abandoned, execute
from dj_queue.operations.finish import finish
from dj_queue.operations.pauses import pause, resume
from dj_queue.operations.prune import prune_ended
from dj_queue.operations.recover import recover
from dj_queue.operations.remains import Remains, Unstarted
from dj_queue.operations.retry import retry
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY, build

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

QUEUES = ("a", "ab", "b")
SELECTORS = (["*"], ["a"], ["b", "a*"], ["ab", "*"])
PROCESSES = tuple(new_id() for _ in range(3))

a_queue = st.sampled_from(QUEUES)
a_process = st.sampled_from(PROCESSES)
some_picks = st.sets(st.integers(0, 5), min_size=1)
a_delay = st.sampled_from([None, timedelta(minutes=1), timedelta(hours=1)])


@dataclass
class Life:
    """What the model knows of a job."""

    job: Job
    state: str
    attempt: int = 1
    at: datetime | None = None
    claimed: Any = None
    failures: int = 0

    def become(self, state: str, at: datetime | None = None) -> None:
        self.state, self.at = state, at


class Lives(RuleBasedStateMachine):
    """Does what users, workers, dispatchers and crashes do, to the database and to the model."""

    db: QueueDatabase

    def __init__(self) -> None:
        super().__init__()
        for model in (*STATES, Attempt, Job, Pause):
            self.db.objects(model).all()._raw_delete(self.db.alias)
        self.lives: dict[UUID, Life] = {}
        self.paused: set[str] = set()
        self.stale: list[Any] = []
        # Ids tell the real time: by this clock every job is old enough to be pruned when it ended.
        self.now = timezone.now() + timedelta(hours=1)

    @rule(
        count=st.integers(1, 3),
        queue=a_queue,
        priority=st.integers(-1, 1),
        delay=a_delay,
        max_attempts=st.integers(1, 3),
    )
    def enqueue(
        self, count: int, queue: str, priority: int, delay: timedelta | None, max_attempts: int
    ) -> None:
        due = None if delay is None else self.now + delay
        columns = {"queue_name": queue, "priority": priority, "max_attempts": max_attempts}
        jobs = [build(self.db, run_after=due, **columns) for _ in range(count)]
        enqueue(self.db, jobs, now=self.now)
        state = "scheduled" if due else "ready"
        self.lives |= {job.id: Life(job, state, at=due) for job in jobs}

    @precondition(lambda self: self.of("ready"))
    @rule(selectors=st.sampled_from(SELECTORS), limit=st.integers(1, 4), process=a_process)
    def claim(self, selectors: list[str], limit: int, process: UUID) -> None:
        ready = [each for each in self.of("ready") if each.job.queue_name not in self.paused]
        ranked = [(self.rank(each, selectors), each) for each in ready]
        served = [(rank, each) for rank, each in ranked if rank is not None]
        expected = [each for _, each in sorted(served, key=lambda pair: pair[0])][:limit]

        rows = claim(self.db, selectors, limit=limit, process_id=process, now=self.now)

        assert [row.job_id for row in rows] == [each.job.id for each in expected]
        for row, life in zip(rows, expected, strict=True):
            assert (row.attempt, row.job) == (life.attempt, life.job)
            life.become("claimed")
            life.claimed = row

    def rank(self, life: Life, selectors: list[str]) -> tuple[int, int, UUID] | None:
        name, job = life.job.queue_name, life.job
        for place, each in enumerate(selectors):
            if name == each or (each.endswith("*") and name.startswith(each[:-1])):
                return place, -job.priority, job.id
        return None

    @precondition(lambda self: self.of("claimed"))
    @rule(picks=some_picks)
    def succeed(self, picks: set[int]) -> None:
        held = self.some("claimed", picks)
        outcomes = [execute(self.db, each.claimed, clock=lambda: self.now) for each in held]

        assert finish(self.db, outcomes) == outcomes

        for life in held:
            life.become("finished", self.now)

    @precondition(lambda self: self.of("claimed"))
    @rule(picks=some_picks)
    def fail(self, picks: set[int]) -> None:
        held = self.some("claimed", picks)
        outcomes = [abandoned(each.claimed, ValueError("no"), now=self.now) for each in held]

        assert finish(self.db, outcomes) == outcomes

        for life, outcome in zip(held, outcomes, strict=True):
            self.end_attempt(life, outcome.retry_at)

    @precondition(lambda self: self.of("claimed"))
    @rule(process=a_process, picks=some_picks)
    def crash(self, process: UUID, picks: set[int]) -> None:
        """A process dies; of some of its jobs it is certain that they had not started."""
        held = [each for each in self.of("claimed") if each.claimed.process_id == process]
        waiting = [each for index, each in enumerate(held) if index in picks]
        unstarted = Unstarted(claims=frozenset(claim_of(each.claimed) for each in waiting))
        self.stale += [each.claimed for each in held]

        done = recover(
            self.db, [process], ProcessPruned("gone"), now=self.now, remains=Remains(unstarted)
        )

        assert done.ready_count == len(waiting)
        by_job = {outcome.claimed.job_id: outcome for outcome in done.ended}
        for life in held:
            if life in waiting:
                life.become("ready")
            else:
                self.end_attempt(life, by_job[life.job.id].retry_at)

    @precondition(lambda self: self.stale)
    @rule()
    def come_back(self) -> None:
        """A process that was only stopped ends jobs that are somebody else's by now."""
        outcomes = [execute(self.db, each, clock=lambda: self.now) for each in self.stale]

        assert finish(self.db, outcomes) == []
        assert give_back(self.db, self.stale) == 0

    @precondition(lambda self: self.of("claimed"))
    @rule(picks=some_picks, whole=st.booleans())
    def give_back(self, picks: set[int], whole: bool) -> None:
        held = self.some("claimed", picks)
        tokens = {each.claimed.claim_token for each in held}
        if whole:
            held = [each for each in self.of("claimed") if each.claimed.claim_token in tokens]
            given = sum(release(self.db, token) for token in tokens)
        else:
            given = give_back(self.db, [each.claimed for each in held])
        assert given == len(held)
        for life in held:
            self.stale.append(life.claimed)
            life.become("ready")

    @precondition(lambda self: self.of("failed"))
    @rule(picks=some_picks)
    def retry(self, picks: set[int]) -> None:
        failed = self.some("failed", picks)
        others = [each.job.id for each in self.of("finished")]

        assert retry(self.db, [each.job.id for each in failed] + others) == len(failed)

        for life in failed:
            life.attempt += 1
            life.become("ready")

    @precondition(lambda self: self.of("scheduled"))
    @rule()
    def dispatch(self) -> None:
        due = [each for each in self.of("scheduled") if each.at and each.at <= self.now]
        assert dispatch_due(self.db, now=self.now, limit=1_000) == len(due)
        for life in due:
            life.become("ready")

    @precondition(lambda self: self.of("finished") or self.of("failed"))
    @rule(state=st.sampled_from([FinishedExecution, FailedExecution]), limit=st.integers(1, 3))
    def prune(self, state: Any, limit: int) -> None:
        before = self.now - timedelta(minutes=30)
        after_id, removed = None, 0
        while True:
            step = prune_ended(self.db, state, before=before, after_id=after_id, limit=limit)
            removed, after_id = removed + step.removed_count, step.last_id
            if after_id is None:
                break
        old = [
            life
            for life in self.of(state.state)
            if life.at and life.at < before and life.job.id < first_id_at(before)
        ]
        assert removed == len(old)
        for life in old:
            del self.lives[life.job.id]

    @rule(queue=a_queue)
    def pause(self, queue: str) -> None:
        pause(self.db, [queue], now=self.now)
        self.paused.add(queue)

    @precondition(lambda self: self.paused)
    @rule(queue=a_queue)
    def resume(self, queue: str) -> None:
        assert resume(self.db, [queue]) == (queue in self.paused)
        self.paused.discard(queue)

    @rule(minutes=st.sampled_from([-20, 10, 40, 70]))
    def step_clock(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @invariant()
    def each_job_is_in_its_one_state(self) -> None:
        found: dict[UUID, list[tuple[str, int]]] = {
            job_id: [] for job_id in self.db.objects(Job).values_list("id", flat=True)
        }
        for state in STATES:
            for job_id, attempt in self.db.objects(state).values_list("job_id", "attempt"):
                found.setdefault(job_id, []).append((state.state, attempt))
        assert found == {key: [(life.state, life.attempt)] for key, life in self.lives.items()}
        assert self.db.objects(Attempt).count() == sum(
            life.failures for life in self.lives.values()
        )

    def of(self, state: str) -> list[Life]:
        return [each for each in self.lives.values() if each.state == state]

    def some(self, state: str, picks: set[int]) -> list[Life]:
        return [each for index, each in enumerate(self.of(state)) if index in picks]

    def end_attempt(self, life: Life, retry_at: datetime | None) -> None:
        life.failures += 1
        assert (retry_at is None) == (life.attempt >= life.job.max_attempts)
        if retry_at is None:
            life.become("failed", self.now)
            return
        life.attempt += 1
        assert retry_at > self.now
        life.become("scheduled", retry_at)


def test_whatever_happens_each_job_is_where_the_model_says(db):
    limits = settings(
        max_examples=50,
        stateful_step_count=40,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    here = type("LivesHere", (Lives,), {"db": db})

    run_state_machine_as_test(here, settings=limits)
