"""`manage.py dj_queue` with an event loop, as an operator runs it."""

import pytest

from dj_queue.routers import queue_database
from tests.jobs import EVERY, counts, states, store
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

WITH_LOOP = {"workers": [{"threads": 1, "concurrency": 100}], "shutdown_timeout": 0.5}


def nap(seconds, **columns):
    [job] = store(
        queue_database("default"),
        task_path="tests.shop.coroutines.nap",
        args=[seconds],
        **columns,
    )
    return job


@pytest.mark.parametrize("mode", ["fork", "thread"])
def test_coroutines_run_at_once_and_those_that_are_late_are_failed(start, mode):
    # One thread would need half a minute for the short ones, and never come to the last.
    db = queue_database("default")
    late = [nap(3600) for _ in range(3)]
    for _ in range(60):
        nap(0.5)
    command = start("dj_queue", "--backend", "default", "--mode", mode, **WITH_LOOP)
    until(lambda: counts(db) == {"finished": 60, "claimed": 3})

    status, output = command.end()

    assert status == 1, output
    assert "default@queue: 1 thread, 100 coroutines at once on *" in output
    assert counts(db) == {"finished": 60, "failed": 3}
    found = states(db)
    assert [found[job.id] for job in late] == [["failed"]] * 3
