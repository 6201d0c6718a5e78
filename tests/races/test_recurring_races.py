"""Schedulers of several hosts at the same moment, each on a connection of its own."""

from datetime import timedelta
from threading import Barrier

import pytest

from dj_queue.models import RecurringRun, RecurringTask
from dj_queue.operations import fire as operation
from dj_queue.operations import recurring
from dj_queue.operations.recurring import synchronise
from tests.jobs import EVERY, NOW
from tests.races.together import together
from tests.recurring import changing, fire, minutes, put, runs, tasks

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


@pytest.fixture
def both_looked(monkeypatch):
    """Let nobody write before both schedulers have read the due row."""
    barrier, original = Barrier(2), operation.planned

    def planned(own, row, now):
        plan = original(own, row, now)
        barrier.wait(timeout=30)
        return plan

    monkeypatch.setattr(operation, "planned", planned)


@pytest.mark.parametrize("attempt", range(5))
def test_of_two_schedulers_at_one_due_task_one_fires_it(db, both_looked, attempt):
    put(db)

    rounds = together([lambda: fire(db, NOW), lambda: fire(db, NOW)])

    assert sorted(len(each.fired) for each in rounds) == [0, 1]
    assert runs(db) == [NOW]
    assert tasks(db)["sweep"].next_run_at == NOW + timedelta(minutes=1)


def test_two_schedulers_whose_clocks_differ_fire_each_instant_once(db, both_looked):
    put(db, misfire="all")

    rounds = together(
        [lambda: fire(db, NOW + timedelta(minutes=2)), lambda: fire(db, NOW + timedelta(minutes=5))]
    )

    assert sorted(len(each.fired) for each in rounds) == [0, 1]
    assert runs(db) in (minutes(0, 1, 2), minutes(0, 1, 2, 3, 4, 5))


def test_four_schedulers_fire_many_tasks_once_each(db):
    for number in range(60):
        put(db, f"t{number:02d}")

    def scheduler():
        while fire(db, NOW, limit=20).next_run_at == NOW:
            pass

    together([scheduler] * 4)

    assert runs(db) == [NOW] * 60


def test_schedulers_that_start_together_make_each_static_task_once(db, settings):
    entries = {
        f"t{number:02d}": {
            "task_path": "tests.shop.tasks.add",
            "schedule": "@daily",
            "args": [1, 2],
        }
        for number in range(20)
    }
    changing(settings, db.backend)(recurring=entries)
    put(db, "stale", is_static=True)

    done = together([lambda: synchronise(db, now=NOW)] * 4)

    assert set(tasks(db)) == set(entries)
    assert sum(each.inserted_count for each in done) == 20


def test_a_task_that_is_removed_while_it_fires_leaves_no_run(db, monkeypatch):
    # The removal may come before the cursor's write, which then finds no row, or wait for its end.
    row = put(db)
    original, original_planned, barrier = recurring._delete, operation.planned, Barrier(2)

    def planned(own, seen, now):
        plan = original_planned(own, seen, now)
        barrier.wait(timeout=30)
        return plan

    def delete(own, ids):
        barrier.wait(timeout=30)
        return original(own, ids)

    monkeypatch.setattr(operation, "planned", planned)
    monkeypatch.setattr(recurring, "_delete", delete)

    together([lambda: fire(db, NOW), lambda: recurring.remove(db, "sweep")])

    assert not db.objects(RecurringTask).filter(pk=row.pk).exists()
    assert not db.objects(RecurringRun).exists()
