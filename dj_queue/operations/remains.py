"""Remains: what is known of the claims of a dead process, from what it noted while it lived."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from dj_queue.engines.claims import Claim, claim_of
from dj_queue.exceptions import ResultLost
from dj_queue.models import ClaimedExecution
from dj_queue.operations.execute import Outcome, failed, running, settled
from dj_queue.operations.failure import Failure


@dataclass(frozen=True)
class Unstarted:
    """What a dead process certainly had not started: all under a token, and single claims."""

    tokens: frozenset[UUID] = frozenset()
    claims: frozenset[Claim] = frozenset()

    def __contains__(self, claimed: ClaimedExecution) -> bool:
        return claimed.claim_token in self.tokens or claim_of(claimed) in self.claims


@dataclass(frozen=True)
class Note:
    """How an attempt ended, as its process noted it.

    `text` is the JSON of what the task returned, None where that was too large; or the path of the
    exception and, on the next line, the beginning of its message, both as far as they had room.
    """

    started_at: datetime
    ended_at: datetime
    is_failed: bool
    text: str | None
    retry_at: datetime | None = None


@dataclass(frozen=True)
class Remains:
    """What a dead process left: claims that it had not started, and attempts that had ended."""

    unstarted: Unstarted = Unstarted()
    ended: Mapping[Claim, Note] = field(default_factory=dict)

    def without_texts(self) -> Remains:
        """Return the same without results and errors, for a database that refuses one of them."""
        return replace(
            self, ended={claim: replace(note, text=None) for claim, note in self.ended.items()}
        )


UNKNOWN = Remains()
"""Nobody is left who knows."""


def noted_outcome(claimed: ClaimedExecution, note: Note, error: Exception) -> Outcome:
    """Return the outcome that the process of a claim noted before it died of `error`.

    Nothing is made up: a result that was too large to note is lost, and the job fails for good,
    because its task has been run to its end. Imports no task.
    """
    result = running(claimed, note.started_at, may_import=False)
    times: dict[str, Any] = {"started_at": note.started_at, "ended_at": note.ended_at}
    if note.is_failed:
        lost, failure = _failure(note, error)
        outcome = Outcome(
            claimed, **times, result=result, error=lost, failure=failure, retry_at=note.retry_at
        )
        return settled(outcome)
    if note.text is None:
        lost = ResultLost(f"the task ended and its result was lost, because {error}")
        return failed(claimed, result, lost, **times, is_last=True)
    value = json.loads(note.text)
    return settled(Outcome(claimed, **times, result=result, return_value=value))


def _failure(note: Note, error: Exception) -> tuple[ResultLost, Failure]:
    what = f"the traceback was lost, because {error}"
    if note.text is None:
        lost = ResultLost(f"the attempt failed and its error was lost, because {error}")
        return lost, Failure.of(lost)
    path, _, message = note.text.partition("\n")
    raised = f"{path}: {message}" if message else path
    lost = ResultLost(f"the attempt raised {raised} ({what})")
    return lost, Failure(path, message, f"{raised}\n\n{what}\n")
