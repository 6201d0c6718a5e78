"""attempt_failed: each failed attempt is told of, for what counts those that task_started began."""

import sys
from datetime import timedelta

import pytest

from dj_queue.compat import TaskResultStatus, task_finished, task_started
from dj_queue.exceptions import ProcessExited
from dj_queue.operations.claim import claim
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import announce, finish
from dj_queue.operations.recover import recover
from dj_queue.signals import attempt_failed
from dj_queue.testing import drain
from dj_queue.timezone import for_project
from tests.jobs import EVERY, LATER, ME, NOW, store

pytestmark = pytest.mark.django_db(**EVERY)

READY, FAILED = TaskResultStatus.READY, TaskResultStatus.FAILED
STUMBLE = {"task_path": "tests.shop.retries.stumble", "args": ["oh"]}


@pytest.fixture
def told():
    """Give what was told of failed attempts, in order."""
    calls = []

    def receiver(sender, task_result, **more):
        handled = sys.exc_info()[1]
        calls.append({"sender": sender.__name__, "result": task_result, "handled": handled, **more})

    attempt_failed.connect(receiver)
    yield calls
    attempt_failed.disconnect(receiver)


@pytest.fixture
def gauge():
    """Give how many attempts are under way, counted as the documentation says."""
    levels = [0]

    def start(**_):
        levels.append(levels[-1] + 1)

    def fail(**_):
        levels.append(levels[-1] - 1)

    def finish(task_result, **_):
        if task_result.status == TaskResultStatus.SUCCESSFUL:
            levels.append(levels[-1] - 1)

    receivers = [(task_started, start), (attempt_failed, fail), (task_finished, finish)]
    for signal, receiver in receivers:
        signal.connect(receiver)
    yield levels
    for signal, receiver in receivers:
        signal.disconnect(receiver)


def attempt(db):
    """Run the next job, record the outcome and announce it."""
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=LATER)
    outcome = execute(db, row, clock=lambda: NOW)
    for recorded in finish(db, [outcome]):
        announce(db, recorded)
    return outcome


def test_it_is_sent_for_an_attempt_that_is_followed_by_another(db, told):
    [job] = store(db, max_attempts=2, **STUMBLE)

    outcome = attempt(db)

    [call] = told
    assert (call["result"].id, call["result"].status) == (str(job.id), READY)
    assert (call["sender"], call["attempt"]) == ("DjQueueBackend", 1)
    assert call["retry_at"] == for_project(NOW + timedelta(seconds=60))
    assert call["exception"] is call["handled"] is outcome.error
    assert [each.exception_class_path for each in call["result"].errors] == ["builtins.ValueError"]


def test_without_use_tz_the_next_attempt_is_at_a_local_time(db, told, settings):
    settings.USE_TZ, settings.TIME_ZONE = False, "Asia/Kolkata"
    store(db, max_attempts=2, **STUMBLE)

    outcome = attempt(db)

    local = (outcome.retry_at + timedelta(hours=5.5)).replace(tzinfo=None)
    assert [call["retry_at"] for call in told] == [local]


def test_it_is_sent_for_the_last_attempt_before_task_finished(db, told):
    store(db, max_attempts=1, **STUMBLE)
    finished = []

    def receiver(**_):
        finished.append(len(told))

    task_finished.connect(receiver)
    try:
        attempt(db)
    finally:
        task_finished.disconnect(receiver)

    [call] = told
    assert (call["attempt"], call["retry_at"], call["result"].status) == (1, None, FAILED)
    assert finished == [1]


def test_it_is_not_sent_for_success(db, told):
    store(db)

    attempt(db)

    assert told == []


def test_it_is_not_sent_where_the_claim_was_lost(db, told):
    store(db, max_attempts=2, **STUMBLE)
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    recover(db, [ME], ProcessExited("it died"), now=NOW)
    del told[:]

    assert finish(db, [execute(db, row, clock=lambda: NOW)]) == []
    assert told == []


@pytest.mark.parametrize("attempts", [1, 2])
def test_it_is_sent_by_who_recovers_the_job_of_a_dead_process(db, told, attempts):
    store(db, max_attempts=attempts, **STUMBLE)
    claim(db, ["*"], limit=1, process_id=ME, now=NOW)

    recover(db, [ME], ProcessExited("it died"), now=NOW)

    [call] = told
    assert (call["attempt"], type(call["exception"])) == (1, ProcessExited)
    assert (call["retry_at"] is None) == (attempts == 1)


@pytest.mark.parametrize(
    "path",
    ["tests.shop.retries.third_time_lucky", "tests.shop.retries.stumble_at_once"],
    ids=["succeeds", "fails"],
)
def test_a_gauge_of_attempts_comes_back_to_nothing(db, gauge, path):
    store(db, task_path=path, args=[], max_attempts=3)

    drain(db.backend)

    assert gauge == [0, 1, 0, 1, 0, 1, 0]


def test_a_gauge_comes_back_to_nothing_where_the_path_names_no_task(db, gauge):
    store(db, task_path="tests.shop.nowhere.task")

    drain(db.backend)

    assert gauge == [0, 1, 0]


def test_the_log_has_the_traceback_of_an_attempt_that_is_followed_by_another(db, caplog):
    store(db, max_attempts=2, **STUMBLE)

    attempt(db)

    [record] = [each for each in caplog.records if getattr(each, "event", "") == "job_retried"]
    assert record.exc_info[0] is ValueError
    assert "in stumble" in caplog.text
    assert f" at={(NOW + timedelta(seconds=60)).isoformat()} " in record.getMessage()
