"""Which database a queue row lives on: registry, handle, context and router."""

from dj_queue.routers.context import use_backend
from dj_queue.routers.handle import Database, QueueDatabase, queue_database
from dj_queue.routers.router import DjQueueRouter

__all__ = ["Database", "DjQueueRouter", "QueueDatabase", "queue_database", "use_backend"]
