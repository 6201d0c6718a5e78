"""Run functions at the same moment, each in a thread with connections of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from django.db import connections


def together(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Start all functions when the last one is ready; return what they returned, in order."""
    barrier = Barrier(len(functions))

    def run(function: Callable[[], Any]) -> Any:
        try:
            for connection in connections.all():
                connection.ensure_connection()
            barrier.wait(timeout=30)
            return function()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(run, functions))
