"""How far ahead a worker claims, on a clock that passes when it is told to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dj_queue.runtime.prefetch import COVER_SECONDS, MOST_JOBS, Prefetching


class Worker:
    """Prefetching of a worker whose jobs end at a rate that a test sets."""

    def __init__(self, threads: int = 3) -> None:
        self.now = 50.0
        self.ended_count = 0
        self.prefetch = Prefetching(threads, clock=lambda: self.now)

    def work(self, seconds: float, *, rate: float, looks: int = 10) -> Prefetching:
        """Let jobs end at that rate, looking now and then."""
        for _ in range(looks):
            self.now += seconds / looks
            self.ended_count += round(rate * seconds / looks)
            self.prefetch.see(self.ended_count)
        return self.prefetch


def test_a_new_worker_claims_for_its_free_threads_only():
    prefetch = Worker(threads=3).prefetch

    assert prefetch.depth == 0
    assert [prefetch.wanted(running, 0) for running in (0, 1, 2, 3)] == [3, 2, 1, 0]


def test_steady_work_is_claimed_ahead_for_as_long_as_a_claim_may_take():
    prefetch = Worker().work(2, rate=1_000)

    assert prefetch.depth == pytest.approx(1_000 * COVER_SECONDS, abs=1)
    assert prefetch.wanted(3, 0) == prefetch.depth
    assert prefetch.wanted(1, 0) == prefetch.depth + 2


@pytest.mark.parametrize("looks", [1, 7, 200])
def test_how_often_the_worker_looks_does_not_change_the_rate_much(looks):
    prefetch = Worker().work(2, rate=700, looks=looks)

    assert prefetch.depth == pytest.approx(70, abs=1)


def test_slow_claims_are_covered_twice():
    prefetch = Worker().work(2, rate=100)

    for _ in range(20):
        prefetch.took(0.4)

    assert prefetch.depth == pytest.approx(80, abs=1)


def test_no_claim_is_so_slow_that_more_than_a_second_is_covered():
    prefetch = Worker().work(2, rate=100)

    prefetch.took(10)

    assert prefetch.depth == pytest.approx(100, abs=1)


def test_one_slow_claim_is_soon_forgotten():
    prefetch = Worker().work(2, rate=1_000)
    before = prefetch.depth

    prefetch.took(0.15)
    slow = prefetch.depth
    for _ in range(5):
        prefetch.took(0.001)

    assert (slow, prefetch.depth) == (pytest.approx(before * 1.5, abs=1), before)


def test_no_rate_leads_to_more_than_the_most_jobs():
    prefetch = Worker().work(2, rate=1_000_000)

    prefetch.took(30)

    assert prefetch.depth == MOST_JOBS


def test_jobs_that_suddenly_take_long_make_a_surplus_within_half_a_second():
    worker = Worker()
    waiting = worker.work(2, rate=500).depth

    before = worker.prefetch.surplus(worker.prefetch.threads, waiting)
    worker.work(0.5, rate=0)

    assert (before, worker.prefetch.surplus(worker.prefetch.threads, waiting)) == (0, waiting)
    assert worker.prefetch.depth == 0


def test_ups_and_downs_of_the_rate_are_no_surplus():
    worker = Worker()
    waiting = worker.work(2, rate=1_000).depth

    worker.work(0.1, rate=600)

    assert worker.prefetch.depth < waiting
    assert worker.prefetch.surplus(worker.prefetch.threads, waiting) == 0


def test_nothing_is_claimed_until_half_of_what_waits_is_gone():
    prefetch = Worker().work(2, rate=1_000)
    depth = prefetch.depth

    wanted = {waiting: prefetch.wanted(3, waiting) for waiting in range(depth + 1)}

    half = depth // 2
    assert all(not wanted[waiting] for waiting in range(half + 1, depth + 1))
    assert [wanted[waiting] for waiting in (0, half)] == [depth, depth - half]


def test_a_free_thread_that_nothing_waits_for_is_served_however_deep_the_rest():
    # As many wait as have threads to run them: these are as good as running.
    prefetch = Worker(threads=8).prefetch

    assert prefetch.wanted(2, 6) == 0
    assert prefetch.wanted(2, 5) == 1


def test_two_looks_in_one_instant_are_one():
    worker = Worker()
    before = worker.work(2, rate=300).depth

    worker.prefetch.see(worker.ended_count + 1_000)

    assert worker.prefetch.depth == before


def test_jobs_given_back_are_no_reason_to_claim_more():
    # They count as ended: at this moment only, and the memory is short.
    worker = Worker()
    worker.work(1, rate=0)
    worker.ended_count += 50

    soon = worker.work(0.1, rate=0, looks=1).depth
    later = worker.work(1, rate=0).depth

    assert (soon <= 50, later) == (True, 0)


COUNTS = st.integers(0, 5_000)
SECONDS = st.floats(0, 1_000, allow_nan=False)
STEPS = st.one_of(
    st.tuples(st.just("see"), SECONDS, COUNTS), st.tuples(st.just("took"), SECONDS, st.just(0))
)


@given(st.integers(1, 1_000), st.lists(STEPS, max_size=30), COUNTS, COUNTS)
def test_whatever_happens_the_numbers_stay_within_their_bounds(threads, steps, running, waiting):
    worker = Worker(threads)
    for step, seconds, count in steps:
        if step == "see":
            worker.now += seconds
            worker.ended_count += count
            worker.prefetch.see(worker.ended_count)
        else:
            worker.prefetch.took(seconds)
    prefetch = worker.prefetch

    wanted, surplus = prefetch.wanted(running, waiting), prefetch.surplus(running, waiting)

    free = max(0, threads - running)
    assert 0 <= prefetch.depth <= MOST_JOBS
    assert 0 <= wanted <= free + prefetch.depth
    assert 0 <= surplus <= waiting
    # What is claimed does not become a surplus, and what stays is not too little.
    assert not (wanted and surplus)
    assert prefetch.surplus(running, waiting - surplus) == 0
    assert prefetch.surplus(running, waiting + wanted) == (0 if wanted else surplus)
    assert not wanted or waiting + wanted == free + prefetch.depth
    assert not surplus or waiting - surplus >= min(waiting, free)
