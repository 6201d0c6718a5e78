"""Short ways to write TASKS, and rows with the same ids on both queue databases."""

import pytest
from django.db import connections

from dj_queue.models import Attempt, Job, ReadyExecution
from dj_queue.models.ids import new_id
from dj_queue.routers import queue_database
from tests.jobs import NOW, build

ID = new_id()
OURS = "dj_queue.backend.DjQueueBackend"


class Asked(Exception):
    """A statement reached a database although none should."""


def backend(alias=None, path=OURS, **options):
    """Give one entry of TASKS."""
    placed = {} if alias is None else {"database_alias": alias}
    return {"BACKEND": path, "QUEUES": [], "OPTIONS": {**placed, **options}}


@pytest.fixture
def tasks(settings):
    """Give a function that replaces settings.TASKS."""

    def change(**backends):
        settings.TASKS = backends

    return change


@pytest.fixture
def silence():
    """Fail when any statement reaches any database."""

    def refuse(execute, sql, params, many, context):
        raise Asked(f"{context['connection'].alias} was asked: {sql}")

    wrapped = [connections[alias].execute_wrapper(refuse) for alias in connections]
    for each in wrapped:
        each.__enter__()
    yield
    for each in reversed(wrapped):
        each.__exit__(None, None, None)


@pytest.fixture
def queue():
    """The database of the backends `default` and `alerts`."""
    return queue_database("default")


@pytest.fixture
def bulk():
    """The database of the backend `bulk`."""
    return queue_database("bulk")


@pytest.fixture
def twins(queue, bulk):
    """A job, its state and an attempt with the same ids on both databases; give the jobs."""
    for db in (queue, bulk):
        columns = {"backend": db.backend, "queue_name": db.alias, "priority": 0}
        db.objects(Job).bulk_create([build(db, id=ID, queue_name=db.alias)])
        db.objects(ReadyExecution).bulk_create([ReadyExecution(job_id=ID, **columns)])
        db.objects(Attempt).bulk_create([attempt(job_id=ID, id=ID, message=db.alias)])
    return queue.objects(Job).get(), bulk.objects(Job).get()


def attempt(**columns):
    """Build a failed attempt, not stored yet."""
    times = {"started_at": NOW, "ended_at": NOW}
    texts = {"exception_path": "x", "message": "x", "traceback": "x"}
    return Attempt(**{"number": 1, "worker_id": ID} | times | texts | columns)
