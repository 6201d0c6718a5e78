"""drain() runs in the test's thread what a worker and a dispatcher would."""

from datetime import timedelta
from threading import current_thread

import pytest
from django.test import TestCase
from django.utils import timezone

from dj_queue.compat import TaskResultStatus, task_finished, task_started
from dj_queue.exceptions import UnknownBackend
from dj_queue.operations.pauses import pause
from dj_queue.routers import queue_database
from dj_queue.testing import drain
from tests.jobs import counts
from tests.shop.retries import stumble
from tests.shop.tasks import add, add_later, fail, sweep, who
from tests.testing.tasks import count_down, go_on, hand_over, note

pytestmark = pytest.mark.dj_queue

READY, FAILED = TaskResultStatus.READY, TaskResultStatus.FAILED
SUCCESSFUL = TaskResultStatus.SUCCESSFUL


@pytest.fixture
def sent():
    """Give the signals of a job's way, as they come: name, sender's name, id, status."""
    signals = {"started": task_started, "finished": task_finished}
    heard = []

    def listen(name):
        def receiver(sender, task_result, **kwargs):
            heard.append((name, sender.__name__, task_result.id, task_result.status))

        return receiver

    receivers = {name: listen(name) for name in signals}
    for name, receiver in receivers.items():
        signals[name].connect(receiver)
    yield heard
    for name, receiver in receivers.items():
        signals[name].disconnect(receiver)


def test_nothing_to_run_is_an_empty_list():
    assert drain() == []


def test_jobs_are_run_in_this_thread_and_their_results_returned(db):
    enqueued = who.using(backend=db.backend).enqueue()

    (result,) = drain(db.backend)

    assert (result.id, result.status) == (enqueued.id, SUCCESSFUL)
    assert result.return_value == current_thread().name
    assert counts(db) == {"finished": 1}
    enqueued.refresh()
    assert enqueued.return_value == result.return_value


def test_a_job_that_waits_for_its_next_attempt_is_run_when_that_is_due(db, sent):
    enqueued = stumble.using(backend=db.backend).enqueue("oh")

    (first,) = drain(db.backend)
    assert (first.status, first.attempts, counts(db)) == (READY, 1, {"scheduled": 1})
    assert drain(db.backend) == []
    rest = drain(db.backend, now=timezone.now() + timedelta(hours=1))

    assert [(each.status, each.attempts) for each in rest] == [(READY, 2), (FAILED, 3)]
    assert {each.id for each in rest} == {enqueued.id}
    assert [name for name, *_ in sent] == ["started", "started", "started", "finished"]
    assert counts(db) == {"failed": 1}
    enqueued.refresh()
    assert (enqueued.status, len(enqueued.errors), enqueued.attempts) == (FAILED, 3, 3)


@pytest.mark.django_db(transaction=True)
def test_jobs_are_run_outside_of_a_transaction(db):
    add.using(backend=db.backend).enqueue(1, 2)

    (result,) = drain(db.backend)

    assert result.return_value == 3
    assert counts(db) == {"finished": 1}


def test_results_come_in_the_order_the_jobs_were_run(db):
    here = note.using(backend=db.backend)
    for text, priority in [("first", 0), ("second", 0), ("urgent", 9)]:
        here.using(priority=priority).enqueue(text)

    assert [result.return_value for result in drain(db.backend)] == ["urgent", "first", "second"]


def test_a_job_that_fails_is_returned_and_kept(db):
    fail.using(backend=db.backend).enqueue("no paper")

    (result,) = drain(db.backend)

    assert result.status == FAILED
    assert "no paper" in result.errors[0].traceback
    assert counts(db) == {"failed": 1}


def test_a_coroutine_is_run_to_its_end(db):
    add_later.using(backend=db.backend).enqueue(1, 2)

    assert [result.return_value for result in drain(db.backend)] == [3]


def test_signals_are_sent_as_by_a_worker(db, sent):
    job = add.using(backend=db.backend).enqueue(1, 2)

    drain(db.backend)

    who_sent = "DjQueueBackend"
    assert [each[:3] for each in sent] == [
        ("started", who_sent, job.id),
        ("finished", who_sent, job.id),
    ]
    assert sent[-1][3] == SUCCESSFUL


def test_the_exception_of_a_task_is_logged_as_by_a_worker(db, caplog):
    fail.using(backend=db.backend).enqueue("no paper")

    drain(db.backend)

    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert str(record.exc_info[1]) == "no paper"


def test_a_job_whose_time_has_come_is_run_and_another_waits(db):
    here, now = note.using(backend=db.backend), timezone.now()
    here.using(run_after=now + timedelta(days=1)).enqueue("tomorrow")
    here.using(run_after=now + timedelta(days=3)).enqueue("later")

    assert drain(db.backend) == []
    assert counts(db) == {"scheduled": 2}

    (result,) = drain(db.backend, now=now + timedelta(days=2))

    assert result.return_value == "tomorrow"
    assert counts(db) == {"scheduled": 1, "finished": 1}


def test_a_paused_queue_is_left_alone(db):
    note.using(backend=db.backend, queue_name="mail").enqueue("a")
    pause(db, ["mail"], now=timezone.now())

    assert drain(db.backend) == []
    assert counts(db) == {"ready": 1}


def test_what_a_job_enqueues_is_run_too():
    count_down.enqueue(3)

    assert [result.return_value for result in drain()] == [3, 2, 1, 0]


def test_all_backends_are_drained_unless_some_are_named():
    add.enqueue(1, 2)
    add.using(backend="alerts").enqueue(3, 4)
    sweep.enqueue()

    assert [result.backend for result in drain("alerts")] == ["alerts"]
    assert counts(queue_database("default")) == {"ready": 1, "finished": 1}
    assert [result.backend for result in drain()] == ["default", "bulk"]


def test_a_job_of_one_database_may_enqueue_on_another():
    hand_over.enqueue("across")

    assert [result.backend for result in drain("default", "bulk")] == ["bulk", "default"]


def test_a_task_that_enqueues_for_ever_is_named_and_nothing_stays_claimed(db):
    go_on.using(backend="default").enqueue()

    with pytest.raises(AssertionError) as raised:
        drain(limit=20)

    assert str(raised.value) == (
        "expected drain(limit=20) to be done after 20 jobs, got another; "
        "while they ran, tests.testing.tasks.go_on enqueued 20"
    )
    assert counts(queue_database("default")) == {"ready": 1, "finished": 20}


def test_a_receiver_that_enqueues_for_ever_is_found_out_too():
    def receiver(task_result, **kwargs):
        note.enqueue("again")

    note.enqueue("once")
    task_finished.connect(receiver)
    try:
        with pytest.raises(AssertionError, match=r"tests\.testing\.tasks\.note enqueued 5"):
            drain(limit=5)
    finally:
        task_finished.disconnect(receiver)


def test_many_jobs_of_the_test_itself_are_told_from_endless_ones():
    for _ in range(3):
        add.enqueue(1, 2)

    with pytest.raises(AssertionError, match="while they ran, none was enqueued"):
        drain(limit=2)

    assert len(drain(limit=1)) == 1


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="expected limit to be above 0, got 0"):
        drain(limit=0)


def test_an_unknown_backend_is_refused():
    with pytest.raises(UnknownBackend, match="got 'mail'"):
        drain("mail")


def test_finished_jobs_are_deleted_where_the_backend_says_so(db, settings):
    tasks = {name: {**params} for name, params in settings.TASKS.items()}
    params = tasks[db.backend]
    params["OPTIONS"] = {**params["OPTIONS"], "preserve_finished_jobs": False}
    settings.TASKS = tasks
    add.using(backend=db.backend).enqueue(1, 2)

    assert [result.return_value for result in drain(db.backend)] == [3]
    assert counts(db) == {}


@pytest.mark.dj_queue
class DjangoTest(TestCase):
    """The mark and drain() in a TestCase of Django's."""

    @classmethod
    def setUpTestData(cls):
        cls.enqueued = sweep.enqueue()

    def test_a_job_of_the_class_is_run(self):
        assert [result.id for result in drain()] == [self.enqueued.id]

    def test_a_job_of_the_class_is_run_in_every_test(self):
        assert [result.id for result in drain("bulk")] == [self.enqueued.id]
