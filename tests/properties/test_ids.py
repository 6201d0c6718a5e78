"""Ids are UUIDv7 of RFC 9562 and strictly increase within a process."""

import time
import uuid
from itertools import pairwise
from threading import Barrier, Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dj_queue.models import ids
from dj_queue.models.ids import new_id

MS = 1_000_000  # nanoseconds in a millisecond
COUNTER = 1 << 42


MAKERS = {"own": ids._uuid7}
if hasattr(uuid, "uuid7"):  # Python 3.14
    MAKERS["python"] = uuid.uuid7


@pytest.fixture(params=MAKERS.values(), ids=MAKERS, autouse=True)
def maker(request, monkeypatch):
    """Make ids by our own function, and by Python's where it has one."""
    monkeypatch.setattr(ids, "_make", request.param)
    # What a test does to the clock shall not be felt by the next.
    monkeypatch.setattr(ids, "_last_ms", ids._last_ms)
    monkeypatch.setattr(ids, "_counter", ids._counter)


@pytest.fixture
def own(monkeypatch):
    """Start our own function afresh, so that its state is not that of the process."""
    monkeypatch.setattr(ids, "_make", ids._uuid7)
    monkeypatch.setattr(ids, "_last_ms", 0)
    monkeypatch.setattr(ids, "_counter", 0)


@pytest.fixture
def clock(monkeypatch):
    """Give a function that sets the clock, in milliseconds."""

    def set_to(milliseconds):
        monkeypatch.setattr(time, "time_ns", lambda: milliseconds * MS)

    return set_to


def milliseconds(made):
    return made.int >> 80


def counter(made):
    return (made.int >> 64 & 0xFFF) << 30 | made.int >> 32 & (1 << 30) - 1


def test_version_and_variant_are_those_of_the_standard():
    for made in (new_id() for _ in range(1000)):
        assert (made.version, made.variant) == (7, uuid.RFC_4122)
        assert made.int >> 76 & 0xF == 0b0111
        assert made.int >> 62 & 0b11 == 0b10


def test_an_id_tells_when_it_was_made():
    before = time.time_ns() // MS
    made = [new_id() for _ in range(100)]
    after = time.time_ns() // MS

    assert all(before <= milliseconds(each) <= after for each in made)


def test_ids_increase_strictly():
    made = [new_id() for _ in range(50_000)]

    assert all(a < b for a, b in pairwise(made))
    assert [str(each) for each in made] == sorted(str(each) for each in made)
    assert [each.bytes for each in made] == sorted(each.bytes for each in made)


def test_ids_increase_across_threads():
    """Eight threads start at once; each sees its own ids grow, and no id is made twice."""
    barrier, made = Barrier(8), [[] for _ in range(8)]

    def make(mine):
        barrier.wait()
        mine += [new_id() for _ in range(5_000)]

    threads = [Thread(target=make, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(mine == sorted(mine) for mine in made)
    assert len({each for mine in made for each in mine}) == 40_000
    assert new_id() > max(mine[-1] for mine in made)


def test_ids_increase_although_the_clock_is_set_back(clock):
    now = time.time_ns() // MS
    made = []
    for change in (0, -1, -3_600_000, -10, 5, 4, 6, -86_400_000):
        clock(now + change)
        made += [new_id() for _ in range(3)]

    assert made == sorted(set(made))


@given(changes=st.lists(st.integers(-100_000, 100_000), max_size=30))
@settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_ids_increase_whatever_the_clock_does(changes):
    now = time.time_ns() // MS
    last = new_id()
    with pytest.MonkeyPatch.context() as patch:
        for change in changes:
            patch.setattr(time, "time_ns", lambda change=change: (now + change) * MS)
            made = new_id()
            assert made > last
            last = made


def test_the_time_is_taken_from_the_clock_to_the_millisecond(own, clock):
    clock(0x0123456789AB)
    made = new_id()

    assert milliseconds(made) == 0x0123456789AB
    assert str(made).startswith("01234567-89ab-7")


def test_within_a_millisecond_the_counter_counts(own, clock):
    clock(1_000_000)
    first, *more = (new_id() for _ in range(5))

    assert counter(first) < COUNTER // 2
    assert [counter(each) for each in more] == [counter(first) + n for n in range(1, 5)]
    assert {milliseconds(each) for each in (first, *more)} == {1_000_000}


def test_a_new_millisecond_starts_a_new_counter(own, clock, monkeypatch):
    clock(1_000_000)
    first = new_id()
    clock(1_000_001)
    monkeypatch.setattr(ids.os, "urandom", lambda size: (5 << 39 | 5).to_bytes(size))

    made = new_id()

    assert made > first
    assert (milliseconds(made), counter(made), made.int & 0xFFFFFFFF) == (1_000_001, 5, 5)


def test_a_counter_that_is_used_up_borrows_the_next_millisecond(own, clock, monkeypatch):
    clock(1_000_000)
    new_id()
    monkeypatch.setattr(ids, "_counter", COUNTER - 2)

    last, over, after = new_id(), new_id(), new_id()
    clock(1_000_001)
    caught_up = new_id()

    assert (milliseconds(last), counter(last)) == (1_000_000, COUNTER - 1)
    assert (milliseconds(over), counter(over) < COUNTER // 2) == (1_000_001, True)
    assert last < over < after < caught_up
    assert milliseconds(caught_up) == 1_000_001


def test_the_random_part_differs_between_processes_of_the_same_moment(own, clock, monkeypatch):
    clock(1_000_000)
    made = set()
    for _ in range(100):
        monkeypatch.setattr(ids, "_last_ms", 0)
        made.add(new_id())

    assert len(made) == 100
