"""The guard rail for user code, the shell and the admin: it follows, or it refuses."""

from __future__ import annotations

from typing import Any

from django.db import router
from django.db.models import Model

from dj_queue.exceptions import AmbiguousRoute, WrongDatabase
from dj_queue.routers import registry
from dj_queue.routers.context import active_alias, active_backend

APP_LABEL = "dj_queue"


class DjQueueRouter:
    """List it first in DATABASE_ROUTERS: `"dj_queue.routers.DjQueueRouter"`."""

    def __init__(self) -> None:
        registry.require_installed()

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """Return the database of a queue model's rows; None for other models.

        Raises AmbiguousRoute or WrongDatabase, never guesses.
        """
        if not _is_ours(model):
            return None
        instance = hints.get("instance")
        return (
            _where_it_lives(model, instance)
            or _where_it_belongs(instance)
            or active_alias()
            or registry.sole_database()
            or _refuse(model)
        )

    db_for_write = db_for_read

    def allow_relation(self, obj1: Model, obj2: Model, **hints: Any) -> bool | None:
        """Allow relations between queue rows of one database; with other models, never."""
        ours = _is_ours(type(obj1)), _is_ours(type(obj2))
        if not any(ours):
            return None
        return all(ours) and obj1._state.db == obj2._state.db

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Put our tables on every queue database and nowhere else, by label and alias alone."""
        if app_label == APP_LABEL:
            return registry.is_queue_database(db)
        if not registry.is_dedicated(db):
            return None
        if registry.said_dedicated(db) is None and _is_wanted(db, app_label, hints):
            return None
        return False


def _is_wanted(db: str, app_label: str, hints: dict[str, Any]) -> bool:
    """Tell whether another router puts the app's tables on `db`."""
    others = [each for each in router.routers if not isinstance(each, DjQueueRouter)]
    asked = [each.allow_migrate for each in others if hasattr(each, "allow_migrate")]
    return any(allow_migrate(db, app_label, **hints) for allow_migrate in asked)


def _is_ours(model: type[Model]) -> bool:
    return model._meta.app_label == APP_LABEL


def _where_it_lives(model: type[Model], instance: Model | None) -> str | None:
    alias = instance._state.db if instance is not None else None
    if alias is None or registry.is_queue_database(alias):
        return alias
    raise WrongDatabase(
        f"expected a row of a queue database ({_names(registry.databases())}) to say where "
        f"{model._meta.label} lives, got a {type(instance).__name__} of {alias!r}"
    )


def _where_it_belongs(instance: Model | None) -> str | None:
    backend = getattr(instance, "backend", None)
    if instance is None or not _is_ours(type(instance)) or not backend:
        return None
    alias, active = registry.database_for(backend), active_alias()
    if active not in (None, alias):
        raise WrongDatabase(
            f"expected a row of a backend on {active!r} inside use_backend({active_backend()!r}), "
            f"got a {type(instance).__name__} of backend {backend!r}, which lives on {alias!r}"
        )
    return alias


def _refuse(model: type[Model]) -> str:
    candidates = _names(registry.databases()) or "none: TASKS has no dj_queue backend"
    raise AmbiguousRoute(
        f"expected to be told which queue database {model._meta.label} is meant on, got no hint; "
        f"there are several candidates ({candidates}). Name one with .using(alias) or "
        "save(using=alias), or wrap the code in `with dj_queue.routers.use_backend(name):`"
    )


def _names(aliases: tuple[str, ...]) -> str:
    return ", ".join(map(repr, aliases))
