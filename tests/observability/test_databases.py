"""All databases at a glance: each in a thread of its own, and one that is silent is a row too."""

import socket
import threading
import time
from datetime import timedelta

import pytest
from django.db import OperationalError, connections

from dj_queue import timezone
from dj_queue.models import FailedExecution
from dj_queue.observability import databases
from dj_queue.observability.databases import backend_rows, outage_of
from dj_queue.routers import queue_database, survey
from tests.jobs import EVERY, NOW, in_state, store
from tests.listening import options_of
from tests.races.together import together

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

SECONDS = 20


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(databases, "_away_since", {})


def by_backend(**options):
    rows = backend_rows(now=NOW, **{"seconds": SECONDS, **options})
    return {row.backend: row for row in rows}


def test_each_backend_has_its_own_numbers(vendor_by_alias):
    store(queue_database("default"), 3)
    in_state(queue_database("alerts"), FailedExecution, 2)

    rows = by_backend()

    assert [(name, row.database) for name, row in rows.items()] == [
        ("default", "queue"),
        ("alerts", "queue"),
        ("bulk", "bulk"),
    ]
    assert [(str(row.ready), str(row.failed)) for row in rows.values()] == [
        ("3", "0"),
        ("0", "2"),
        ("0", "0"),
    ]
    assert [row.latency_seconds for row in rows.values()] == [0.0, None, None]
    assert {row.live_worker_count for row in rows.values()} == {0}
    for row in rows.values():
        assert row.server.lower().startswith(vendor_by_alias[row.database])
        assert row.is_reachable


def test_databases_are_asked_at_the_same_time(monkeypatch):
    everyone, look = threading.Barrier(2), databases._look

    def look_together(alias, **options):
        everyone.wait(timeout=SECONDS)
        return look(alias, **options)

    monkeypatch.setattr(databases, "_look", look_together)

    assert all(row.is_reachable for row in by_backend().values())


@pytest.fixture
def silent(monkeypatch):
    """Let `bulk` say nothing until the event is set; count how often it is asked."""
    answering, asked = threading.Event(), []
    greet, look = databases._greet, databases._look

    def slowly(question):
        def ask(alias, **options):
            if alias == "bulk":
                asked.append(threading.current_thread())
                answering.wait(SECONDS)
            return question(alias, **options)

        return ask

    monkeypatch.setattr(databases, "_greet", slowly(greet))
    monkeypatch.setattr(databases, "_look", slowly(look))
    answering.asked, answering.greet = asked, greet
    yield answering
    answering.set()
    for thread in asked:
        thread.join()


def test_a_silent_database_is_waited_for_no_longer_than_allowed(silent):
    began = time.monotonic()

    rows = by_backend(seconds=2)

    assert time.monotonic() - began < SECONDS
    assert [row.is_reachable for row in rows.values()] == [True, True, False]
    assert (rows["bulk"].outage.since, rows["bulk"].outage.error) == (NOW, "nothing within 2 s")
    assert (rows["bulk"].ready, rows["bulk"].live_worker_count) == (None, None)
    assert rows["bulk"].guarantee == "immediate"


def test_a_silent_database_is_not_asked_again_until_it_has_answered(silent):
    db = queue_database("bulk")
    first = outage_of(db, now=NOW, seconds=0.1)

    again = [outage_of(db, now=NOW + timedelta(minutes=n), seconds=0.1) for n in range(3)]

    assert len(silent.asked) == 1
    assert {outage.since for outage in (first, *again)} == {NOW}
    silent.set()
    silent.asked[0].join()
    assert outage_of(db, now=NOW, seconds=SECONDS) is None


def test_many_readers_at_once_find_no_outage_where_there_is_none(monkeypatch):
    readers = 20
    everyone, look, greet = threading.Barrier(readers), databases._look, databases._greet

    def while_all_ask(question):
        def ask(alias, **options):
            if alias == "queue":
                everyone.wait(timeout=SECONDS)
            return question(alias, **options)

        return ask

    monkeypatch.setattr(databases, "_look", while_all_ask(look))
    monkeypatch.setattr(databases, "_greet", while_all_ask(greet))

    rows = together([by_backend] * readers)
    outages = together(
        [lambda: outage_of(queue_database("default"), now=NOW, seconds=SECONDS)] * 20
    )

    assert all(row.is_reachable for found in rows for row in found.values())
    assert outages == [None] * readers


def test_a_slow_question_does_not_make_a_database_silent_to_others(silent, monkeypatch):
    monkeypatch.setattr(databases, "_greet", silent.greet)

    assert by_backend(seconds=0.1)["bulk"].outage is not None
    assert outage_of(queue_database("bulk"), now=NOW, seconds=SECONDS) is None


def test_who_asks_while_an_answer_is_overdue_waits_for_it_and_then_asks(silent):
    db = queue_database("bulk")
    assert outage_of(db, now=NOW, seconds=0.1) is not None

    threading.Timer(0.2, silent.set).start()

    assert outage_of(db, now=NOW, seconds=SECONDS) is None
    assert len(silent.asked) == 2


def test_an_error_that_is_not_the_databases_names_its_type(monkeypatch):
    monkeypatch.setattr(databases, "_greet", lambda alias, **_: {}["missing"])

    outage = outage_of(queue_database("bulk"), now=NOW)

    assert outage.error == "KeyError: 'missing'"


def test_an_outage_that_is_over_is_forgotten(monkeypatch):
    db, later = queue_database("bulk"), NOW + timedelta(hours=1)

    def refuse(alias, **_):
        raise OperationalError("connection\nrefused")

    with monkeypatch.context() as patched:
        patched.setattr(databases, "_greet", refuse)
        first = outage_of(db, now=NOW)
        second = outage_of(db, now=later)
    assert (first.since, first.error, second.since) == (NOW, "connection refused", NOW)
    assert outage_of(db, now=later) is None

    monkeypatch.setattr(databases, "_greet", refuse)
    assert outage_of(db, now=later).since == later


@pytest.fixture
def hanging_address(monkeypatch):
    """Let `bulk` be at an address that takes connections and never says a word."""
    config = connections.databases["bulk"]
    if not config.get("PORT"):
        pytest.skip("needs a database server: this database has no address")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setitem(config, "HOST", "127.0.0.1")
        monkeypatch.setitem(config, "PORT", server.getsockname()[1])
        yield
    for (alias, _), hanging in list(survey._asking.items()):
        for thread in list(hanging) if alias == "bulk" else ():
            thread.join(timeout=SECONDS)


def test_a_page_comes_when_an_address_hangs(hanging_address, admin_client):
    store(queue_database("default"), queue_name="mail")
    root, began = "/admin/dj_queue/dashboard/", time.monotonic()

    html = admin_client.get(f"{root}default/").content.decode()

    assert time.monotonic() - began < SECONDS
    assert "unreachable since" in html
    assert "database bulk is away" in html
    assert f"{root}default/queues/mail/ready/" in html
    for page in ("bulk/", "bulk/jobs/", "bulk/queues/mail/ready/", "bulk/rows/jobs/"):
        began = time.monotonic()
        response = admin_client.get(root + page)
        assert time.monotonic() - began < SECONDS, page
        assert response.status_code == (200 if page == "bulk/" else 503), page
        assert "Queue database bulk does not answer" in response.content.decode()
    response = admin_client.post(
        f"{root}bulk/act/queue/", {"action": "pause", "queue": "mail"}, follow=True
    )
    (message,) = response.context["messages"]
    assert str(message).startswith("Queue database bulk does not answer")


def test_a_replica_that_hangs_is_said_to(hanging_address, admin_client, settings):
    root = "/admin/dj_queue/dashboard/default/"

    with options_of(settings, "default", read_database_alias="bulk"):
        for page, status in (("", 200), ("jobs/", 503), ("rows/jobs/", 503)):
            began = time.monotonic()
            response = admin_client.get(root + page)
            assert time.monotonic() - began < SECONDS, page
            assert response.status_code == status, page
            assert "Queue database bulk does not answer" in response.content.decode()


def test_a_refused_connection_says_so(monkeypatch, admin_client):
    config = connections.databases["bulk"]
    if not config.get("PORT"):
        pytest.skip("needs a database server: this database has no address")
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    monkeypatch.setitem(config, "PORT", free)

    row = {row.backend: row for row in backend_rows(now=timezone.now())}["bulk"]

    assert not row.is_reachable
    assert "nothing within" not in row.outage.error
