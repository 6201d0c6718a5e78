"""A module that forks when it is imported, and whose child goes on."""

import os

from dj_queue.compat import TaskContext
from dj_queue.tasks import task
from tests.shop.recorded import begin

os.fork()


@task(takes_context=True)
def work(context: TaskContext) -> None:
    """Write down that it was called."""
    begin(context)
