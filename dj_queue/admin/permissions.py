"""What an operator may do: each action has a permission of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

APP = "dj_queue"


@dataclass(frozen=True)
class Action:
    """Something that can be done: its permission, its words, and to jobs in which states.

    Without states it is done to a queue. What `asks` is confirmed on a page of its own.
    """

    name: str
    permission: str
    label: str
    done: str
    states: Sequence[str] = ()
    asks: bool = False
    tone: str = ""


PAUSE = Action("pause", "pause_queue", "Pause", "Paused")
RESUME = Action("resume", "resume_queue", "Resume", "Resumed")
CLEAR = Action("clear", "clear_queue", "Clear", "Discarded", asks=True, tone="danger")
RETRY = Action("retry", "retry_job", "Retry", "Retried", ["failed"])
RUN_NOW = Action("run_now", "run_job_now", "Run now", "Made ready", ["scheduled"])
DISCARD = Action(
    "discard",
    "discard_job",
    "Discard",
    "Discarded",
    ["ready", "scheduled", "blocked", "failed"],
    asks=True,
    tone="danger",
)
AGAIN = Action("again", "enqueue_job_again", "Enqueue again", "Enqueued again", ["finished"])

QUEUE_ACTIONS = {each.name: each for each in (PAUSE, RESUME, CLEAR)}
JOB_ACTIONS = {each.name: each for each in (RETRY, RUN_NOW, AGAIN, DISCARD)}


@dataclass(frozen=True)
class Operator:
    """Who looks at a page."""

    user: Any

    @classmethod
    def of(cls, request: HttpRequest) -> Operator:
        """Return the operator of a request."""
        return cls(request.user)

    def may(self, action: Action) -> bool:
        """Tell whether they may do this."""
        return self.user.has_perm(f"{APP}.{action.permission}")

    def may_see(self, model: Any) -> bool:
        """Tell whether they may look at the raw rows of a model."""
        name = model._meta.model_name
        return any(self.user.has_perm(f"{APP}.{verb}_{name}") for verb in ("view", "change"))

    def job_actions(self, state: str) -> list[Action]:
        """Return what they may do to jobs in a state."""
        return [each for each in JOB_ACTIONS.values() if state in each.states and self.may(each)]
