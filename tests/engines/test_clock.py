"""The clock of a queue database, whatever this host's clock and a session's time zone are."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test.utils import CaptureQueriesContext

from dj_queue.engines import clock, engine_for
from tests.jobs import EVERY, NOW

pytestmark = [pytest.mark.django_db(**EVERY), pytest.mark.usefixtures("needs_server")]

MICROSECOND = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
# Servers of tests run on this machine, or on one whose clock is as right.
NEARLY = timedelta(seconds=30)


class Life:
    """Seconds of life that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def life(monkeypatch):
    life = Life()
    monkeypatch.setattr(clock, "seconds_of_life", life)
    return life


@pytest.fixture
def server_shows(db, monkeypatch):
    """Give a function that sets the server's clock."""

    def show(at):
        shown = (at - clock.EPOCH) // MICROSECOND
        engine = type(engine_for(db))
        monkeypatch.setattr(engine, "clock_statement", f"SELECT {shown}")

    return show


@pytest.mark.parametrize("zone", ["+00:00", "-11:00", "+12:45"])
def test_it_is_the_servers_in_any_time_zone_of_a_session(db, host_clock, zone):
    host_clock(timedelta(days=3))
    statement = "SET LOCAL TIME ZONE INTERVAL" if db.vendor == "postgresql" else "SET time_zone ="
    value = f"'{zone}' HOUR TO MINUTE" if db.vendor == "postgresql" else f"'{zone}'"
    with db.cursor() as cursor:
        cursor.execute(f"{statement} {value}")
        try:
            assert abs(clock.present(db) - datetime.now(UTC)) < NEARLY
        finally:
            if db.vendor == "mysql":
                cursor.execute("SET time_zone = DEFAULT")


def test_it_goes_on_without_being_asked_but_is_asked_once_a_minute(db, life, server_shows):
    server_shows(NOW)
    assert clock.present(db) == NOW

    life.seconds += 59
    with CaptureQueriesContext(db.connection) as sent:
        assert clock.present(db) == NOW + timedelta(seconds=59)
    assert len(sent) == 0

    life.seconds += 2
    server_shows(NOW + timedelta(seconds=60))
    with CaptureQueriesContext(db.connection) as sent:
        assert clock.present(db) == NOW + timedelta(seconds=60)
    assert len(sent) == 1


@pytest.mark.parametrize("by", [timedelta(hours=2), -timedelta(hours=2)])
def test_a_servers_clock_that_is_set_is_followed_within_a_minute(db, life, server_shows, by):
    server_shows(NOW)
    clock.present(db)

    life.seconds += 61
    server_shows(NOW + by)

    assert clock.present(db) == NOW + by


def test_an_answer_that_took_long_does_not_set_it_back(db, life, server_shows, monkeypatch):
    server_shows(NOW)
    clock.present(db)
    life.seconds += 61
    # Asked at the 61st second, which it shows; the answer arrives five seconds later.
    server_shows(NOW + timedelta(seconds=61))
    cursor = type(db).cursor

    def late(db):
        life.seconds += 5
        return cursor(db)

    monkeypatch.setattr(type(db), "cursor", late)

    assert clock.present(db) == NOW + timedelta(seconds=66)


def test_estimated_asks_nobody(db, host_clock):
    host_clock(MINUTE)
    with CaptureQueriesContext(db.connection) as sent:
        assert clock.estimated(db) > datetime.now(UTC) + MINUTE / 2
    assert len(sent) == 0

    clock.present(db)
    assert clock.estimated(db) < datetime.now(UTC) + MINUTE / 2
