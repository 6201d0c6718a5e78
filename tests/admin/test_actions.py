"""What operators do on the pages: done, said, logged, confirmed, and harmless when repeated."""

import time

import pytest
from django.db import OperationalError

from dj_queue.models import (
    STATES,
    BlockedExecution,
    ClaimedExecution,
    FailedExecution,
    FinishedExecution,
    Job,
    Pause,
    ReadyExecution,
    ScheduledExecution,
)
from dj_queue.models.ids import new_id
from dj_queue.operations.pauses import pause
from dj_queue.routers import queue_database
from tests.admin.conftest import ROOT, Page
from tests.jobs import EVERY, NOW, counts, in_state, sibling_of, states, store

pytestmark = pytest.mark.django_db(**EVERY)


class Press:
    """Presses a backend's buttons and reads what the next page says."""

    def __init__(self, client, db):
        self.client, self.db = client, db

    def __call__(self, place, **fields):
        return self.client.post(f"{ROOT}{self.db.backend}/act/{place}/", fields)

    def said(self, place, **fields):
        """Give the message shown after the button was pressed."""
        response = self.client.post(f"{ROOT}{self.db.backend}/act/{place}/", fields, follow=True)
        assert response.status_code == 200
        (message,) = [str(each) for each in response.context["messages"]]
        return message

    def question(self, place, **fields):
        """Give the confirmation page, and the fields its form sends."""
        page = Page(self(place, **fields).content.decode())
        (form,) = [each for each in page.forms if "act/" in each["action"]]
        sent = {}
        for name, value in form["fields"]:
            sent.setdefault(name, []).append(value)
        return page.html, form["buttons"], sent


@pytest.fixture
def press(operator, db):
    return Press(operator, db)


def acted(events):
    return [payload for name, payload in events() if name == "operator_acted"]


def test_a_queue_is_paused_and_resumed(press, db, events):
    store(db, queue_name="mail")

    assert press.said("queue", action="pause", queue="mail") == f"Paused queue mail on {db.alias}."
    assert press.said("queue", action="pause", queue="mail") == "mail was paused already."
    assert [row.queue_name for row in db.objects(Pause)] == ["mail"]
    assert press.said("queue", action="resume", queue="mail").startswith("Resumed queue mail")
    assert press.said("queue", action="resume", queue="mail") == "mail was not paused."
    assert not db.objects(Pause).exists()
    assert [(each["action"], each["count"]) for each in acted(events)] == [
        ("pause", 1),
        ("pause", 0),
        ("resume", 1),
        ("resume", 0),
    ]


def test_clear_asks_first_and_names_number_and_database(press, db, events):
    store(db, 3, queue_name="mail")
    store(db, queue_name="post")
    store(sibling_of(db), queue_name="mail")

    html, buttons, fields = press.question("queue", action="clear", queue="mail")

    assert buttons == ["Yes, clear 3 jobs"]
    assert f"<b>{db.alias}</b>" in html
    assert counts(db) == {"ready": 5}
    assert press.said("queue", **fields) == f"Discarded 3 jobs of queue mail on {db.alias}."
    assert press.said("queue", **fields) == f"{db.backend} has no queue mail: nothing was changed."
    assert counts(db) == {"ready": 2}
    first = acted(events)[0]
    assert (first["backend"], first["database"], first["queue"], first["count"]) == (
        db.backend,
        db.alias,
        "mail",
        3,
    )
    assert first["user"] == "operator"


def test_failed_jobs_are_retried_once(press, db, events):
    first, second, third = in_state(db, FailedExecution, 3)
    chosen = {"action": "retry", "state": "failed", "job": [str(first.id), str(second.id)]}

    assert press.said("jobs", **chosen) == f"Retried 2 jobs on {db.alias}."
    assert press.said("jobs", **chosen) == (
        f"Retried 0 jobs on {db.alias}. 2 had moved on and were left alone."
    )
    assert states(db) == {first.id: ["ready"], second.id: ["ready"], third.id: ["failed"]}
    assert acted(events)[0]["jobs"] == f"{first.id},{second.id}"


@pytest.mark.parametrize(
    "state", [ReadyExecution, ScheduledExecution, BlockedExecution, FailedExecution]
)
def test_jobs_are_discarded_after_a_question(press, db, state):
    gone, stays = in_state(db, state, 2)

    html, buttons, fields = press.question(
        "jobs", action="discard", state=state.state, job=str(gone.id)
    )

    assert (buttons, f"<b>{db.alias}</b>" in html) == (["Yes, discard 1 job"], True)
    assert press.said("jobs", **fields) == f"Discarded 1 job on {db.alias}."
    assert states(db) == {stays.id: [state.state]}


def test_a_scheduled_job_is_made_ready(press, db):
    (job,) = in_state(db, ScheduledExecution)

    said = press.said("jobs", action="run_now", state="scheduled", job=str(job.id))

    assert said == f"Made ready 1 job on {db.alias}."
    assert states(db) == {job.id: ["ready"]}


def test_a_double_click_enqueues_a_finished_job_once(press, db):
    (job,) = in_state(db, FinishedExecution)
    chosen = {"action": "again", "state": "finished", "job": str(job.id), "request": str(new_id())}

    assert press.said("jobs", **chosen) == f"Enqueued again 1 job on {db.alias}."
    press.said("jobs", **chosen)

    assert counts(db) == {"ready": 1, "finished": 1}


def test_nothing_selected_is_said(press):
    assert "no job is selected" in press.said("jobs", action="retry", state="failed")


def test_a_bulk_takes_the_whole_filter_after_a_question(press, db, monkeypatch):
    monkeypatch.setattr("dj_queue.admin.actions.BATCH", 2)
    job_filter = in_state(db, FailedExecution, 5, queue_name="mail", task_path="shop.tasks.send")
    other_queue = in_state(db, FailedExecution, queue_name="post", task_path="shop.tasks.send")
    other_task = in_state(db, FailedExecution, queue_name="mail")
    sibling = in_state(
        sibling_of(db), FailedExecution, queue_name="mail", task_path="shop.tasks.send"
    )
    filters = {"state": "failed", "queue": "mail", "text": "TASKS.send"}

    html, buttons, fields = press.question(
        "jobs", action="retry", all="yes", request=str(new_id()), **filters
    )
    left = in_state(db, FailedExecution, queue_name="mail", task_path="shop.tasks.send")

    assert (buttons, f"<b>{db.alias}</b>" in html) == (["Yes, retry 5 jobs"], True)
    assert press.said("jobs", **fields) == f"Retried 5 jobs on {db.alias}."
    assert {job.id: states(db)[job.id] for job in job_filter} == {
        job.id: ["ready"] for job in job_filter
    }
    for job in (*other_queue, *other_task, *sibling, *left):
        assert states(db)[job.id] == ["failed"]


def test_a_bulk_without_filters_is_every_job_of_the_state_and_backend(press, db):
    in_state(db, FinishedExecution, 3)
    in_state(sibling_of(db), FinishedExecution)

    *_, fields = press.question(
        "jobs", action="again", all="yes", state="finished", request=str(new_id())
    )
    press.said("jobs", **fields)
    press.said("jobs", **fields)

    assert counts(db) == {"ready": 3, "finished": 4}


def test_a_bulk_takes_what_was_made_before_it_although_the_clock_was_set_back(
    press, db, monkeypatch
):
    """Within one millisecond, or behind a clock set back, ids differ by a counter only."""
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    in_state(db, FinishedExecution, 3)
    fields = {"action": "again", "all": "yes", "state": "finished", "confirm": "yes"}

    press("jobs", request=str(new_id()), **fields)

    assert counts(db) == {"ready": 3, "finished": 3}


def test_a_bulk_that_takes_too_long_leaves_the_rest_for_the_next_press(press, db, monkeypatch):
    monkeypatch.setattr("dj_queue.admin.actions.BATCH", 2)
    monkeypatch.setattr("dj_queue.admin.actions.MOST_SECONDS", -1)
    in_state(db, FailedExecution, 5)
    fields = {"action": "retry", "all": "yes", "state": "failed", "confirm": "yes"}

    response = press("jobs", request=str(new_id()), **fields)

    assert response.status_code == 302
    assert counts(db) == {"ready": 2, "failed": 3}


REFUSED = {
    "an unknown action": ("queue", {"action": "drop", "queue": "mail"}),
    "no action": ("queue", {"queue": "mail"}),
    "an action of the other kind": ("queue", {"action": "retry", "queue": "mail"}),
    "a name no queue has": ("queue", {"action": "pause", "queue": " mail*"}),
    "another backend": ("queue", {"action": "pause", "queue": "mail", "backend": "bulk"}),
    "a state it is not for": ("jobs", {"action": "retry", "state": "ready"}),
    "a claimed job": ("jobs", {"action": "discard", "state": "claimed"}),
    "an id that is none": ("jobs", {"action": "retry", "state": "failed", "job": "1 OR 1"}),
    "no wish's id": (
        "jobs",
        {"action": "retry", "state": "failed", "all": "yes", "confirm": "yes"},
    ),
}


@pytest.mark.parametrize(("place", "fields"), REFUSED.values(), ids=REFUSED)
def test_what_is_forged_is_refused(operator, place, fields):
    db, sibling = queue_database("default"), queue_database("alerts")
    store(db, queue_name="mail")
    in_state(db, ClaimedExecution, queue_name="mail")
    in_state(db, FailedExecution, queue_name="mail")
    store(sibling, queue_name="theirs")
    before = states(db)

    response = Press(operator, db)(place, **fields)

    assert response.status_code == 400
    assert states(db) == before
    assert not db.objects(Pause).exists()


@pytest.mark.parametrize("name", ["forged", "theirs"])
@pytest.mark.parametrize("action", ["pause", "resume", "clear"])
def test_a_queue_that_is_not_there_is_refused_with_a_word(press, db, action, name):
    store(sibling_of(db), queue_name="theirs")

    said = press.said("queue", action=action, queue=name, confirm="yes")

    assert said == f"{db.backend} has no queue {name}: nothing was changed."
    assert not db.objects(Pause).exists()
    assert counts(db) == {"ready": 1}


def test_a_job_of_a_sibling_is_left_alone(press, db):
    (job,) = in_state(sibling_of(db), FailedExecution)

    said = press.said("jobs", action="retry", state="failed", job=str(job.id))

    assert said == f"Retried 0 jobs on {db.alias}. 1 had moved on and was left alone."
    assert states(db) == {job.id: ["failed"]}


def test_the_page_one_came_from_is_returned_to(press, db):
    store(db, queue_name="mail")
    there = f"{ROOT}{db.backend}/?queues_sort=-2&queues_page=2"

    assert press("queue", action="pause", queue="mail", next=there).url == there


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example/", "//evil.example/", "/admin/", f"{ROOT}bulkhead/", "javascript:x"],
)
def test_a_form_returns_nowhere_else(press, db, elsewhere):
    store(db, queue_name="mail")

    response = press("queue", action="pause", queue="mail", next=elsewhere)

    assert response.url == f"{ROOT}{db.backend}/"


def test_a_database_that_fails_in_between_is_a_message(press, db, monkeypatch):
    (job,) = in_state(db, FailedExecution)

    def lost(*_, **__):
        raise OperationalError("server closed the connection")

    monkeypatch.setattr("dj_queue.admin.actions.retry", lost)

    said = press.said("jobs", action="retry", state="failed", job=str(job.id))

    assert said == (
        f"Queue database {db.alias} does not answer, the action was not completed: "
        "server closed the connection"
    )


def test_looking_writes_nothing(operator, db):
    for state in STATES:
        in_state(db, state, queue_name="mail")
    pause(db, ["mail"], now=NOW)
    before = states(db)
    (job, *_) = db.objects(Job)

    for page in ("", "stats.json", "jobs/?text=x", "queues/mail/ready/", f"jobs/{job.id}/"):
        operator.get(f"{ROOT}{db.backend}/{page}")

    assert states(db) == before
    assert db.objects(Pause).count() == 1


def test_a_refresh_leaves_the_message_for_the_page_after_it(press, operator, db):
    store(db, queue_name="mail")
    page = press("queue", action="pause", queue="mail").url

    refresh = operator.get(page, headers={"X-DjQueue-Live": "1"}).content.decode()
    after = operator.get(page).content.decode()

    assert ("Paused queue mail" in refresh, "Paused queue mail" in after) == (False, True)
