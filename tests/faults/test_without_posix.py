"""A system without fork, fcntl and POSIX signals, as Windows is: what works, and what says so."""

from typing import Any

import pytest

from tests.faults.project import Project
from tests.faults.test_live_faults import ENQUEUE, SILENCE

AWAY = """
import os, select, signal, sys
for name in ("fcntl", "pwd", "grp", "resource", "termios", "setproctitle"):
    sys.modules[name] = None
for module, names in {
    os: ["fork", "pread", "register_at_fork", "memfd_create", "WNOHANG", "getppid"],
    signal: ["SIGQUIT", "SIGKILL", "SIGHUP", "SIGCHLD", "SIGUSR1", "pthread_sigmask"],
    select: ["poll"],
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
"""
RESULT = (
    "-c from depot.tasks import end_worker; from dj_queue.compat import task_backends; "
    "result = end_worker.enqueue(); print(task_backends['default'].get_result(result.id).status)"
)
IMPORTS = (
    "-c import dj_queue.admin.dashboard, dj_queue.testing, dj_queue.queues, dj_queue.recurring, "
    "dj_queue.tasks, dj_queue.observability.snapshot"
)


@pytest.fixture
def elsewhere(migrated: Project) -> Project:
    """Give the healthy project on a system without POSIX."""
    migrated.write(
        {
            "INSTALLED_APPS": ADMIN + migrated.apps,
            "TEMPLATES": TEMPLATES,
            # The admin's middleware: no request is made here.
            "SILENCED_SYSTEM_CHECKS": [f"admin.E{number}" for number in (408, 409, 410)],
        }
    )
    settings = migrated.directory / "settings.py"
    settings.write_text(AWAY + settings.read_text())
    return migrated


ADMIN = [f"django.contrib.{name}" for name in ("admin", "auth", "sessions", "messages")]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def test_all_but_the_workers_works(elsewhere: Project):
    checked, migrated, enqueued, result, mapped, imported = elsewhere.run(
        "check --tag dj_queue --database default --database queue --database bulk",
        "dj_queue_migrate",
        ENQUEUE,
        RESULT,
        "dj_queue_routes",
        IMPORTS,
    )

    outcomes = (checked, migrated, enqueued, result, mapped, imported)
    assert [each.status for each in outcomes] == [0] * 6, [each.text for each in outcomes]
    assert checked.text == SILENCE
    assert "READY" in result.text


@pytest.mark.parametrize("mode", ["fork", "thread"])
def test_workers_say_what_they_need(elsewhere: Project, mode: str):
    (outcome,) = elsewhere.run(f"dj_queue --mode {mode}")

    assert outcome.status == 1
    assert "expected a POSIX system such as Linux or macOS to run dj_queue's workers" in (
        outcome.text
    )
