"""Registrations and heartbeats: a lease, a new id for who was given up, the supervisor's row."""

from datetime import timedelta
from threading import Event, Thread

import pytest
from django.db import InterfaceError, OperationalError

from dj_queue import timezone
from dj_queue.models import Process
from dj_queue.operations.processes import deregister, forget
from dj_queue.routers import queue_database
from dj_queue.runtime import process
from dj_queue.runtime.ledger import Ledger
from dj_queue.runtime.process import Heartbeat, Registration, Supervision
from dj_queue.runtime.units import units_of
from tests.jobs import EVERY
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


@pytest.fixture
def db():
    return queue_database("default")


@pytest.fixture
def quick(settings):
    """Let hearts beat often."""
    options = {"process_heartbeat_interval": 0.05, "process_alive_threshold": 60}
    settings.TASKS = {
        name: {**each, "OPTIONS": {**each["OPTIONS"], **options}}
        for name, each in settings.TASKS.items()
    }


def registrations(supervision=None, clock=None, backend="default"):
    """Make the registrations of a backend's units, and the heart of all."""
    supervision = supervision or Supervision()
    more = {"clock": clock} if clock else {}
    made = [
        Registration(unit, supervision, Ledger(unit), **more)
        for unit in units_of([backend], kinds=("worker", "dispatcher"))
    ]
    return made, Heartbeat(made)


def rows(db):
    return {row.pk: row for row in db.objects(Process).all()}


def test_a_registration_is_good_for_somewhat_less_than_the_threshold(db):
    # Of the defaults, a beat a minute and a threshold of five: three minutes from the question on.
    now = [1_000.0]
    [worker, _], _ = registrations(clock=lambda: now[0])

    assert not worker.is_good
    worker.confirm(asked_at=900.0)
    now[0] = 1_079.0
    assert worker.is_good
    now[0] = 1_081.0

    assert not worker.is_good


def test_owns_waits_until_it_is_certain(db):
    now, answers = [1_000.0], []
    [worker, _], _ = registrations(clock=lambda: now[0])
    own, other = worker.id, Supervision().id
    waiting = Thread(target=lambda: answers.append((worker.owns(own), worker.owns(other))))
    waiting.start()
    waiting.join(0.2)
    assert answers == []

    worker.confirm(asked_at=1_000.0)
    waiting.join(10)

    assert answers == [(True, False)]


def test_a_process_that_is_told_to_end_owns_nothing_that_is_uncertain(db):
    [worker, _], _ = registrations()
    worker.ended.set()

    assert not worker.owns(worker.id)


def test_the_first_beat_registers_all_units_and_their_supervisor(db):
    made, heart = registrations()

    heart.beat()

    found = rows(db)
    assert found.keys() == {heart.supervision.id, *(each.id for each in made)}
    worker = found[made[0].id]
    assert (worker.kind, worker.backend, worker.name) == ("worker", "default", "worker default")
    assert worker.supervisor_id == heart.supervision.id
    assert worker.metadata["queues"] == ["*"]
    assert found[heart.supervision.id].kind == "supervisor"
    assert all(each.is_good for each in made)
    assert [each.ledger.process_id for each in made] == [each.id for each in made]


def test_a_beat_moves_every_heartbeat_the_supervisors_as_well(db):
    _, heart = registrations()
    heart.beat()
    past = timezone.now() - timedelta(hours=1)
    db.objects(Process).update(last_heartbeat_at=past)

    heart.beat()

    assert all(row.last_heartbeat_at > past for row in rows(db).values())


def test_one_who_was_given_up_goes_on_under_a_new_id(db, events):
    [worker, dispatcher], heart = registrations()
    heart.beat()
    before = worker.id
    forget(db, [before])

    heart.beat()

    assert worker.id != before
    assert rows(db).keys() == {heart.supervision.id, worker.id, dispatcher.id}
    assert worker.ledger.process_id == worker.id
    assert not worker.owns(before)
    given_up = [payload for event, payload in events() if event == "process_given_up"]
    assert [each["process"] for each in given_up] == [before]


def test_a_supervisor_that_was_given_up_is_registered_again_as_it_was(db):
    made, heart = registrations()
    heart.beat()
    ids = rows(db).keys()
    db.objects(Process).filter(kind="supervisor")._raw_delete(db.alias)

    heart.beat()

    assert rows(db).keys() == ids
    assert {each.id for each in made} < ids


def test_a_heart_beats_for_no_supervisor_that_is_dead(db):
    # Neither this process nor its parent: as after a kill of the supervisor.
    dead = Supervision(pid=2**22 + 1)
    made, heart = registrations(dead)

    heart.beat()

    assert not dead.is_alive
    assert rows(db).keys() == {each.id for each in made}


def test_a_heart_beats_until_it_is_told_and_leaves_nothing(db, quick):
    made, heart = registrations()
    heart.start()
    until(lambda: len(rows(db)) == 3)
    before = rows(db)[made[0].id].last_heartbeat_at
    until(lambda: rows(db)[made[0].id].last_heartbeat_at > before)

    heart.stop()
    heart.join(10)

    assert (heart.is_alive(), rows(db)) == (False, {})


def test_a_heart_leaves_on_a_new_connection_and_tries_again(db, monkeypatch, events):
    _, heart = registrations()
    heart.start()
    until(lambda: len(rows(db)) == 3)
    answers = iter([OperationalError("cut"), InterfaceError("cut as well"), None])
    used = []

    def flaky(db, ids):
        used.append(db.connection.connection)
        if error := next(answers):
            raise error
        deregister(db, ids)

    monkeypatch.setattr(process, "deregister", flaky)
    heart.stop()
    heart.join(60)

    assert used == [None, None, None]
    assert (rows(db), events()) == ({}, [])


def test_a_heart_lives_through_an_outage_and_beats_again(db, quick, monkeypatch, events):
    made, heart = registrations()
    heart.start()
    until(lambda: len(rows(db)) == 3)
    tried = Event()

    def away(*args, **kwargs):
        tried.set()
        raise OperationalError("away")

    with monkeypatch.context() as patch:
        patch.setattr("dj_queue.runtime.process.beat", away)
        assert tried.wait(10)
        until(lambda: "database_down" in [event for event, _ in events()])
        during = rows(db)[made[0].id].last_heartbeat_at
    until(lambda: rows(db)[made[0].id].last_heartbeat_at > during)
    heart.stop()
    heart.join(10)

    assert [event for event, _ in events()] == ["database_down", "database_up"]
    assert rows(db) == {}


def test_a_heart_leaves_though_its_broken_connection_cannot_be_closed(db, quick, monkeypatch):
    def refuse():
        raise RuntimeError("broken")

    _, heart = registrations()
    heart.beat()
    with monkeypatch.context() as patch:
        patch.setattr(db.connection, "close", refuse)
        heart.stop()
        heart.run()

    assert rows(db) == {}
