"""Jobs in queues that no worker takes: who is asked, and who is told."""

from io import StringIO

import pytest
from django.core.management import call_command

from dj_queue.checks.waiting import check_waiting_jobs, untaken_queues
from dj_queue.models import BlockedExecution, ClaimedExecution, Pause, ScheduledExecution
from dj_queue.runtime.boot import guard
from tests.jobs import EVERY, NOW, in_state, sibling_of, store
from tests.live_workers import run
from tests.recurring import changing

pytestmark = pytest.mark.django_db(**EVERY)


@pytest.fixture(autouse=True)
def renamed(db, settings):
    """Let the backend's queue `email` be called `mail` by now; three jobs wait in it."""
    changing(settings, db.backend)(workers=[{"queues": ["mail", "default"]}])
    store(db, queue_name="email")
    in_state(db, ScheduledExecution, queue_name="email")
    in_state(db, BlockedExecution, queue_name="email")
    in_state(db, ClaimedExecution, queue_name="email")
    store(db, queue_name="mail")


def found(db):
    return [(each.id, str(each.msg)) for each in check_waiting_jobs(databases=[db.alias])]


def said(db):
    """Give the queues and counts, and whether the settings have a worker for them."""
    return [(each.queue_name, each.count.value, each.is_in_settings) for each in untaken_queues(db)]


def test_jobs_of_a_renamed_queue_are_counted_in_every_state_that_waits(db):
    run(db, ["mail"])

    [(number, message)] = found(db)

    assert number == "dj_queue.W105"
    assert message.startswith(
        f"TASKS[{db.backend!r}]['OPTIONS']['workers']: expected a worker that takes from the queue "
        "'email', where jobs wait, got none, and of the workers that run (1) none takes from it: 3 "
        f"on database {db.alias!r} will wait for ever"
    )


def test_where_no_worker_runs_at_all_that_is_said(db):
    [(number, message)] = found(db)

    assert number == "dj_queue.W105"
    assert "no worker of the backend runs at all: 3 on database" in message


@pytest.mark.parametrize("selectors", [["*"], ["email"], ["mail", "em*"]])
def test_a_worker_of_another_host_with_other_settings_may_take_the_queue(db, selectors):
    run(db, ["mail"])
    run(db, selectors)

    assert found(db) == []


def test_a_worker_that_does_not_say_what_it_takes_may_take_any_queue(db):
    run(db, [], metadata={"version": "0"})

    assert found(db) == []


def test_a_paused_queue_is_left_out(db):
    db.objects(Pause).create(queue_name="email", paused_at=NOW)

    assert found(db) == []


def test_who_has_been_silent_for_too_long_takes_nothing(db):
    run(db, ["*"], silent_for=301)

    assert said(db) == [("email", 3, False)]


def test_workers_of_another_backend_and_other_processes_take_nothing(db):
    run(sibling_of(db), ["*"])
    run(db, ["*"], kind="dispatcher")

    assert said(db) == [("email", 3, False)]


def test_a_queue_that_only_the_settings_have_a_worker_for_is_another_finding(db):
    run(db, ["email"])

    [(number, message)] = found(db)

    assert number == "dj_queue.W107"
    assert "takes from the queue 'mail'" in message
    assert "and 1 of its jobs wait on database" in message


def test_counting_ends_at_a_cap(db, monkeypatch):
    monkeypatch.setattr("dj_queue.checks.waiting.CAP", 2)
    store(db, 5, queue_name="email")

    [each] = untaken_queues(db)

    assert str(each.count) == "4+"


@pytest.mark.django_db(transaction=True, **EVERY)
def test_the_map_of_routes_says_it(db):
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("dj_queue_routes", "--check", stdout=out)

    assert "warning dj_queue.W105" in out.getvalue()


@pytest.mark.django_db(transaction=True, **EVERY)
def test_a_worker_says_it_when_it_starts(db, events):
    lines = []

    guard([db], wait_seconds=0, say=lines.append)

    where = {"backend": db.backend, "database": db.alias}
    assert [payload for event, payload in events() if event == "jobs_untaken"] == [
        {**where, "queue": "email", "count": "3"}
    ]
    assert lines == [
        f"WARNING: 3 jobs of backend {db.backend!r} on database {db.alias!r} wait in the queue "
        "'email', from which no worker takes"
    ]


@pytest.mark.django_db(transaction=True, **EVERY)
def test_a_worker_that_starts_says_nothing_of_queues_that_another_takes(db, events):
    run(db, ["em*"])
    lines = []

    guard([db], wait_seconds=0, say=lines.append)

    assert lines == []
    assert "jobs_untaken" not in [event for event, _ in events()]
