"""A queue database that answers and does not write: outcomes wait, and all goes on by itself."""

import os
import subprocess
from contextlib import closing, suppress

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connections

from dj_queue.models import Attempt, Process, ReadyExecution
from dj_queue.routers import queue_database
from tests.jobs import EVERY, counts
from tests.processes import sessions
from tests.processes.records import check, check_stopped
from tests.shop.recorded import hold, note
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

ALL = ("dj_queue", "--backend", "default")
WORSE = (
    "Traceback",
    "loop_failed",
    "outcome_refused",
    "outcome_lost",
    "process_died",
    "claim_lost",
)


@pytest.fixture
def db():
    return queue_database("default")


def run_into_trouble(start, records, **options):
    """Start a command; four jobs run and others wait when this returns."""
    command = start(*ALL, workers=[{"threads": 4, "polling_interval": 0.05}], **options)
    for _ in range(4):
        hold.enqueue("trouble")
    until(lambda: len(records.executions) == 4)
    note.get_backend().enqueue_all([(note, [], {})] * 10)
    return command


def check_unharmed(command, db, records, *events):
    until(lambda: counts(db) == {"finished": 14})
    for event in events:
        until(lambda event=event: f"{event} database={db.alias}" in command.output)
    assert not db.objects(Attempt).exists()
    check(db, records, enqueued=14)
    status, output = command.end()
    assert status == 0, output
    for event in events:
        assert output.count(f"{event} database={db.alias}") == 1, output
    assert [event for event in WORSE if event in output] == [], output
    check_stopped(db)


READ_ONLY = {
    "postgresql": [
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "SELECT pg_reload_conf()",
    ],
    "mysql": ["SET GLOBAL read_only = 1"],
}
WRITABLE = {
    "postgresql": ["ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"],
    "mysql": ["SET GLOBAL read_only = 0"],
}
# read_only binds nobody who may set it.
PLAIN_USER = ["CREATE USER plain", "GRANT ALL ON {}.* TO plain"]


def run(connection, statements):
    for statement in statements:
        connection.cursor().execute(statement)


def test_a_server_that_only_reads_for_a_while_costs_nothing(start, records, server, db):
    connection = connections[db.alias]
    place = server.settings
    if db.vendor == "mysql":
        run(connection, [each.format(connection.settings_dict["NAME"]) for each in PLAIN_USER])
        place = {**place, "USER": "plain"}
    command = run_into_trouble(start, records, queue=place)

    run(connection, READ_ONLY[db.vendor])
    records.open("trouble")
    until(lambda: f"database_read_only database={db.alias}" in command.output)
    claimed = counts(db)["claimed"]
    run(connection, WRITABLE[db.vendor])

    assert claimed >= 4
    check_unharmed(command, db, records, "database_read_only", "database_writable")
    assert "database_down" not in command.output


@pytest.fixture
def small_disk(db, tmp_path):
    """Give a directory on a small disk, with the queue database on it."""
    if db.vendor != "sqlite":
        pytest.skip("needs a small disk: this database is not a file of the test's own")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(disk)]
    with suppress(OSError):
        subprocess.run(mount, capture_output=True, check=False)
    if not os.path.ismount(disk):
        pytest.skip("needs a small disk: none may be mounted here")
    connection = connections[db.alias]
    before = connection.settings_dict["NAME"]
    try:
        connection.close()
        connection.settings_dict["NAME"] = str(disk / "queue.sqlite3")
        call_command("dj_queue_migrate", backend=["default"], verbosity=0)
        yield disk
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk):
    """Leave no room: neither on the disk nor in the write-ahead log, which is used again."""
    with closing(connections["queue"].copy()) as connection, connection.cursor() as cursor:
        for _ in range(3):
            with suppress(DatabaseError):  # There may be no room for what the log has.
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
                while True:
                    filler.write(b"x" * 4096)


def test_a_disk_that_is_full_for_a_while_costs_nothing(start, records, small_disk, db):
    place = {"NAME": str(small_disk / "queue.sqlite3")}
    command = run_into_trouble(start, records, queue=place)

    fill(small_disk)
    records.open("trouble")
    until(lambda: f"database_full database={db.alias}" in command.output)
    (small_disk / "filler").unlink()

    check_unharmed(command, db, records, "database_full", "database_writable")


IMPATIENT = {
    "postgresql": {"options": "-c statement_timeout=200"},
    "mysql": {"init_command": "SET SESSION lock_wait_timeout = 1"},
}


def test_claims_that_time_out_beside_heartbeats_that_do_not_are_one_outage(
    needs_server, start, records, db
):
    command = run_into_trouble(start, records, queue={"OPTIONS": IMPATIENT[db.vendor]})
    records.open("trouble")
    until(lambda: counts(db) == {"finished": 14})

    with sessions.locked_table(db.alias, ReadyExecution._meta.db_table):
        seen = set()
        until(lambda: f"database_busy database={db.alias}" in command.output)
        until(lambda: len(seen | note_heartbeats(db, seen)) > 40)

    check_unharmed(command, db, records, "database_busy", "database_answers")
    assert "database_down" not in command.output


def note_heartbeats(db, seen):
    seen |= set(db.objects(Process).values_list("last_heartbeat_at", flat=True))
    return seen
