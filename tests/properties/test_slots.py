"""Whatever happens to jobs with keys, in whatever order: the slots are where a model says."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
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
from dj_queue.engines.claims import Heir, Holder, claim_of
from dj_queue.exceptions import ProcessPruned
from dj_queue.models import STATES, Attempt, Job, ReadyExecution, Semaphore, Slot
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim, give_back
from dj_queue.operations.dispatch import dispatch_due
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import abandoned, execute
from dj_queue.operations.finish import finish, finish_and_inherit
from dj_queue.operations.recover import recover
from dj_queue.operations.remains import Remains, Unstarted
from dj_queue.operations.retry import retry
from dj_queue.operations.slots import hand_on_missed, recount_expired
from dj_queue.operations.transitions import delete_jobs, in_transaction, move
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY, build

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

KEYS = ("a", "b", None)
PROCESSES = tuple(new_id() for _ in range(2))
TASKS = {
    False: {},
    True: {"task_path": "tests.shop.turns.stumble_in_turn", "args": [1], "max_attempts": 2},
}

some_picks = st.sets(st.integers(0, 5), min_size=1)
HOLDING = ("ready", "claimed")


@dataclass
class Life:
    """What the model knows of a job."""

    job: Job
    state: str
    attempt: int = 1
    claimed: Any = None

    @property
    def place(self) -> tuple[int, UUID]:
        return -self.job.priority, self.job.id


class Slots(RuleBasedStateMachine):
    """Does what users, workers, dispatchers and crashes do with keys; knows whose turn it is."""

    db: QueueDatabase

    def __init__(self) -> None:
        super().__init__()
        for model in (*STATES, Attempt, Job, Semaphore, Slot):
            self.db.objects(model).all()._raw_delete(self.db.alias)
        self.lives: dict[UUID, Life] = {}
        self.limits = {"a": 1, "b": 2}
        self.now = timezone.now()
        self.leaked: set[UUID] = set()

    @rule(
        keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4),
        priority=st.integers(-1, 1),
        discards=st.booleans(),
        delayed=st.booleans(),
        stumbles=st.booleans(),
        joined=st.booleans(),
    )
    def enqueue(
        self,
        keys: list[str | None],
        priority: int,
        discards: bool,
        delayed: bool,
        stumbles: bool,
        joined: bool,
    ) -> None:
        """One call, for several keys; inside somebody's transaction or not."""
        due = self.now + timedelta(minutes=1) if delayed else None
        jobs = []
        for key in keys:
            columns: dict[str, Any] = {"priority": priority, "run_after": due, **TASKS[stumbles]}
            if key is not None:
                columns |= {"concurrency_key": key, "concurrency_limit": self.limits[key]}
                columns |= {"concurrency_seconds": 60, "discards_on_conflict": discards}
            jobs.append(build(self.db, **columns))

        with self.db.atomic() if joined else nullcontext():
            dropped = enqueue(self.db, jobs, now=self.now)

        # Asked before anything is stored, whether a slot is free at all.
        refused = {job.id for job in jobs if discards and not delayed and self.is_full(job)}
        arrived = [Life(job, "blocked") for job in jobs if job.id not in refused]
        self.lives |= {each.job.id: each for each in arrived}
        if delayed:
            for each in arrived:
                each.state = "scheduled"
        else:
            refused |= self.arrive(arrived)
        assert dropped == refused if not joined else dropped <= refused

    @precondition(lambda self: self.of("ready"))
    @rule(limit=st.integers(1, 4), process=st.sampled_from(PROCESSES))
    def claim(self, limit: int, process: UUID) -> None:
        expected = sorted(self.of("ready"), key=lambda each: each.place)[:limit]

        rows = claim(self.db, ["*"], limit=limit, process_id=process, now=self.now)

        assert [row.job_id for row in rows] == [each.job.id for each in expected]
        for row, life in zip(rows, expected, strict=True):
            life.state, life.claimed = "claimed", row

    @precondition(lambda self: self.of("claimed"))
    @rule(picks=some_picks, room=st.integers(0, 3))
    def run(self, picks: set[int], room: int) -> None:
        """Some return, some raise and are attempted again at once; all in one batch.

        Their worker runs on with up to `room` of those whose turn it is.
        """
        held = self.some("claimed", picks)
        outcomes = [execute(self.db, each.claimed, clock=lambda: self.now) for each in held]
        ready = self.of("ready")
        heir = Heir(Holder(PROCESSES[0], new_id(), self.now), frozenset({"default"}), room)

        recorded, handed = finish_and_inherit(self.db, outcomes, heir)

        assert recorded == outcomes
        again = []
        for life, outcome in zip(held, outcomes, strict=True):
            life.state = "failed" if outcome.error else "finished"
            if outcome.retry_at is not None:
                life.state, life.attempt = "blocked", life.attempt + 1
                again.append(life)
        self.arrive(again, never_attempted=False)
        assert len(handed.inherited) <= (0 if ready else room)
        for row in handed.inherited:
            life = self.lives[row.job_id]
            assert (life.state, life.attempt) == ("ready", row.attempt)
            life.state, life.claimed = "claimed", row

    @precondition(lambda self: self.of("claimed"))
    @rule(process=st.sampled_from(PROCESSES), picks=some_picks)
    def crash(self, process: UUID, picks: set[int]) -> None:
        held = [each for each in self.of("claimed") if each.claimed.process_id == process]
        waiting = [each for index, each in enumerate(held) if index in picks]
        unstarted = Unstarted(claims=frozenset(claim_of(each.claimed) for each in waiting))
        stale = [each.claimed for each in held]

        recover(self.db, [process], ProcessPruned("gone"), now=self.now, remains=Remains(unstarted))

        again = []
        for life in held:
            life.state = "ready" if life in waiting else "failed"
            if life.state == "failed" and life.attempt < life.job.max_attempts:
                life.state, life.attempt = "blocked", life.attempt + 1
                again.append(life)
        self.arrive(again, never_attempted=False)
        late = [abandoned(row, ValueError("late"), now=self.now) for row in stale]
        assert finish(self.db, late) == []

    @precondition(lambda self: self.of("claimed"))
    @rule(picks=some_picks)
    def give_back(self, picks: set[int]) -> None:
        held = self.some("claimed", picks)

        assert give_back(self.db, [each.claimed for each in held]) == len(held)

        for life in held:
            life.state = "ready"

    @precondition(lambda self: self.of("failed"))
    @rule(picks=some_picks)
    def retry(self, picks: set[int]) -> None:
        failed = self.some("failed", picks)

        assert retry(self.db, [each.job.id for each in failed], now=self.now) == len(failed)

        for life in failed:
            life.state, life.attempt = "blocked", life.attempt + 1
        self.arrive(failed, never_attempted=False)

    @precondition(lambda self: self.of("scheduled"))
    @rule()
    def dispatch(self) -> None:
        due = [each for each in self.of("scheduled") if each.job.run_after <= self.now]

        assert dispatch_due(self.db, now=self.now, limit=1_000) == len(due)

        for life in due:
            life.state = "blocked"
        self.arrive(due)

    @precondition(lambda self: self.of("ready"))
    @rule(picks=some_picks)
    def lose(self, picks: set[int]) -> None:
        """Somebody deletes ready jobs by hand, and their slots stay behind."""
        ready = self.some("ready", picks)
        ids = [each.job.id for each in ready]

        self.db.objects(ReadyExecution).filter(pk__in=ids).delete()
        delete_jobs(self.db, ids)

        for life in ready:
            del self.lives[life.job.id]
        self.leaked |= {each.job.id for each in ready if each.job.concurrency_key}

    @precondition(lambda self: self.leaked)
    @rule()
    def expire(self) -> None:
        """All that leaked is found when it expires."""
        self.now += timedelta(minutes=5)

        recount_expired(self.db, now=self.now, limit=100)

        self.leaked.clear()
        self.hand_on()

    @precondition(lambda self: self.of("blocked"))
    @rule(picks=some_picks)
    def discard(self, picks: set[int]) -> None:
        """Somebody discards jobs that wait; who stands behind them may be next."""
        waiting = self.some("blocked", picks)
        ids = [each.job.id for each in waiting]

        def transaction() -> None:
            blocked = next(state for state in STATES if state.state == "blocked")
            assert len(move(self.db, blocked, ids, lambda row: [])) == len(ids)
            delete_jobs(self.db, ids)

        in_transaction(self.db, transaction)
        for life in waiting:
            del self.lives[life.job.id]
        key = ""
        while key := hand_on_missed(self.db, now=self.now, after_key=key, limit=1):
            pass
        self.hand_on()

    @rule(key=st.sampled_from("ab"), limit=st.integers(1, 4))
    def change_limit(self, key: str, limit: int) -> None:
        """From now on jobs are enqueued with another limit."""
        self.limits[key] = limit

    @rule(minutes=st.sampled_from([-1, 1, 3]))
    def step_clock(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @invariant()
    def each_job_is_where_the_model_says(self) -> None:
        found: dict[UUID, list[tuple[str, int]]] = {
            job_id: [] for job_id in self.db.objects(Job).values_list("id", flat=True)
        }
        for state in STATES:
            for job_id, attempt in self.db.objects(state).values_list("job_id", "attempt"):
                found.setdefault(job_id, []).append((state.state, attempt))
        assert found == {key: [(life.state, life.attempt)] for key, life in self.lives.items()}

    @invariant()
    def slots_are_held_by_who_is_ready_or_claimed(self) -> None:
        slots = set(self.db.objects(Slot).values_list("job_id", flat=True))
        assert slots - self.leaked == {
            each.job.id
            for each in self.lives.values()
            if each.state in HOLDING and each.job.concurrency_key
        }
        counted = dict(self.db.objects(Semaphore).values_list("key", "held"))
        keys = list(self.db.objects(Slot).values_list("key", flat=True))
        assert counted == {key: keys.count(key) for key in keys}

    @invariant()
    def no_key_is_held_by_more_than_one_of_its_holders_allows(self) -> None:
        for key in self.limits:
            holders = [each for each in self.holders(key) if each.job.id not in self.leaked]
            limits = [each.job.concurrency_limit or 0 for each in holders]
            assert len(holders) <= max(limits, default=0)

    def of(self, state: str) -> list[Life]:
        return [each for each in self.lives.values() if each.state == state]

    def some(self, state: str, picks: set[int]) -> list[Life]:
        return [each for index, each in enumerate(self.of(state)) if index in picks]

    def holders(self, key: str) -> list[Life]:
        return [
            each
            for each in self.lives.values()
            if each.state in HOLDING and each.job.concurrency_key == key
        ]

    def held_count(self, key: str) -> int:
        leaked = self.db.objects(Slot).filter(job_id__in=self.leaked, key=key).count()
        return len(self.holders(key)) + leaked

    def is_full(self, job: Job) -> bool:
        key = job.concurrency_key
        return key is not None and self.held_count(key) >= (job.concurrency_limit or 0)

    def arrive(self, lives: list[Life], *, never_attempted: bool = True) -> set[UUID]:
        """Let jobs wait for their turn; return those that are dropped instead."""
        for life in lives:
            if life.job.concurrency_key is None:
                life.state = "ready"
        self.hand_on()
        dropped = set()
        for life in lives:
            is_first = never_attempted and life.attempt == 1
            if life.state == "blocked" and life.job.discards_on_conflict and is_first:
                del self.lives[life.job.id]
                dropped.add(life.job.id)
        self.hand_on()
        return dropped

    def hand_on(self) -> None:
        for key in self.limits:
            waiting = [each for each in self.of("blocked") if each.job.concurrency_key == key]
            for life in sorted(waiting, key=lambda each: each.place):
                if self.held_count(key) >= (life.job.concurrency_limit or 0):
                    break
                life.state = "ready"


def test_whatever_happens_the_slots_are_where_the_model_says(db):
    limits = settings(
        max_examples=40,
        stateful_step_count=30,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    here = type("SlotsHere", (Slots,), {"db": db})

    run_state_machine_as_test(here, settings=limits)
