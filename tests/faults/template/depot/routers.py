"""Routers that projects have for other reasons, and what they do to the queue."""

from typing import Any


class PrimaryRouter:
    """Answers for every model."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "default"

    db_for_write = db_for_read


class ConstantRouter:
    """Sends all queue models to one database, whatever the backend."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "queue" if model._meta.app_label == "dj_queue" else None

    db_for_write = db_for_read


class ReplicaRouter:
    """Sends every read elsewhere."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "default"


class DepotReplicaRouter:
    """Sends the reads of its own application elsewhere."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "default" if model._meta.app_label == "depot" else None


class ReservingRouter:
    """Keeps every table on the application's database."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "default"


class DepotReservingRouter:
    """Keeps the tables of its own application on the application's database."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return db == "default" if app_label == "depot" else None
