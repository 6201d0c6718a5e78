"""Selectors: which queues a worker serves, and in which turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dj_queue.models import ClaimedExecution


@dataclass(frozen=True)
class Turn:
    """Queues of equal rank: what one selector stands for at the moment of a claim.

    `names` are queues that have ready jobs and are not paused; None is any queue but those in
    `but`, which earlier turns have.
    """

    names: tuple[str, ...] | None
    but: tuple[str, ...] = ()


def selects(selector: str, name: str) -> bool:
    """Tell whether a selector (`"*"`, an exact name or `"prefix*"`) means a queue."""
    return name.startswith(selector[:-1]) if selector.endswith("*") else selector == name


def distinct_selectors(selectors: Sequence[str]) -> tuple[str, ...]:
    """Return selectors in order, without those that earlier ones cover."""
    distinct: list[str] = []
    for selector in selectors:
        if not any(earlier == selector or _covers(earlier, selector) for earlier in distinct):
            distinct.append(selector)
    return tuple(distinct)


def turns_of(selectors: Sequence[str], ready: Mapping[str, bool]) -> list[Turn]:
    """Return who is served when. `ready` maps queues that have ready jobs to: it is paused."""
    turns: list[Turn] = []
    earlier: set[str] = set()
    for selector in distinct_selectors(selectors):
        meant = [name for name in ready if name not in earlier and selects(selector, name)]
        names = tuple(name for name in meant if not ready[name])
        if names and selector == "*" and not any(ready.values()):
            turns.append(Turn(None, tuple(earlier)))
        elif names:
            turns.append(Turn(names))
        earlier.update(meant)
    return turns


def in_turn(rows: Sequence[ClaimedExecution], selectors: Sequence[str]) -> list[ClaimedExecution]:
    """Sort what these selectors claimed: by turn, highest priority first, then by age."""
    names = {row.queue_name for row in rows}
    turns = {
        name: next(turn for turn, selector in enumerate(selectors) if selects(selector, name))
        for name in names
    }
    # As a number: UUIDs take ten times as long to compare.
    return sorted(rows, key=lambda row: (turns[row.queue_name], -row.priority, row.job_id.int))


def _covers(earlier: str, selector: str) -> bool:
    return earlier.endswith("*") and selector.startswith(earlier[:-1])
