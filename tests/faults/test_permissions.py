"""The dashboard's permissions in a project that migrates its queue databases alone."""

from copy import deepcopy

import pytest

from tests.admin.conftest import ACTIONS, RAW
from tests.faults.conftest import is_sqlite
from tests.faults.project import Project

USED = sorted(["view_dashboard", *ACTIONS.values(), *RAW.values()])
AUTH = "django.contrib.auth"
SHOW = (
    "-c import json; from django.contrib.auth.models import Permission as P; print(json.dumps("
    "dict(P.objects.filter(content_type__app_label='dj_queue').values_list('codename', 'pk'))))"
)
GRANT = (
    "-c from django.contrib.auth.models import Group, Permission as P, User; "
    "held = P.objects.filter(codename__in=['view_job', 'retry_job']); "
    "Group.objects.create(name='operators').permissions.set(held); "
    "User.objects.create(username='ann').user_permissions.set(held)"
)
HELD = (
    "-c from django.contrib.auth.models import User, Group; "
    "print(len(User.objects.get().get_all_permissions()), Group.objects.get().permissions.count())"
)


def before_dj_queue(project: Project, **changes: object) -> None:
    """Migrate the application's database as it was before dj_queue was installed."""
    apps = [AUTH, *project.apps]
    old = [each for each in apps if each not in ("dj_queue", "depot")]
    project.write({"INSTALLED_APPS": old, "TASKS": {}, "DATABASE_ROUTERS": [], **changes})
    (migrated,) = project.run("migrate")
    assert migrated.status == 0, migrated.text
    project.write({"INSTALLED_APPS": apps, **changes})


def down(project: Project, alias: str, closed_port: int) -> dict[str, str]:
    """Give the changes of settings by which `alias` cannot be reached."""
    if is_sqlite(project.databases[alias]):
        return {f"DATABASES.{alias}.NAME": str(project.directory)}
    return {f"DATABASES.{alias}.HOST": "127.0.0.1", f"DATABASES.{alias}.PORT": str(closed_port)}


def test_dj_queue_migrate_alone_creates_the_permissions_and_keeps_grants(empty: Project):
    before_dj_queue(empty)

    before, done, after = empty.run(SHOW, "dj_queue_migrate", SHOW)
    ends = empty.run(GRANT, "dj_queue_migrate", "migrate", "dj_queue_migrate", SHOW, HELD)

    assert (before.json, done.status, done.err) == ({}, 0, "")
    assert sorted(after.json) == USED
    assert [each.status for each in ends] == [0] * 6, ends
    assert ends[4].json == after.json
    assert ends[5].text == "2 2"


def test_check_creates_none(empty: Project):
    before_dj_queue(empty)

    _, seen = empty.run("dj_queue_migrate --check", SHOW)

    assert seen.json == {}


def test_one_queue_database_that_is_down_does_not_prevent_them(empty: Project, closed_port: int):
    before_dj_queue(empty)
    empty.write({"INSTALLED_APPS": [AUTH, *empty.apps], **down(empty, "bulk", closed_port)})

    done, seen = empty.run("dj_queue_migrate", SHOW)

    assert (done.status, "not ready: 1 of 2 queue databases" in done.text) == (1, True), done
    assert sorted(seen.json) == USED


def test_before_the_first_migrate_nothing_is_missed(empty: Project):
    empty.write({"INSTALLED_APPS": [AUTH, *empty.apps]})

    first, migrated, seen = empty.run("dj_queue_migrate", "migrate", SHOW)

    assert (first.status, first.err, migrated.status) == (0, "", 0)
    assert sorted(seen.json) == USED


def test_without_djangos_auth_there_are_none(empty: Project):
    done, again = empty.run("dj_queue_migrate", "migrate")

    assert (done.status, done.err, again.status) == (0, "", 0)


def test_an_application_database_that_is_down_leaves_the_queue_ready(
    empty: Project, closed_port: int
):
    empty.write({"INSTALLED_APPS": [AUTH, *empty.apps], **down(empty, "default", closed_port)})

    (done,) = empty.run("dj_queue_migrate")

    assert (done.status, "ready: 2 queue databases" in done.out) == (0, True), done
    assert "expected to create the dashboard's permissions on database 'default', got" in done.err


@pytest.mark.parametrize("custom", [False, True], ids=["Django's user", "custom user"])
def test_permissions_are_created_where_a_router_keeps_them(empty: Project, custom: bool):
    # Where only the other queue database is migrated, and `default` has none of auth's tables.
    (empty.directory / "people.py").write_text(
        "class Router:\n"
        "    def db_for_read(self, model, **hints):\n"
        "        return 'bulk' if model._meta.app_label in LABELS else None\n"
        "    db_for_write = db_for_read\n"
        "    def allow_migrate(self, db, app_label, **hints):\n"
        "        return db == 'bulk' if app_label in LABELS else None\n"
        "LABELS = {'auth', 'contenttypes', 'staff'}\n",
        encoding="utf-8",
    )
    changes: dict[str, object] = {"DATABASE_ROUTERS": ["people.Router"]}
    apps = [AUTH, *empty.apps]
    if custom:
        staff = empty.directory / "staff"
        staff.mkdir()
        (staff / "__init__.py").touch()
        (staff / "models.py").write_text(
            "from django.contrib.auth.base_user import AbstractBaseUser\n"
            "from django.db import models\n"
            "class Person(AbstractBaseUser):\n"
            "    name = models.CharField(max_length=50, unique=True)\n"
            "    USERNAME_FIELD = 'name'\n"
        )
        apps = [*apps, "staff"]
        changes["AUTH_USER_MODEL"] = "staff.Person"
    old = [each for each in apps if each not in ("dj_queue", "depot")]
    empty.write({**deepcopy(changes), "INSTALLED_APPS": old, "TASKS": {}})
    (migrated,) = empty.run("migrate --database bulk")
    changes["DATABASE_ROUTERS"] = ["people.Router", "dj_queue.routers.DjQueueRouter"]
    empty.write({**changes, "INSTALLED_APPS": apps})

    done, seen = empty.run("dj_queue_migrate --backend default", SHOW)

    assert (migrated.status, done.status, done.err) == (0, 0, ""), (migrated, done)
    assert sorted(seen.json) == USED
