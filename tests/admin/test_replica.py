"""A backend whose dashboard reads from a replica: pages come from there, actions do not.

The other queue database plays the replica: what is there of the backend is what pages show.
"""

import pytest

from dj_queue.models import FailedExecution, Pause
from dj_queue.routers import queue_database
from tests.admin.conftest import ROOT, overview_of
from tests.admin.test_actions import Press
from tests.jobs import EVERY, in_state, states, store
from tests.listening import options_of

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


@pytest.fixture
def db(settings):
    with options_of(settings, "default", read_database_alias="bulk"):
        yield queue_database("default")


@pytest.fixture
def replicated(settings):
    """Store a failed job on the replica; give it."""
    with options_of(settings, "default", database_alias="bulk"):
        (job,) = in_state(queue_database("default"), FailedExecution, queue_name="there")
    return job


def test_pages_read_from_the_replica(operator, replicated, db):
    store(db, queue_name="here")

    page = overview_of(operator, "default")

    assert page.column("queues", "failed") == {"there": "1"}
    assert "queue, read on bulk" in page.html
    for place in ("jobs/", "queues/there/failed/", f"jobs/{replicated.id}/", "rows/failed/"):
        response = operator.get(f"{ROOT}default/{place}")
        assert response.status_code == 200
        assert str(replicated.id) in response.content.decode()
    stats = operator.get(f"{ROOT}default/stats.json").json()
    assert (stats["database"], [each["name"] for each in stats["queues"]]) == ("queue", ["there"])


def test_actions_are_done_on_the_queue_database(operator, replicated, db):
    store(db, queue_name="mail")
    (here,) = in_state(db, FailedExecution)
    replica = db.reader
    press = Press(operator, db)

    said = press.said("queue", action="pause", queue="mail")
    press("jobs", action="retry", state="failed", job=[str(here.id), str(replicated.id)])

    assert said == "Paused queue mail on queue."
    assert (db.objects(Pause).count(), replica.objects(Pause).count()) == (1, 0)
    assert (states(db)[here.id], states(replica)[replicated.id]) == (["ready"], ["failed"])


def test_siblings_read_as_they_are_set_up(operator, db):
    store(queue_database("alerts"), queue_name="pages")

    assert overview_of(operator, "alerts").column("queues", "ready") == {"pages": "1"}
    assert overview_of(operator, "default").rows("queues")[1:] == [["no queues for this backend"]]
