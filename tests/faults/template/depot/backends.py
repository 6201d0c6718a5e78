"""A backend made of dj_queue's."""

from dj_queue.backend import DjQueueBackend


class DepotBackend(DjQueueBackend):
    """Ours, under another name."""
