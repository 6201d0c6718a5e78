"""dj_queue is in TASKS and DATABASE_ROUTERS, but not in INSTALLED_APPS."""

import pytest

from tests.faults.project import Project

SAYS = "expected INSTALLED_APPS to have 'dj_queue', because TASKS or DATABASE_ROUTERS names it"


@pytest.mark.parametrize(
    "command",
    [
        "check --database default",  # Without a database, Django before 6.1 asks no router.
        "migrate",
        "-c from depot.models import Shelf; Shelf.objects.count()",
        "-c from dj_queue.compat import task_backends; task_backends['default']",
        "-c from dj_queue.testing import drain",
        "-c from dj_queue.queues import Queue",
        "-c from depot.tasks import end_worker; end_worker.enqueue()",
    ],
)
def test_a_project_without_the_app_is_told_so(project: Project, command: str):
    project.write({"INSTALLED_APPS": [it for it in project.apps if it != "dj_queue"]})

    (outcome,) = project.run(command)

    assert outcome.status == 1
    assert f"ImproperlyConfigured: {SAYS}" in outcome.text


def test_the_backend_alone_says_so_too(project: Project):
    """No router leads to us here, as in the quickstart's project with one database."""
    project.write(
        {
            "INSTALLED_APPS": [it for it in project.apps if it != "dj_queue"],
            "DATABASE_ROUTERS": [],
            "TASKS": {"default": {"BACKEND": "dj_queue.backend.DjQueueBackend"}},
        }
    )

    (outcome,) = project.run("-c from depot.tasks import end_worker; end_worker.enqueue()")

    assert outcome.status == 1
    assert f"ImproperlyConfigured: {SAYS}" in outcome.text
