"""How many jobs a worker claims for threads and coroutines together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dj_queue.runtime.crews import PROBE_SECONDS, Mixture


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def mixture(time: Time) -> Mixture:
    return Mixture(time)


def test_what_fits_whatever_it_is_is_claimed_at_once(mixture):
    assert mixture.limit((3, 100), (3, 100)) == 3
    assert mixture.limit((50, 4), (50, 4)) == 4


def test_nothing_is_claimed_when_no_crew_wants_any(mixture):
    assert mixture.limit((0, 0), (40, 40)) == 0


def test_one_kind_alone_is_soon_claimed_in_full(mixture):
    limits = []
    for _ in range(6):
        limits.append(mixture.limit((3, 100), (3, 100)))
        mixture.see((0, limits[-1]), fits=True)

    assert limits == [3, 6, 12, 24, 48, 96]


def test_a_worker_whose_threads_are_busy_does_not_take_functions_from_others(mixture, time):
    # Only functions are ready; it may look for coroutines among them, now and then.
    mixture.see((3, 0), fits=True)
    limits = []
    for _ in range(40):
        limits.append(mixture.limit((0, 100), (0, 100)))
        if limits[-1]:
            mixture.see((limits[-1], 0), fits=False)
        time.now += PROBE_SECONDS / 8

    assert limits == ([0] * 8 + [1]) + ([0] * 7 + [1]) * 3 + [0] * 7


def test_a_worker_whose_loop_is_full_does_not_take_coroutines_from_others(mixture, time):
    mixture.see((0, 100), fits=True)
    time.now += PROBE_SECONDS
    assert mixture.limit((3, 0), (3, 0)) == 1

    mixture.see((0, 1), fits=False)

    assert mixture.limit((3, 0), (3, 0)) == 0
    time.now += PROBE_SECONDS
    assert mixture.limit((3, 0), (3, 0)) == 1


def test_coroutines_found_by_a_probe_are_claimed_though_threads_stay_busy(mixture, time):
    mixture.see((3, 0), fits=True)
    time.now += PROBE_SECONDS

    limits = []
    for _ in range(4):
        limits.append(mixture.limit((0, 100), (0, 100)))
        mixture.see((0, limits[-1]), fits=True)

    assert limits == [1, 2, 4, 8]


def test_an_empty_claim_is_no_reason_to_forget_what_came(mixture):
    mixture.see((0, 20), fits=True)
    mixture.see((0, 0), fits=True)

    assert mixture.limit((0, 100), (0, 100)) == 40


COUNTS = st.tuples(st.integers(0, 200), st.integers(0, 200))


@given(COUNTS, COUNTS, st.booleans(), st.integers(0, 50))
def test_never_more_is_claimed_than_there_is_room_for(came, wanted, fits, extra):
    time = Time()
    mixture = Mixture(time)
    mixture.see(came, fits=fits)
    rooms = (wanted[0] + extra, wanted[1] + extra)

    limit = mixture.limit(wanted, rooms)

    assert limit <= max(min(rooms), sum(wanted))
    assert limit <= max(min(rooms), 2 * sum(came))
    assert bool(limit) <= bool(any(wanted))
    time.now += PROBE_SECONDS
    assert bool(mixture.limit(wanted, rooms)) == bool(any(wanted))
