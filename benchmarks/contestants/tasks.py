"""The tasks of every Django contestant."""

import threading
import time

from protocol import record

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task


@task()
def noop(number: int) -> None:
    """Do nothing."""


@task()
def stamp(sent: float) -> None:
    """Record the seconds since the enqueue."""
    record(time.time() - sent)


@task()
def span(number: int) -> None:
    """Record when this job began and ended."""
    began = time.time()
    ended = time.time()
    record(f"{began} {ended} {number}")


@task()
def append(number: int) -> None:
    """Record that this job was executed."""
    record(number)


@task()
def append_with_thread(number: int) -> None:
    """Record that this job was executed, and by which thread of the process."""
    record(f"{number} {threading.get_ident()}")


@task()
def fail(number: int) -> None:
    """Raise."""
    raise ValueError(number)
