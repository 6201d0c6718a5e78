"""A project of its own for a run of pytest in another process."""

import os

import django
import pytest

SETTINGS = """
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "dj_queue", *{more!r}]
DATABASES = {{
    alias: {{
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        "OPTIONS": {{"transaction_mode": "IMMEDIATE"}},
    }}
    for alias in ("default", "queue", "bulk", "reports")
}}
DATABASE_ROUTERS = ["dj_queue.routers.DjQueueRouter"]
TASKS = {{
    name: {{
        "BACKEND": "dj_queue.backend.DjQueueBackend",
        "QUEUES": [],
        "OPTIONS": {{"database_alias": alias}},
    }}
    for name, alias in {{"default": "queue", "alerts": "queue", "bulk": "bulk"}}.items()
}}
USE_TZ = True
SECRET_KEY = "only for tests"
"""
TASKS = """
from dj_queue.compat import task

@task
def work():
    return "done"
"""
HEAD = """
import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import SimpleTestCase, TestCase, TransactionTestCase
from dj_queue.testing import assert_enqueued, drain
from tasks import work

def opened():
    "Give the databases that may be used."
    found = set()
    for alias in connections:
        try:
            connections[alias].cursor().execute("SELECT 1")
        except Exception:
            continue
        found.add(alias)
    return found
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with queue databases; give a function that runs pytest over a test module."""
    # What this run was told is not meant for that one.
    for name in [name for name in os.environ if name.startswith(("DJANGO_", "DJ_QUEUE_"))]:
        monkeypatch.delenv(name)
    more = ["django_tasks"] if django.VERSION < (6, 0) else []
    pytester.makepyfile(project_settings=SETTINGS.format(more=more), tasks=TASKS)
    pytester.makeini("[pytest]\nDJANGO_SETTINGS_MODULE = project_settings\n")

    def run(tests, *options, head=HEAD):
        pytester.makepyfile(test_it=f"{head}\n{tests}")
        return pytester.runpytest_subprocess("--strict-markers", "-Werror", *options)

    return run
