"""The planted application's task."""

import os
import signal

from dj_queue.compat import task


@task
def end_worker() -> None:
    """End the worker that runs this: only one that works comes to its end."""
    os.kill(os.getpid(), signal.SIGTERM)
