"""Standard streams that are closed, full, or read by nobody: the work goes on without them."""

import subprocess
import sys

import pytest

from dj_queue.routers import queue_database
from tests.jobs import EVERY, counts
from tests.processes.records import check, check_stopped
from tests.processes.started import ROOT, arguments, variables
from tests.shop.recorded import note
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

PIPE = "import os; reader, writer = os.pipe(); os.close(reader); os.dup2(writer, {number});"
EXEC = "import sys; os.execvp(sys.argv[1], sys.argv[1:])"
UNREAD = (sys.executable, "-c", PIPE.format(number=1) + EXEC)
BOTH_UNREAD = (sys.executable, "-c", PIPE.format(number=1) + "os.dup2(1, 2);" + EXEC)


def under_shell(redirection):
    return ("sh", "-c", f'exec "$@" {redirection}', "sh")


STREAMS = {
    "stdout full": under_shell(">/dev/full"),
    "both full": under_shell(">/dev/full 2>&1"),
    "stdout closed": under_shell(">&-"),
    "both closed": under_shell(">&- 2>&-"),
    "stdout unread": UNREAD,
    "both unread": BOTH_UNREAD,
}


@pytest.mark.parametrize("mode", ["fork", "thread"])
@pytest.mark.parametrize("under", STREAMS.values(), ids=STREAMS)
def test_workers_run_and_end_well(start, records, under, mode):
    db = queue_database("default")
    for _ in range(5):
        note.enqueue()

    # Buffered, as it is outside of tests: then it is refused at the flush only.
    command = start(
        *("dj_queue", "--backend", "default", "--mode", mode),
        under=under,
        environment={"PYTHONUNBUFFERED": ""},
    )
    until(lambda: counts(db) == {"finished": 5})
    status, output = command.end()

    assert status == 0, output
    assert "Exception ignored" not in output
    check(db, records, enqueued=5)
    check_stopped(db)


def run(command, under, child_environment):
    options = variables("tests.processes.impatient", {}) | {"PYTHONUNBUFFERED": ""}
    line = [*under, *arguments(*command)]
    return subprocess.run(
        line, env=child_environment | options, cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("under", STREAMS.values(), ids=STREAMS)
def test_a_migrate_ends_with_the_status_of_its_work(child_environment, under):
    done = run(("dj_queue_migrate", "--backend", "default"), under, child_environment)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("more", [(), ("--json",), ("--check",)], ids=str)
def test_a_map_that_is_not_read_to_its_end_ends_quietly(child_environment, more):
    read = run(("dj_queue_routes", *more), (), child_environment)
    unread = run(("dj_queue_routes", *more), UNREAD, child_environment)

    assert (unread.returncode, unread.stderr) == (read.returncode, "")


def test_a_map_that_cannot_be_stored_is_an_error(child_environment):
    done = run(("dj_queue_routes", "--json"), STREAMS["stdout full"], child_environment)

    assert done.returncode not in (None, 0)
    assert "No space left on device" in done.stderr
