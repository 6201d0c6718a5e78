"""Lists of jobs: found, ordered, filtered, counted and gone through in batches."""

from datetime import UTC, datetime, timedelta

import pytest

from dj_queue.models import (
    STATES,
    BlockedExecution,
    FailedExecution,
    FinishedExecution,
    ReadyExecution,
    ScheduledExecution,
)
from dj_queue.models.ids import first_id_at, new_id
from dj_queue.observability import jobs
from dj_queue.observability.jobs import JobFilter, batches, count_jobs, find_jobs, state_row
from tests.jobs import EVERY, NOW, in_state, sibling_of, store

pytestmark = pytest.mark.django_db(**EVERY)


def found(db, **job_filter):
    return [job.id for job in find_jobs(db, JobFilter(**job_filter)).jobs]


def test_a_state_lists_its_jobs_and_none_lists_all(db):
    by_state = {state.state: in_state(db, state)[0].id for state in STATES}
    in_state(sibling_of(db), FailedExecution)

    assert {name: found(db, state=name) for name in by_state} == {
        name: [job_id] for name, job_id in by_state.items()
    }
    assert set(found(db)) == set(by_state.values())
    states = {state_row(job).state for job in find_jobs(db, JobFilter()).jobs}
    assert states == set(by_state)


def test_what_is_next_or_newest_comes_first(db):
    low, high = store(db, priority=-1) + store(db, priority=1)
    old, new = in_state(db, FailedExecution, 2)
    late = in_state(db, ScheduledExecution)[0]
    soon = store(db, run_after=NOW + timedelta(minutes=1))[0]

    assert found(db, state="ready") == [high.id, low.id]
    assert found(db, state="failed") == [new.id, old.id]
    assert found(db, state="scheduled") == [soon.id, late.id]


SEARCHED = {
    "the task's path": ("TASKS.receipt", {"task_path": "shop.tasks.receipt"}),
    "an argument": ("anna@", {"args": [{"to": ["Anna@example.org"]}]}),
    "a keyword's name": ("colour", {"kwargs": {"colour": 1}}),
    "text with quotes and umlauts": ('sagt "Übel"', {"args": ['Er sagt "Übel"']}),
    "a percent sign": ("100%", {"args": ["100%"]}),
    "an underscore": ("a_b", {"args": ["a_b"]}),
    "a backslash": ("C:\\temp", {"args": ["C:\\temp"]}),
}


@pytest.mark.parametrize("state", [ReadyExecution, FinishedExecution, None])
@pytest.mark.parametrize(("text", "columns"), SEARCHED.values(), ids=SEARCHED)
def test_a_search_finds(db, text, columns, state):
    (job,) = in_state(db, state or BlockedExecution, **columns)
    in_state(db, state or BlockedExecution, args=["100", "aXb", "anna"])
    in_state(sibling_of(db), state or BlockedExecution, **columns)

    assert found(db, text=text, state=state.state if state else "") == [job.id]


def test_a_search_finds_the_error_of_a_failed_job(db):
    (job,) = in_state(db, FailedExecution)
    in_state(db, FinishedExecution)

    for text in ("KEYERROR", "'total'"):
        assert found(db, text=text) == [job.id]
        assert found(db, text=text, state="failed") == [job.id]
        assert found(db, text=text, state="finished") == []


def test_an_id_is_found_in_any_form(db):
    first, second = store(db, 2)

    assert found(db, text=str(first.id)) == [first.id]
    assert found(db, text=f" {second.id.hex.upper()} ") == [second.id]
    assert found(db, text=str(first.id), state="failed") == []
    assert found(db, text=str(new_id())) == []


def test_jobs_are_filtered_by_queue_task_and_time(db):
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    times = [noon + timedelta(hours=hour) for hour in range(4)]
    made = [
        store(db, id=at_time(at), enqueued_at=at, queue_name="mail", task_path="a.b")[0]
        for at in times
    ]
    store(db, id=at_time(times[1]), enqueued_at=times[1], queue_name="post")

    span = {"since": times[1], "until": times[3]}
    assert set(found(db, queue="mail", **span)) == {made[1].id, made[2].id}
    assert set(found(db, state="ready", task="a.b", **span)) == {made[1].id, made[2].id}
    assert found(db, since=times[3]) == [made[3].id]


def at_time(moment):
    """Make an id of that moment."""
    return type(first_id_at(moment))(int=first_id_at(moment).int | new_id().int & (1 << 80) - 1)


def test_a_search_looks_at_the_newest_jobs_only_and_says_so(db, monkeypatch):
    monkeypatch.setattr(jobs, "WINDOW", 3)
    old, *new = in_state(db, FinishedExecution, 4)

    narrow = find_jobs(db, JobFilter(state="finished", text="add"))
    everything = find_jobs(db, JobFilter(state="finished"))
    by_id = find_jobs(db, JobFilter(state="finished", text=str(old.id)))

    assert ([job.id for job in narrow.jobs], narrow.is_partial) == (
        [job.id for job in reversed(new)],
        True,
    )
    assert (len(everything.jobs), everything.is_partial) == (4, False)
    assert ([job.id for job in by_id.jobs], by_id.is_partial) == ([old.id], False)
    assert str(count_jobs(db, JobFilter(state="finished", text="add"))) == "4"


def test_counts_end_at_the_cap(db, monkeypatch):
    monkeypatch.setattr(jobs, "FINISHED_CAP", 3)
    in_state(db, FinishedExecution, 5)

    page = find_jobs(db, JobFilter(state="finished"), start=2, size=2)

    assert str(page.count) == "3+"
    assert len(page.jobs) == 1


def test_another_order_is_asked_for_by_columns(db):
    first, second, third = (
        in_state(db, FailedExecution, task_path=path, priority=priority)[0]
        for path, priority in (("b", 1), ("a", 1), ("c", 2))
    )

    page = find_jobs(db, JobFilter(state="failed"), order=["-priority", "job__task_path"])

    assert [job.id for job in page.jobs] == [third.id, second.id, first.id]


def test_batches_go_through_all_jobs_while_they_leave(db):
    made = in_state(db, FailedExecution, 5)
    request = at_time(datetime.now(UTC) + timedelta(seconds=1))
    later = in_state(db, FailedExecution, id=at_time(NOW + timedelta(days=9999)))
    seen = []

    for ids in batches(db, JobFilter(state="failed"), size=2, before=request):
        seen.append(ids)
        db.objects(FailedExecution).filter(pk__in=ids).delete()

    assert seen == [[job.id for job in made[at : at + 2]] for at in (0, 2, 4)]
    assert [row.pk for row in db.objects(FailedExecution)] == [later[0].id]
