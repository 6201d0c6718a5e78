"""Backends that TASKS may name: ours by inheritance, somebody else's, and none at all."""

from dj_queue.backend import DjQueueBackend
from dj_queue.compat import BaseTaskBackend


class TracingBackend(DjQueueBackend):
    """A project's own backend, made of ours."""


class NestedTracingBackend(TracingBackend):
    """Made of ours at second hand."""


class ForeignBackend(BaseTaskBackend):
    """Another library's backend."""


def not_a_class():
    """Stand where a backend's path points by mistake."""
