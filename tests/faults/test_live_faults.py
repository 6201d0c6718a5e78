"""What only a database can tell: planted in databases of the project's own."""

from importlib.util import find_spec
from typing import Any

import pytest

from tests.faults.conftest import is_sqlite
from tests.faults.project import OURS, Project

CHECK = "check --tag dj_queue --fail-level WARNING"
CHECK_ALL = f"{CHECK} --database default --database queue --database bulk"
ROUTES = "dj_queue_routes --json"
# In threads: the task ends the process that runs it, which a supervisor would replace.
WORK = "dj_queue --mode thread --wait-for-migrations 0"
MINE = "depot.backends.DepotBackend"
SILENCE = "System check identified no issues (0 silenced)."
ENQUEUE = "-c from depot.tasks import end_worker; end_worker.using(backend='bulk').enqueue()"
LACKS = "expected all migrations of dj_queue on database 'bulk'"


@pytest.mark.parametrize("backend", ["dj_queue.backend.DjQueueBackend", MINE])
def test_a_healthy_project_is_silent_and_its_worker_works(migrated: Project, backend: str):
    migrated.write({"TASKS.bulk.BACKEND": backend})

    checked, mapped, enqueued, worked = migrated.run(CHECK_ALL, ROUTES, ENQUEUE, WORK)

    assert (checked.status, checked.text) == (0, SILENCE)
    assert (mapped.status, mapped.ids) == (0, [])
    assert all(each["is_reachable"] for each in mapped.json["databases"])
    assert (enqueued.status, worked.status) == (0, 0), enqueued.text + worked.text
    assert "WARNING" not in worked.text
    assert worked.out.endswith("stopped; all running jobs ended\n")


def dead(project: Project, port: int) -> dict[str, Any]:
    """Give changes that put `bulk` where nothing answers."""
    if is_sqlite(project.databases["bulk"]):
        return {"DATABASES.bulk.NAME": str(project.directory / "no such directory" / "bulk")}
    return {"DATABASES.bulk.HOST": "127.0.0.1", "DATABASES.bulk.PORT": port}


def test_a_migration_of_a_dead_database_says_so_and_migrates_the_others(
    project: Project, closed_port: int
):
    project.write(dead(project, closed_port))

    (outcome,) = project.run("dj_queue_migrate")

    assert outcome.status == 1
    assert "not ready: 1 of 2 queue databases" in outcome.text
    assert "Traceback" not in outcome.text
    if is_sqlite(project.databases["bulk"]):
        assert "DATABASES['bulk']['NAME']: expected a file in a directory" in outcome.text


def test_a_dead_database_is_named_and_the_others_are_asked(migrated: Project, closed_port: int):
    migrated.write(dead(migrated, closed_port))

    # Not `check`: Django 6.1 asks a MySQL server for its version there.
    (mapped,) = migrated.run(ROUTES)

    assert (mapped.status, mapped.ids) == (1, ["E100"])
    assert mapped.text.count("expected database 'bulk' to answer, got ") == 1
    queue, bulk = mapped.json["databases"]
    assert (queue["is_reachable"], queue["missing_tables"]) == (True, [])
    assert (bulk["is_reachable"], bulk["server"]) == (False, None)
    assert [each["ready"] for each in mapped.json["backends"]] == [0, None]


def test_check_names_a_dead_database_once_and_only_where_it_was_asked_for(migrated: Project):
    nowhere = str(migrated.directory / "no such directory" / "bulk")
    config = {"ENGINE": "django.db.backends.sqlite3", "NAME": nowhere}
    migrated.write({"DATABASES.bulk": config, "SILENCED_SYSTEM_CHECKS": ["dj_queue.W003"]})

    asked, other = migrated.run(f"{CHECK} --database bulk", f"{CHECK} --database queue")

    assert (asked.status, other.status) == (1, 0)
    assert asked.text.count("dj_queue.E") == 1
    assert "(dj_queue.E100) expected database 'bulk' to answer, got unable to open" in asked.text


def test_a_file_that_is_no_database_is_named_although_sqlite_opens_it(migrated: Project):
    path = migrated.directory / "no database"
    path.write_bytes(b"no database at all" * 100)
    config = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
    migrated.write({"DATABASES.bulk": config, "SILENCED_SYSTEM_CHECKS": ["dj_queue.W003"]})

    checked, mapped = migrated.run(f"{CHECK} --database bulk", ROUTES)

    assert (checked.status, mapped.status) == (1, 1)
    assert "(dj_queue.E100) expected database 'bulk' to answer, got file is not a" in checked.text
    assert mapped.ids == ["E100"]


def test_settings_that_cannot_connect_are_a_row_and_no_crash(migrated: Project):
    config = {"ENGINE": "django.db.backends.sqlite3", "NAME": ""}
    migrated.write({"DATABASES.bulk": config, "SILENCED_SYSTEM_CHECKS": ["dj_queue.W003"]})

    (mapped,) = migrated.run(ROUTES)

    assert (mapped.status, mapped.ids) == (1, ["E100"])
    assert "got settings.DATABASES is improperly configured" in mapped.text
    assert mapped.err == ""


def hanging(port: int) -> dict[str, Any]:
    """Give a server database whose server takes the connection and says nothing."""
    vendors = {"psycopg": "postgresql", "MySQLdb": "mysql"}
    found = [vendor for driver, vendor in vendors.items() if find_spec(driver)]
    if not found:
        pytest.skip("needs psycopg or mysqlclient")
    place = {"HOST": "127.0.0.1", "PORT": port, "USER": "x", "NAME": "x"}
    return {"DATABASES.bulk": {"ENGINE": f"django.db.backends.{found[0]}", **place}}


def test_a_database_that_hangs_is_named_in_time_and_the_others_are_asked(
    migrated: Project, silent_port: int
):
    migrated.write(hanging(silent_port))

    (mapped,) = migrated.run(f"{ROUTES} --timeout 3")

    assert (mapped.status, mapped.ids) == (1, ["E100"])
    assert "expected database 'bulk' to answer, got nothing within 3 s" in mapped.text
    assert [each["is_reachable"] for each in mapped.json["databases"]] == [True, False]
    assert 3 <= mapped.seconds < 30


@pytest.mark.parametrize("backend", ["dj_queue.backend.DjQueueBackend", MINE])
def test_a_database_without_our_migrations_is_named_until_it_has_them(empty: Project, backend: str):
    empty.write({"TASKS.bulk.BACKEND": backend})

    checked, mapped, worked, enqueued, _, healed = empty.run(
        f"{CHECK} --database bulk",
        ROUTES,
        WORK,
        ENQUEUE,
        "dj_queue_migrate",
        CHECK_ALL,
    )

    assert f"(dj_queue.W104) {LACKS}, it lacks 0001_initial" in checked.text
    assert (mapped.status, mapped.ids) == (1, ["W104"])
    assert (worked.status, enqueued.status) == (1, 1)
    assert "it lacks 0001_initial. Run `manage.py dj_queue_migrate`" in worked.text
    assert "NotMigrated: expected dj_queue's tables on database 'bulk'" in enqueued.text
    assert healed.text == SILENCE


@pytest.mark.parametrize("label", ["", " dj_queue"])
def test_migrate_is_not_warned_of_what_it_is_about_to_apply(empty: Project, label: str):
    planned, first, again = empty.run(
        f"migrate{label} --database bulk --plan",
        f"migrate{label} --database bulk",
        f"{CHECK} --database bulk",
    )

    assert (planned.status, first.status, again.text) == (0, 0, SILENCE)
    assert "W104" in planned.text
    assert "W104" not in first.text


def test_migrating_another_app_is_warned_of_ours(empty: Project):
    (other,) = empty.run("migrate contenttypes --database bulk")

    assert f"(dj_queue.W104) {LACKS}" in other.text


def test_tables_that_are_recorded_but_missing_are_named_until_repaired(empty: Project):
    # Migrated before a backend was pointed to it: recorded, but nothing was made.
    empty.write({"TASKS.bulk.OPTIONS.database_alias": "queue"})
    (django_says,) = empty.run("migrate dj_queue --database bulk")
    empty.write()

    checked, mapped, worked, enqueued, migrated, repaired, healed = empty.run(
        f"{CHECK} --database bulk",
        ROUTES,
        f"{WORK} --backend bulk",
        ENQUEUE,
        "dj_queue_migrate --backend bulk",
        "dj_queue_migrate --repair",
        CHECK_ALL,
    )

    assert django_says.status == 0
    assert "(dj_queue.E101) expected dj_queue's tables on database 'bulk'," in checked.text
    assert "E101" in mapped.ids
    assert (worked.status, enqueued.status, migrated.status) == (1, 1, 1)
    assert "it lacks dj_queue_attempt" in worked.text
    assert "Run `manage.py dj_queue_migrate --repair`" in worked.text
    assert "NotMigrated: expected dj_queue's tables on database 'bulk'" in enqueued.text
    assert "dj_queue_migrate --repair" in migrated.text
    assert (repaired.status, healed.text) == (0, SILENCE)


def test_a_misplaced_alias_is_not_made_permanent_by_repairing_the_wrong_database(empty: Project):
    empty.run("migrate dj_queue --database default")
    empty.write({"TASKS.bulk": {"BACKEND": OURS, "database_alias": "bulk", "OPTIONS": {}}})

    mapped, migrated, checked = empty.run(
        ROUTES,
        "dj_queue_migrate --repair --skip-checks",
        f"{CHECK} --database default",
    )

    meant = "did you mean TASKS['bulk']['OPTIONS']['database_alias']?"
    assert {"E001", "E101"} <= set(mapped.ids)
    assert (mapped.status, migrated.status, checked.status) == (1, 1, 1)
    for each in (mapped, migrated, checked):
        assert meant in each.text
        assert "--repair" not in each.text
    assert "Correct the settings of 'bulk' first, see E001." in mapped.text


def test_jobs_on_a_database_that_no_backend_uses_are_named_until_they_are_done(migrated: Project):
    migrated.run(ENQUEUE)
    migrated.write({"TASKS.bulk.OPTIONS.database_alias": "queue"})
    checked, mapped = migrated.run(f"{CHECK} --database bulk", "dj_queue_routes --json")
    migrated.write()
    (worked,) = migrated.run(f"{WORK} --backend bulk")
    migrated.write({"TASKS.bulk.OPTIONS.database_alias": "queue"})
    (done,) = migrated.run(f"{CHECK} --database bulk")

    assert (
        "(dj_queue.W101) expected unfinished jobs on database 'bulk' only of backends that TASKS "
        "maps to it, got 1 of 'bulk': no worker will run them"
    ) in checked.text
    assert "W101" in mapped.ids
    assert (worked.status, done.text) == (0, SILENCE)


def test_jobs_of_a_backend_that_moved_are_named_and_its_neighbours_are_not(migrated: Project):
    third = {"TASKS.third": {"BACKEND": MINE, "OPTIONS": {"database_alias": "bulk"}}}
    migrated.write(third)
    migrated.run(ENQUEUE, ENQUEUE.replace("bulk", "third"), "dj_queue_migrate")
    (before,) = migrated.run(f"{CHECK} --database bulk")
    migrated.write({**third, "TASKS.bulk.OPTIONS.database_alias": "queue"})
    (after,) = migrated.run(f"{CHECK} --database bulk")

    assert before.text == SILENCE
    assert after.status == 1
    assert "got 1 of 'bulk': no worker will run them" in after.text
    assert "'third'" not in after.text


def test_tables_of_other_apps_on_a_dedicated_database_are_named(migrated: Project):
    dedicated = {"TASKS.bulk.OPTIONS.dedicated": True}
    migrated.write(dedicated)
    (before,) = migrated.run(f"{CHECK} --database bulk")
    migrated.write({"TASKS.bulk.OPTIONS.dedicated": False})
    migrated.run("migrate --run-syncdb --database bulk")
    (shared,) = migrated.run(f"{CHECK} --database bulk")
    migrated.write(dedicated)
    after, mapped = migrated.run(f"{CHECK} --database bulk", ROUTES)

    assert (before.text, shared.text) == (SILENCE, SILENCE)
    assert after.status == 1
    assert "(dj_queue.W102) expected no tables of other apps on the dedicated queue" in after.text
    for table in ("depot_parcel", "depot_parcel_neighbours", "depot_shelf"):
        assert table in after.text
    assert mapped.ids == ["W102"]


@pytest.mark.parametrize("alias", ["queue", "bulk"])
def test_a_queue_database_can_be_flushed_and_dumped(migrated: Project, alias: str):
    """No backend says that it is dedicated, as in the documented settings."""
    migrated.write({"INSTALLED_APPS": [*migrated.apps, "django.contrib.auth"]})

    enqueued, dumped, flushed, after, checked = migrated.run(
        ENQUEUE.replace("bulk", "default" if alias == "queue" else "bulk"),
        f"dumpdata --database {alias}",
        f"flush --no-input --database {alias}",
        f"dumpdata --database {alias}",
        CHECK_ALL,
    )

    outcomes = (enqueued, dumped, flushed, after, checked)
    assert [each.status for each in outcomes] == [0] * 5, [each.text for each in outcomes]
    assert {"dj_queue.job", "dj_queue.readyexecution"} <= {each["model"] for each in dumped.json}
    assert after.json == []


def test_another_deployment_is_named_until_it_is_adopted(migrated: Project):
    migrated.write({"SECRET_KEY": "somebody else's"})

    checked, mapped, _, worked, refused, still, adopted, healed, _, quiet = migrated.run(
        f"{CHECK} --database bulk",
        ROUTES,
        ENQUEUE,
        WORK,
        "dj_queue_migrate",
        "dj_queue_migrate --check",
        "dj_queue_migrate --adopt",
        CHECK_ALL,
        ENQUEUE,
        WORK,
    )

    assert "(dj_queue.W103) expected queue database 'bulk' to belong to this" in checked.text
    assert "of another SECRET_KEY or application database" in checked.text
    assert mapped.ids == ["W103"]
    assert "WARNING: expected queue database 'bulk' to belong to this" in worked.text
    assert worked.out.endswith("stopped; all running jobs ended\n")
    assert (worked.status, refused.status, still.status, adopted.status) == (0, 1, 1, 0)
    assert "`manage.py dj_queue_migrate --adopt`" in refused.text
    assert (healed.text, quiet.status) == (SILENCE, 0)
    assert "WARNING" not in quiet.text


def test_a_worker_starts_as_soon_as_another_process_has_migrated(empty: Project):
    worker = empty.start("dj_queue", "--mode", "thread", "--wait-for-migrations", "60")
    try:
        lines = [worker.stdout.readline()]
        assert "; waiting 60 s for it" in lines[0], lines[0] + worker.stdout.read()
        migrated, _ = empty.run("dj_queue_migrate", ENQUEUE)
        output, _ = worker.communicate(timeout=60)
    finally:
        worker.kill()

    assert (migrated.status, worker.returncode) == (0, 0), output
    assert output.endswith("stopped; all running jobs ended\n")


def test_a_worker_gives_up_when_the_time_is_over(empty: Project):
    (worked,) = empty.run("dj_queue --mode thread --wait-for-migrations 1")

    assert worked.status == 1
    assert "; waiting 1 s for it" in worked.text
    assert "Run `manage.py dj_queue_migrate`" in worked.text
    assert 1 <= worked.seconds < 30


def test_a_database_that_hangs_keeps_no_other_backend_from_starting(
    migrated: Project, silent_port: int
):
    stops_soon = {"TASKS.bulk.OPTIONS.shutdown_timeout": 0.5}
    stops_soon["TASKS.default.OPTIONS.shutdown_timeout"] = 0.5
    migrated.write({**hanging(silent_port), **stops_soon})

    migrated.run(ENQUEUE.replace("'bulk'", "'default'"))
    worker = migrated.start("dj_queue", "--mode", "thread")
    try:
        output, _ = worker.communicate(timeout=60)
    finally:
        worker.kill()

    assert "database 'bulk' does not answer, it will be retried" in output
    # The job ran, for it ended the worker; what hangs holds nothing, and is left behind.
    assert output.endswith("stopped; all running jobs ended\n")
    assert worker.returncode == 0
