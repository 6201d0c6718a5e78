"""The dashboard's permissions, on the database where Django keeps permissions."""

from __future__ import annotations

from django.apps import apps
from django.contrib.auth import management
from django.db import IntegrityError, connections, router

from dj_queue.routers.router import APP_LABEL


def permissions_alias() -> str | None:
    """Return the database that has Django's permissions, or None without `django.contrib.auth`."""
    if not apps.is_installed("django.contrib.auth"):
        return None
    return router.db_for_write(apps.get_model("auth", "Permission"))


def create_permissions(alias: str, *, verbosity: int) -> None:
    """Create those of the dashboard's permissions that `alias` lacks; delete none.

    Before the first `migrate` of `alias` there is no table for them, and it will create them.
    Raises DatabaseError.
    """
    needed = {
        apps.get_model(name)._meta.db_table
        for name in ("auth.Permission", "contenttypes.ContentType")
    }
    with connections[alias].cursor() as cursor:
        if needed - set(connections[alias].introspection.table_names(cursor)):
            return
    ours = apps.get_app_config(APP_LABEL)
    try:
        management.create_permissions(ours, verbosity=verbosity, using=alias)
    except IntegrityError:
        # Another host has created them since they were looked for.
        management.create_permissions(ours, verbosity=verbosity, using=alias)
