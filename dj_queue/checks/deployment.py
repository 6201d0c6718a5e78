"""Which deployment this process is, and whether a queue database belongs to it."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from django.conf import settings
from django.db import connections
from django.utils.crypto import salted_hmac

from dj_queue.models import Installation
from dj_queue.routers import Database
from dj_queue.routers.registry import APPLICATION_ALIAS, backends_on


def deployment() -> str:
    """Return the fingerprint of this deployment: 64 hex digits.

    Of the SECRET_KEY and the name of the application's database. Not of its host: web and worker
    hosts of one deployment may reach it by different addresses.
    """
    name = PurePath(str(connections[APPLICATION_ALIAS].settings_dict["NAME"])).name
    return salted_hmac("dj_queue.deployment", name, algorithm="sha256").hexdigest()


def deployment_name() -> str:
    """Return what people call this deployment: its settings and the application's database."""
    database = PurePath(str(connections.settings[APPLICATION_ALIAS]["NAME"] or "")).name
    return ", ".join(filter(None, [settings.SETTINGS_MODULE, database]))


def installation(db: Database) -> Installation | None:
    """Read whose queue database this is; None before anybody said."""
    return db.objects(Installation).filter(pk=Installation.THE_ONE).first()


def is_foreign(db: Database) -> bool:
    """Tell whether another deployment recorded itself on the queue database."""
    row = installation(db)
    return row is not None and row.deployment != deployment()


def describe_stranger(db: Database) -> str | None:
    """Say how the database's deployment differs from this one, or None when it does not."""
    row = installation(db)
    if row is None:
        return None
    place = f"expected queue database {db.alias!r} to belong to this deployment, got installation"
    if row.deployment != deployment():
        return (
            f"{place} {row.installation_id} of another SECRET_KEY or application database, "
            f"recorded {row.recorded_at:%Y-%m-%d %H:%M:%S} for backends {', '.join(row.backends)}"
        )
    ours = sorted(backends_on(db.alias))
    theirs: Any = row.backends
    if theirs != ours:
        return (
            f"{place} {row.installation_id} with backends {', '.join(theirs)} instead of "
            f"{', '.join(ours)}"
        )
    return None
