"""Tasks that change what surrounds them, and tell what they found."""

import decimal
from contextvars import ContextVar

from django.conf import settings
from django.utils import timezone, translation

from dj_queue.compat import task

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")
UNTOUCHED = ["en-us", settings.TIME_ZONE, "nobody"]
"""What `surroundings` gives where nothing was set."""
CHANGED = ["de", "Asia/Tokyo", "acme"]


def surroundings() -> list[object]:
    """Give the language, time zone and context variable of this place."""
    return [translation.get_language(), timezone.get_current_timezone_name(), TENANT.get()]


def change_surroundings() -> list[object]:
    """Set all of them; give what they were."""
    before = surroundings()
    translation.activate("de")
    timezone.activate("Asia/Tokyo")
    TENANT.set("acme")
    return before


@task
def settle_in(raises: bool = False) -> list[object]:
    """Change the surroundings."""
    before = change_surroundings()
    if raises:
        raise ValueError(before)
    return before


@task
def round_off() -> int:
    """Calculate with fewer digits from now on; give how many there were."""
    before = decimal.getcontext().prec
    decimal.getcontext().prec = 5
    return before


@task
async def settle_in_later() -> list[object]:
    """Change the surroundings, in a coroutine."""
    return change_surroundings()
