"""What a project's own tests need: run jobs, look at what was enqueued, watch the databases.

Importing it imports neither Django's settings nor a model, because the pytest plugin lives here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dj_queue.testing.enqueued import assert_enqueued, capture_enqueues
    from dj_queue.testing.running import drain

__all__ = ["assert_enqueued", "capture_enqueues", "drain"]

MODULES = {
    "assert_enqueued": "dj_queue.testing.enqueued",
    "capture_enqueues": "dj_queue.testing.enqueued",
    "drain": "dj_queue.testing.running",
}


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
