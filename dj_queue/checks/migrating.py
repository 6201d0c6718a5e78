"""Whether a check runs for Django's `migrate`, which then applies what the check would miss."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType

from django.core.management.commands.migrate import Command as Migrate

from dj_queue.routers.router import APP_LABEL


def is_about_to_migrate(alias: str) -> bool:
    """Tell whether the running command is a `migrate` that will apply all of ours on `alias`."""
    # Django tells a check which databases are asked, not for which command.
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        options = frame.f_locals.get("options")
        if isinstance(frame.f_locals.get("self"), Migrate) and isinstance(options, Mapping):
            is_dry = options.get("plan") or options.get("check_unapplied")
            is_whole = options.get("app_label") in (None, APP_LABEL)
            is_latest = options.get("migration_name") is None
            return is_whole and is_latest and not is_dry and options.get("database") == alias
        frame = frame.f_back
    return False
