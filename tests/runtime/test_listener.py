"""The listener: one connection that wakes the workers whom a notification concerns."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from django.db import OperationalError, connections

from dj_queue.conf import WorkerOptions
from dj_queue.engines import engine_for
from dj_queue.engines.notifications import Wake, payload_of
from dj_queue.routers import QueueDatabase, queue_database
from dj_queue.runtime import listener as module
from dj_queue.runtime.listener import LONGEST_PAUSE_SECONDS, Listener, listeners_for
from dj_queue.runtime.runner import Runner
from dj_queue.runtime.units import units_of
from tests.jobs import EVERY
from tests.listening import count_listeners, end_listeners, notify, options_of, until_gone
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

SECONDS = 20


class Ear:
    """As much of a worker as a listener knows; counts its nudges."""

    def __init__(self, db: QueueDatabase, *queues: str) -> None:
        self.db = db
        self.options = WorkerOptions(queues=queues or ("*",))
        self.nudges = threading.Semaphore(0)

    def nudge(self) -> None:
        self.nudges.release()

    def was_nudged(self, seconds: float = SECONDS) -> bool:
        return self.nudges.acquire(timeout=seconds)


class Script:
    """A connection as the test wants it: waits say what comes next, or raise it."""

    def __init__(self, *steps: list[Wake] | Exception) -> None:
        self.steps = iter(steps)
        self.is_closed = False

    def wait(self, seconds: float) -> list[Wake]:
        step = next(self.steps)
        if isinstance(step, Exception):
            raise step
        return step

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def listen(db: QueueDatabase, needs_notifications: None) -> Iterator[Callable[..., Listener]]:
    """Give a function that starts the listeners of ears and waits until they hear."""
    started: list[Listener] = []

    def listen(*ears: Ear) -> Listener:
        [listener] = listeners_for(ears)  # type: ignore[arg-type]
        started.append(listener)
        listener.start()
        assert all(ear.was_nudged() for ear in ears)
        return listener

    yield listen
    for listener in started:
        listener.stop()
        listener.join(SECONDS)
        assert not listener.is_alive()
    until_gone(db)


def tell(db: QueueDatabase, *queues: str) -> None:
    notify(db, payload_of(Wake(db.backend, frozenset(queues))))


def test_a_worker_is_nudged_for_its_queues_and_no_others(db, listen):
    mail, reports, both = Ear(db, "mail"), Ear(db, "report*"), Ear(db, "mail", "report*")
    listen(mail, reports, both)

    tell(db, "mail")
    tell(db, "report.daily")

    # Notifications arrive in order: a nudge by mistake would be here before the awaited one.
    assert [both.was_nudged(), both.was_nudged()] == [True, True]
    assert [mail.was_nudged(), reports.was_nudged()] == [True, True]
    tell(db, "nobody's")
    tell(db, "mail.out", "report")
    assert [both.was_nudged(), reports.was_nudged(), mail.was_nudged(0)] == [True, True, False]
    assert not both.was_nudged(0)


def test_a_worker_of_another_backend_is_not_nudged(listen, db):
    mine, neighbour = Ear(db), Ear(QueueDatabase(alias=db.alias, backend="alerts"))
    listen(mine, neighbour)

    tell(db, "a")
    assert mine.was_nudged()
    tell(neighbour.db, "a")
    assert neighbour.was_nudged()

    assert (mine.was_nudged(0), neighbour.was_nudged(0)) == (False, False)


def test_backends_of_one_database_share_a_connection(db, listen):
    listen(Ear(db), Ear(QueueDatabase(alias=db.alias, backend="alerts")), Ear(db))

    assert count_listeners(db) == 1


def test_databases_have_a_connection_each(needs_notifications):
    ears = [Ear(queue_database(name)) for name in ("default", "alerts", "bulk")]

    aliases = [each.alias for each in listeners_for(ears)]  # type: ignore[arg-type]

    assert aliases == [
        alias for alias in ("queue", "bulk") if connections[alias].vendor == "postgresql"
    ]


def test_listening_aliases_have_a_connection_each(db, needs_notifications, settings):
    if connections["default"].vendor != "postgresql":
        pytest.skip("needs notifications on the application's database")
    ears = [Ear(db), Ear(QueueDatabase(alias=db.alias, backend="alerts"))]

    with options_of(settings, "alerts", listen_database_alias="default"):
        aliases = [each.alias for each in listeners_for(ears)]  # type: ignore[arg-type]

    assert aliases == [db.alias, "default"]


def test_backends_that_do_not_listen_get_no_listener(db, settings):
    with options_of(settings, db.backend, listen_notify=False):
        assert listeners_for([Ear(db)]) == []  # type: ignore[list-item]


def test_a_vendor_without_notifications_gets_no_listener(db):
    if db.vendor == "postgresql":
        pytest.skip("needs a database without notifications")

    assert listeners_for([Ear(db)]) == []  # type: ignore[list-item]


def test_a_lost_connection_is_replaced_and_the_workers_look(db, listen, events):
    ear = Ear(db)
    listen(ear)

    assert end_listeners(db) == 1
    assert ear.was_nudged()  # What was told meanwhile was told to nobody.
    tell(db, "a")
    assert ear.was_nudged()

    assert [name for name, _ in events()] == ["listener_down", "listener_up"]
    assert set(events()[0][1]) == {"database", "error"}
    assert events()[0][1]["database"] == events()[1][1]["database"] == db.alias
    assert count_listeners(db) == 1


def test_a_listener_stops_soon_and_ends_its_connection(db, listen):
    listener = listen(Ear(db))

    began = time.monotonic()
    listener.stop()
    listener.join(SECONDS)

    assert not listener.is_alive()
    assert time.monotonic() - began < 30  # Far more than it takes, far less than for ever.
    until_gone(db)


def run(
    monkeypatch: pytest.MonkeyPatch, *answers: Script | Exception | None
) -> tuple[Listener, list[float], Ear]:
    """Run a listener in this thread on scripted connections; return it and how long it waited."""
    db, remaining, waited = queue_database("default"), iter(answers), []

    class Engine:
        def listen(self, db: QueueDatabase) -> Any:
            answer = next(remaining, None)
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr(module, "engine_for", lambda db: Engine())
    ear = Ear(db)
    listener = Listener(db, [ear])  # type: ignore[list-item]
    monkeypatch.setattr(listener.stopping, "wait", waited.append)
    listener.run()
    return listener, waited, ear


def test_an_outage_is_logged_once_and_tried_with_growing_pauses(monkeypatch, events):
    gone = OperationalError("gone")

    _, waited, ear = run(monkeypatch, *[gone] * 12, Script([], gone), None)

    assert waited[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(waited) == LONGEST_PAUSE_SECONDS
    names = [name for name, _ in events()]
    assert names == ["listener_down", "listener_up", "listener_down"]
    assert events()[0][1] == {"database": "queue", "error": "OperationalError('gone')"}
    assert ear.was_nudged(0)


@pytest.mark.parametrize(("lived", "pause"), [(LONGEST_PAUSE_SECONDS + 1, 0.1), (1, 0.2)])
def test_a_connection_that_lived_is_replaced_at_once_and_one_that_did_not_with_patience(
    monkeypatch, lived, pause
):
    gone, clock = OperationalError("gone"), iter(range(0, 10**6, round(lived)))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))

    _, waited, _ = run(monkeypatch, Script(gone), Script(gone), None)

    assert waited == [0.1, pause]


def test_a_connection_is_ended_whatever_ends_the_wait(monkeypatch, events):
    script = Script([Wake("default")], KeyError("surprise"))

    _, _, ear = run(monkeypatch, script, None)

    assert script.is_closed
    assert [ear.was_nudged(0) for _ in range(3)] == [True, True, False]
    assert [name for name, _ in events()] == ["listener_down"]


def test_a_surprise_has_its_traceback_in_the_log_and_an_outage_has_none(monkeypatch, caplog):
    run(monkeypatch, KeyError("surprise"), None)
    run(monkeypatch, OperationalError("gone"), None)

    surprise, outage = caplog.records
    assert surprise.exc_info[0] is KeyError
    assert not outage.exc_info


def test_a_runner_has_one_listener_for_each_database_and_ends_it(db, events, needs_own_session):
    runner = Runner(units_of(["default", "alerts", "bulk"]))
    hears: Sequence[str] = sorted(
        {each.db.alias for each in runner.workers if each.db.vendor == "postgresql"}
    )

    assert sorted(each.alias for each in runner.listeners) == hears
    runner.start()
    if db.vendor == "postgresql":
        until(lambda: count_listeners(db) == 1)
    assert not runner.stop()

    assert not any(each.is_alive() for each in runner.listeners)
    assert {name for name, _ in events()} == {"worker_started", "worker_stopped"}


def test_an_idle_worker_is_woken_long_before_it_would_poll(db, needs_notifications, settings):
    with options_of(settings, db.backend, workers=[{"polling_interval": 3600}]):
        runner = Runner(units_of([db.backend]))
        [worker], polls = runner.workers, threading.Semaphore(0)
        worker.poll = lambda: polls.release() or 3600.0  # type: ignore[method-assign,func-returns-value]
        runner.start()
        until(lambda: count_listeners(db) == 1)
        while polls.acquire(timeout=1):
            pass  # The looks at the start and, quickly again, after the listener's first nudge.
        engine_for(db).wake(db, ["a"])

        assert polls.acquire(timeout=SECONDS)
        runner.stop()
