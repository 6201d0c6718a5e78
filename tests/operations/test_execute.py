"""Execute: whatever a task does becomes an outcome."""

import pytest
from django.db import OperationalError, connections

from dj_queue.compat import TaskResultStatus, task_started
from dj_queue.models import Job
from dj_queue.operations import execute as operation
from dj_queue.operations.claim import claim
from dj_queue.operations.execute import execute
from dj_queue.operations.failure import Failure
from dj_queue.operations.finish import finish
from tests.jobs import EVERY, ME, NOW, store
from tests.shop.models import Order

pytestmark = pytest.mark.django_db(**EVERY)


def outcome_of(db, path, *args, **kwargs):
    store(db, task_path=path, args=list(args), kwargs=kwargs)
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    return execute(db, row, clock=lambda: NOW)


def test_arguments_and_return_value_are_passed_on(db):
    outcome = outcome_of(db, "tests.shop.tasks.echo", 1, "x", key=[True])

    assert outcome.return_value == [[1, "x"], {"key": [True]}]
    assert outcome.result.return_value == outcome.return_value
    assert outcome.result.status == TaskResultStatus.SUCCESSFUL


def test_a_coroutine_is_awaited(db):
    assert outcome_of(db, "tests.shop.tasks.add_later", 1, 2).return_value == 3


def test_a_task_with_context_is_told_its_job_attempt_and_backend(db):
    outcome = outcome_of(db, "tests.shop.tasks.tell")

    assert outcome.return_value == [outcome.result.id, 1, db.backend]


def test_system_exit_fails_the_job(db):
    assert outcome_of(db, "tests.shop.tasks.leave").failure.exception_path == "builtins.SystemExit"


def test_a_return_value_that_is_not_json_fails_the_job(db):
    failure = outcome_of(db, "tests.shop.tasks.return_moment").failure

    assert failure.exception_path == "dj_queue.exceptions.InvalidReturnValue"
    assert failure.message == (
        "return value: expected a JSON value, got datetime.datetime(2026, 1, 1, 0, 0) (datetime); "
        "return str(value)"
    )


@pytest.mark.parametrize("alias", ["default", "queue"])
def test_a_transaction_left_open_fails_the_job_and_is_rolled_back_alone(db, alias):
    # Inside a transaction of ours, as in a TestCase: that one stays open, and usable.
    Order.objects.create(reference="before")

    outcome = outcome_of(db, "tests.shop.misbehaving.leave_a_transaction_open", alias)

    assert outcome.failure.exception_path == "dj_queue.exceptions.TransactionLeftOpen"
    assert outcome.failure.message == (
        f"expected the task to end every transaction it begins, got one left open on '{alias}'"
    )
    assert [order.reference for order in Order.objects.all()] == ["before"]
    assert len(connections[alias].atomic_blocks) == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("os.system", "expected 'os.system' to be a Task, got function"),
        ("tests.shop.tasks.not_a_task", "to be a Task, got function: nothing was called"),
        ("tests.shop.tasks.gone", "expected 'tests.shop.tasks.gone' to import, got ImportError"),
        ("no.such.module", "expected 'no.such.module' to import, got ModuleNotFoundError"),
        ("tests.shop.quits.task", "expected 'tests.shop.quits.task' to import, got SystemExit"),
        ("tests.shop.interrupts.task", "'tests.shop.interrupts.task' to import, got KeyboardInter"),
        ("tests.shop.speechless.task", "to import, got Speechless: <str() of the exception raised"),
        ("nodots", "expected 'nodots' to import, got ImportError"),
        ("", "expected '' to import, got ImportError"),
    ],
)
def test_a_path_that_names_no_task_fails_the_job_and_calls_nothing(db, monkeypatch, path, message):
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("os.system was called"))

    outcome = outcome_of(db, path, "echo broken")

    assert outcome.failure.exception_path == "dj_queue.exceptions.InvalidTaskPath"
    assert message in outcome.failure.message
    assert outcome.result.task.module_path.strip(".") == path
    assert finish(db, [outcome]) == [outcome]


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        ("args", "not json", "args: expected a stored JSON list, got 'not json'"),
        ("args", '{"a": 1}', "args: expected a stored JSON list, got {'a': 1}"),
        ("kwargs", "[1]", "kwargs: expected a stored JSON dict, got [1]"),
    ],
)
def test_arguments_that_were_tampered_with_fail_their_own_job_only(db, column, text, message):
    forged, honest = store(db, count=2)
    with db.cursor() as cursor:
        key = Job._meta.pk.get_db_prep_value(forged.id, db.connection)
        cursor.execute(f"UPDATE dj_queue_job SET {column} = %s WHERE id = %s", [text, key])

    rows = claim(db, ["*"], limit=2, process_id=ME, now=NOW)
    outcomes = [execute(db, row, clock=lambda: NOW) for row in rows]

    assert [outcome.claimed.job_id for outcome in outcomes] == [forged.id, honest.id]
    assert outcomes[0].failure.exception_path == "dj_queue.exceptions.InvalidArguments"
    assert outcomes[0].failure.message == message
    assert outcomes[1].return_value == 3
    assert len(finish(db, outcomes)) == 2


def test_an_outage_while_reading_earlier_attempts_is_not_the_tasks_failure(db, monkeypatch):
    def gone(*args, **kwargs):
        raise OperationalError("gone")

    store(db)
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    row.attempt = 2
    monkeypatch.setattr("dj_queue.operations.execute.attempts_of", gone)

    assert execute(db, row, clock=lambda: NOW).return_value == 3


def test_an_exception_that_cannot_be_printed_still_fails_the_job():
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    failure = Failure.of(Unprintable())

    assert failure.message == "<str() of the exception raised RuntimeError>"
    assert "Unprintable" in failure.traceback


def test_a_message_that_no_column_takes_is_escaped():
    failure = Failure.of(ValueError("half \ud800, nul \x00"))

    assert failure.message == "half \\ud800, nul \\x00"
    assert failure.traceback.endswith("ValueError: half \\ud800, nul \\x00\n")


def test_very_long_messages_are_cut_in_the_middle():
    failure = Failure.of(ValueError("a" + "x" * 1_000_000 + "z"))

    assert len(failure.message) < 11_000
    assert (failure.message[0], failure.message[-1]) == ("a", "z")


def test_task_started_is_sent_and_a_failing_receiver_harms_nothing(db):
    seen = []

    def receiver(sender, task_result, **_):
        seen.append((sender.__name__, task_result.status, task_result.id))
        raise RuntimeError("a receiver's own trouble")

    task_started.connect(receiver)
    try:
        outcome = outcome_of(db, "tests.shop.tasks.add", 1, 2)
    finally:
        task_started.disconnect(receiver)

    assert seen == [("DjQueueBackend", TaskResultStatus.RUNNING, outcome.result.id)]
    assert outcome.return_value == 3


def test_a_backend_that_cannot_be_made_fails_the_job(db, monkeypatch):
    def refuse(db):
        raise RuntimeError("no backend")

    monkeypatch.setattr(operation, "sender_of", refuse)

    assert outcome_of(db, "tests.shop.tasks.echo").failure.message == "no backend"
