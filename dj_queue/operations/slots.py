"""Slots of concurrency keys: taken back from who ends, and handed on to who waits, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, OuterRef

from dj_queue.engines import engine_for
from dj_queue.engines.claims import HandedOn, Heir, held
from dj_queue.engines.semaphores import IN_ORDER
from dj_queue.models import (
    BlockedExecution,
    ClaimedExecution,
    ReadyExecution,
    Semaphore,
    Slot,
    state_of,
)
from dj_queue.operations.transitions import in_transaction, move
from dj_queue.routers import Database, QueueDatabase


def settle(
    db: QueueDatabase,
    keys: Iterable[str],
    *,
    now: datetime,
    ended: Mapping[UUID, str] | None = None,
    recount: bool = False,
    heir: Heir | None = None,
) -> HandedOn:
    """Take back the slots of ended jobs, then hand on what is free; return who got them.

    `ended` gives the key, one of `keys`, of each job that held a slot, or may have. The slots of a
    key go to its blocked jobs, highest priority first, then by id, of any backend; each as long as
    fewer are held than its own limit, and none goes before one that may not yet. With `recount`,
    slots whose holder is gone are taken back as well. Who gets a slot is ready; or claimed by
    `heir`, while it has room, if it is one of its backend and queues that is next in any case: none
    is ready there, and the queue is not paused. Locks the semaphores of the keys, in their
    order, and needs an open transaction of our own: until it ends nobody else can settle these
    keys.
    """
    in_order = sorted(set(keys))
    if not in_order:
        return HandedOn()
    if not ended:
        return _settle(db, in_order, {}, now, recount=recount, heir=heir)
    handed, left = engine_for(db).hand_on(db, ended, now, heir)
    if left:
        rest = {job_id: key for job_id, key in ended.items() if key in left}
        if heir is not None:
            heir = replace(heir, room=heir.room - len(handed.inherited))
        handed += _settle(db, sorted(left), rest, now, heir=heir)
    return handed


def release(db: QueueDatabase, ids: Sequence[UUID], *, now: datetime) -> int:
    """Take back the slots of jobs, those that hold any; return how many others became ready.

    For who takes jobs out of ready or claimed and does not finish them. Needs an open transaction
    of our own.
    """
    held = dict(db.objects(Slot).filter(pk__in=ids).values_list("pk", "key"))
    return settle(db, held.values(), now=now, ended=held).count if held else 0


def recount_expired(db: QueueDatabase, *, now: datetime, limit: int) -> int:
    """Count again who holds slots of up to `limit` expired semaphores; return how many there were.

    Slots whose holder is gone are handed on. Opens a transaction.
    """
    expired = db.objects(Semaphore).filter(expires_at__lte=now).order_by("expires_at")
    keys = list(expired.values_list("key", flat=True)[:limit])
    _settle_free(db, keys, now, recount=True)
    return len(keys)


def hand_on_missed(db: QueueDatabase, *, now: datetime, after_key: str, limit: int) -> str:
    """Hand on free slots of the next `limit` keys that have blocked jobs, in the keys' order.

    Slots stay free when a process dies between a commit and the handing on. Returns the key to go
    on behind, "" at the end. Opens a transaction only where a slot is free.
    """
    limits: dict[str, int] = {}
    blocked = db.objects(BlockedExecution).order_by("concurrency_key", *IN_ORDER)
    while len(limits) < limit:
        # One step through the index for each: DISTINCT would read every blocked job.
        rest = blocked.filter(concurrency_key__gt=after_key)
        first = rest.values_list("concurrency_key", "concurrency_limit").first()
        if first is None:
            after_key = ""
            break
        after_key, most = first
        limits[after_key] = most
    held = dict(db.objects(Semaphore).filter(pk__in=list(limits)).values_list("key", "held"))
    free = [key for key, most in limits.items() if held.get(key, 0) < most]
    _settle_free(db, free, now)
    return after_key


def _settle(
    db: QueueDatabase,
    keys: Sequence[str],
    ended: Mapping[UUID, str],
    now: datetime,
    *,
    recount: bool = False,
    heir: Heir | None = None,
) -> HandedOn:
    semaphores = engine_for(db).lock_semaphores(db, keys, now)
    known = {key: (row.held, row.expires_at) for key, row in semaphores.items()}
    if recount:
        _free_of_the_gone(db, semaphores, now)
    elif ended:
        _free(db, semaphores, ended)
    freed = Counter(ended.values())
    wanted = Counter({key: freed[key] + 1 for key in semaphores})
    handed = _hand_on(db, semaphores, wanted, now, heir)
    changed = [
        row
        for key, row in semaphores.items()
        if not row.held or (row.held, row.expires_at) != known[key]
    ]
    engine_for(db).store_semaphores(db, changed)
    return handed


def _free(db: Database, semaphores: Mapping[str, Semaphore], ended: Mapping[UUID, str]) -> None:
    count = engine_for(db).delete_slots(db, list(ended))
    freed = Counter(ended.values())
    # Some may have lost their slots before: rarely, so it is counted only then.
    if count < len(ended) or any(semaphores[key].held < freed[key] for key in freed):
        _count(db, semaphores)
        return
    for key in freed:
        semaphores[key].held -= freed[key]


def _free_of_the_gone(
    db: QueueDatabase, semaphores: Mapping[str, Semaphore], now: datetime
) -> None:
    same = {"pk": OuterRef("pk")}
    slots = db.objects(Slot).filter(key__in=list(semaphores))
    gone = slots.exclude(Exists(db.objects(ReadyExecution).filter(**same))).exclude(
        Exists(db.objects(ClaimedExecution).filter(**same))
    )
    ids = list(gone.values_list("pk", flat=True))
    if ids:
        db.objects(Slot).filter(pk__in=ids)._raw_delete(db.alias)
    _count(db, semaphores)
    for row in semaphores.values():
        row.expires_at = now + timedelta(seconds=db.options.default_concurrency_duration)


def _count(db: Database, semaphores: Mapping[str, Semaphore]) -> None:
    slots = db.objects(Slot).filter(key__in=list(semaphores)).values_list("key")
    held = dict(slots.annotate(Count("pk")))
    for key, row in semaphores.items():
        row.held = held.get(key, 0)


def _hand_on(
    db: QueueDatabase,
    semaphores: Mapping[str, Semaphore],
    wanted: Counter[str],
    now: datetime,
    heir: Heir | None,
) -> HandedOn:
    """Give slots to blocked jobs whose turn it is, looking first at as many as are wanted of a key.

    Once more at each key whose slots may not be used up; what the heir gets is of the first look.
    """
    count = 0
    inherited: list[ClaimedExecution] = []
    while wanted:
        first_heir = None if count else heir
        blocked = engine_for(db).next_blocked(db, wanted, for_heir=first_heir is not None)
        chosen, wanted = _choose(semaphores, wanted, blocked)
        mine = _inheritance(db, chosen, first_heir) if first_heir else set()

        def become(row: BlockedExecution, mine: Collection[UUID] = mine) -> list[Any]:
            state: Any = state_of(ReadyExecution, row)
            if heir is not None and row.job_id in mine:
                state = held(row, heir.holder)
                inherited.append(state)
            return [state, Slot(row.job_id, row.concurrency_key)]

        taken = _take(db, chosen, become)
        for row in taken:
            _hold(semaphores[row.concurrency_key], row, now)
        count += len(taken)
        # Who was chosen and is gone was discarded at this moment: another look finds the next.
        missing = {row.job_id for row in chosen} - {row.job_id for row in taken}
        wanted.update({row.concurrency_key: 1 for row in chosen if row.job_id in missing})
    if inherited:
        engine_for(db).load_jobs(db, inherited)
    return HandedOn(count, tuple(inherited))


def _choose(
    semaphores: Mapping[str, Semaphore],
    wanted: Mapping[str, int],
    blocked: Iterable[BlockedExecution],
) -> tuple[list[BlockedExecution], Counter[str]]:
    """Return those of the first blocked jobs whose turn it is, and how many to look at next."""
    chosen: list[BlockedExecution] = []
    counts: Counter[str] = Counter()
    stuck = set()
    for row in blocked:
        key = row.concurrency_key
        if key not in stuck and semaphores[key].held + counts[key] < row.concurrency_limit:
            chosen.append(row)
            counts[key] += 1
        else:
            stuck.add(key)
    asked = wanted if len(wanted) == 1 else dict.fromkeys(wanted, 1)
    more = {key: 2 * count for key, count in counts.items() if count == asked[key]}
    return chosen, Counter(more)


def _inheritance(db: QueueDatabase, chosen: Sequence[BlockedExecution], heir: Heir) -> set[UUID]:
    """Return the ids of those jobs, of the ones that get a slot, that the heir is to hold."""
    own = [row for row in chosen if row.backend == db.backend and row.queue_name in heir.queues]
    next_ = [row.job_id for row in own if not row.is_preceded]  # type: ignore[attr-defined]
    return set(next_[: heir.room])


def _take(
    db: Database,
    rows: Sequence[BlockedExecution],
    become: Callable[[BlockedExecution], Iterable[Any]],
) -> list[BlockedExecution]:
    taken: list[BlockedExecution] = []
    for backend in sorted({row.backend for row in rows}):
        ids = [row.job_id for row in rows if row.backend == backend]
        taken += move(QueueDatabase(alias=db.alias, backend=backend), BlockedExecution, ids, become)
    return taken


def _hold(semaphore: Semaphore, row: BlockedExecution, now: datetime) -> None:
    semaphore.held += 1
    seconds = timedelta(seconds=row.concurrency_seconds)
    # Not at every handing on: a write less.
    if semaphore.expires_at < now + seconds / 2:
        semaphore.expires_at = now + seconds


def _settle_free(
    db: QueueDatabase, keys: Collection[str], now: datetime, *, recount: bool = False
) -> int:
    """Settle keys but those whose semaphore another transaction has locked: it settles them."""

    def transaction() -> int:
        free = engine_for(db).free_semaphores(db, list(keys))
        made = set(db.objects(Semaphore).filter(pk__in=list(keys)).values_list("pk", flat=True))
        return settle(db, {*free, *(set(keys) - made)}, now=now, recount=recount).count

    return in_transaction(db, transaction) if keys else 0
