"""Record which deployment a queue database belongs to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import IntegrityError

from dj_queue.checks.deployment import deployment, installation
from dj_queue.models import Installation
from dj_queue.routers import Database
from dj_queue.routers.registry import backends_on


def introduce(db: Database, *, now: datetime) -> None:
    """Record this deployment where no other has been recorded yet."""
    if installation(db) is not None:
        return
    try:
        with db.atomic():
            db.objects(Installation).bulk_create([_ours(db, now)])
    except IntegrityError:
        return  # Another worker was faster.


def adopt(db: Database, *, now: datetime) -> None:
    """Record this deployment in place of whichever is there; the installation keeps its id."""
    introduce(db, now=now)
    ours = _ours(db, now)
    db.objects(Installation).filter(pk=Installation.THE_ONE).update(
        deployment=ours.deployment, backends=ours.backends, recorded_at=now
    )


def _ours(db: Database, now: datetime) -> Installation:
    backends: Any = sorted(backends_on(db.alias))
    return Installation(deployment=deployment(), backends=backends, recorded_at=now)
