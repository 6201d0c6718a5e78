"""Each instant fires exactly once: 1 to 4 schedulers, crashes anywhere, clocks that step."""

from contextlib import contextmanager
from datetime import timedelta
from itertools import takewhile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dj_queue.models import STATES, Job, RecurringRun, RecurringTask
from dj_queue.operations import fire as operation
from dj_queue.schedules import instants_after
from tests.jobs import EVERY, NOW, counts
from tests.recurring import fire, put

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

SCHEDULES = ("* * * * *", "*/7 * * * *", "0 12,13 * * *", "* * * * * */20")

steps = st.lists(
    st.tuples(
        st.integers(0, 3),  # which scheduler, of as many as there are
        st.integers(0, 400),  # seconds that pass before
        st.integers(-300, 300),  # how far its clock is off at this moment
        st.none() | st.integers(1, 12),  # at which statement it crashes
        st.booleans(),  # whether another comes between its look and its write
    ),
    max_size=12,
)


class Crash(Exception):
    """The process is gone."""


@contextmanager
def crashing(db, statement):
    """Let the statement of that number not get to the database, nor any after it."""
    sent = 0

    def count(execute, sql, params, many, context):
        nonlocal sent
        sent += 1
        if statement is not None and sent >= statement and not sql.startswith("ROLLBACK"):
            raise Crash
        return execute(sql, params, many, context)

    with db.connection.execute_wrapper(count):
        try:
            yield
        except Crash:
            assert not db.in_transaction


@contextmanager
def interrupted(by):
    """Call `by` between the look at the first due task and the write."""
    original, calls = operation.planned, []

    def planned(own, row, now):
        plan = original(own, row, now)
        if not calls:
            calls.append(row)
            by()
        return plan

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operation, "planned", planned)
        yield


def empty(db):
    for model in (RecurringTask, RecurringRun, Job, *STATES):
        db.objects(model)._raw_delete(db.alias)


def fired(db):
    """Give the instants that fired by schedule; each has a ready job, and no job is without."""
    found = db.objects(RecurringRun).values_list("task__schedule", "run_at", "job_id")
    assert sorted(job for *_, job in found) == sorted(db.objects(Job).values_list("pk", flat=True))
    assert counts(db).get("ready", 0) == len(found)
    return sorted((schedule, run_at) for schedule, run_at, _ in found)


def due(schedules, until):
    return sorted(
        (schedule, each)
        for schedule in schedules
        for each in takewhile(
            lambda each: each <= until,
            instants_after(schedule, "UTC", NOW - timedelta(seconds=1)),
        )
    )


def play(db, schedulers, steps):
    """Let the schedulers look at their times; give the latest time that any clock has shown."""
    now = latest = NOW
    for number, passed, off, crash_at, is_interrupted in steps:
        now += timedelta(seconds=passed)
        mine, others = now + timedelta(seconds=off), now - timedelta(seconds=off)
        latest = max([latest, mine, *([others] if is_interrupted else [])])

        def another(others=others):
            fire(db, others)

        limit = 1 + number % schedulers  # so that a look of one may end before another's
        with crashing(db, crash_at):
            if is_interrupted:
                with interrupted(another):
                    fire(db, mine, limit=limit)
            else:
                fire(db, mine, limit=limit)
    return latest


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    schedulers=st.integers(1, 4),
    schedules=st.lists(st.sampled_from(SCHEDULES), min_size=1, max_size=3, unique=True),
    steps=steps,
    portion=st.integers(1, 10),
)
def test_each_instant_fires_exactly_once(db, monkeypatch, schedulers, schedules, steps, portion):
    empty(db)
    monkeypatch.setattr(operation, "MOST_INSTANTS", portion)
    for schedule in schedules:
        put(db, f"t{SCHEDULES.index(schedule)}", schedule=schedule, misfire="all")

    latest = play(db, schedulers, steps)
    while fire(db, latest).fired:
        pass

    assert fired(db) == due(schedules, latest)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    schedule=st.sampled_from(SCHEDULES), steps=steps, misfire=st.sampled_from(["latest", "skip"])
)
def test_no_instant_fires_twice_and_what_is_in_time_fires(db, schedule, steps, misfire):
    empty(db)
    put(db, schedule=schedule, misfire=misfire)

    latest = play(db, 1, steps)
    fire(db, latest)

    instants = [run_at for _, run_at in fired(db)]
    assert len(instants) == len(set(instants))
    assert {(schedule, each) for each in instants} <= set(due([schedule], latest))
    if misfire == "latest":
        assert instants[-1:] == [each for _, each in due([schedule], latest)][-1:]
