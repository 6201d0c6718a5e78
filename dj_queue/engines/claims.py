"""Claims: who holds a job, and the rows that say so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dj_queue.models import ClaimedExecution, Execution, Job, state_of

Claim = tuple[UUID, UUID]
"""A job and the token under which it is claimed."""


@dataclass(frozen=True)
class Holder:
    """Who claims: a process, under a token that is new for each claim, and since when."""

    process_id: UUID
    token: UUID
    now: datetime


@dataclass(frozen=True)
class Heir:
    """A worker that can run the next jobs of its keys: at most `room`, in these queues."""

    holder: Holder
    queues: frozenset[str]
    room: int


@dataclass(frozen=True)
class HandedOn:
    """How many blocked jobs got a slot; those that their heir holds, the others are ready."""

    count: int = 0
    inherited: tuple[ClaimedExecution, ...] = ()

    def __add__(self, other: HandedOn) -> HandedOn:
        return HandedOn(self.count + other.count, self.inherited + other.inherited)


def held(row: Job | Execution, holder: Holder, **columns: Any) -> ClaimedExecution:
    """Build the claim of a job that may run."""
    claim = {
        "process_id": holder.process_id,
        "claim_token": holder.token,
        "claimed_at": holder.now,
    }
    return state_of(ClaimedExecution, row, **claim, **columns)


def claims_of(
    holder: Holder, jobs: Iterable[Job], attempts: Sequence[int]
) -> list[ClaimedExecution]:
    """Build the claims of jobs that were loaded, each with its attempt."""
    claims = []
    for job, attempt in zip(jobs, attempts, strict=True):
        claims.append(held(job, holder, attempt=attempt))
        attach(claims[-1], job)
    return claims


def claim_of(row: ClaimedExecution) -> Claim:
    """Return what a worker has to hold to finish the job."""
    return row.job_id, row.claim_token


def attach(claimed: ClaimedExecution, job: Job) -> None:
    """Give a claimed row the job that was loaded with it."""
    claimed._state.db = job._state.db
    ClaimedExecution._meta.get_field("job").set_cached_value(claimed, job)
