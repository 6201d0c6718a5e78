"""`with use_backend("bulk"):` — for admin views, the shell and tests.

Library code never needs it: it carries a QueueDatabase.
"""

from __future__ import annotations

from contextvars import ContextVar

from dj_queue.routers import registry

_active: ContextVar[tuple[str, ...]] = ContextVar("dj_queue_backends", default=())


def active_backend() -> str | None:
    """Return the backend of the innermost `use_backend`, or None."""
    return _active.get()[-1] if _active.get() else None


def active_alias() -> str | None:
    """Return the database of the innermost `use_backend`, or None."""
    backend = active_backend()
    return None if backend is None else registry.database_for(backend)


class use_backend:  # noqa: N801 - reads as a verb, as `override_settings` does
    """Route queue models to one backend's database inside the block, sync or async.

    Nestable; raises UnknownBackend at once. Threads started inside do not inherit it.
    """

    def __init__(self, backend: str) -> None:
        registry.database_for(backend)
        self.backend = backend

    def __enter__(self) -> None:
        # The whole stack is in the variable, not its reset tokens in this object: tasks that share
        # the object would mix those up.
        _active.set((*_active.get(), self.backend))

    def __exit__(self, *exc: object) -> None:
        _active.set(_active.get()[:-1])

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *exc: object) -> None:
        self.__exit__()
