"""What messages quote of a value: bounded text, and nothing of the value's own code is run."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from dj_queue.compat import InvalidTask, TaskResultDoesNotExist, task_backends
from dj_queue.exceptions import DjQueueError, InvalidReturnValue, NotSerializable
from dj_queue.models import Attempt, FailedExecution, Job
from dj_queue.models.fields import normalize_json
from dj_queue.operations.claim import claim
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.quoting import quoted, quoted_error, text_of
from dj_queue.recurring import schedule
from dj_queue.tasks import Concurrency, Retry, RetryPolicy, task
from tests.jobs import EVERY, ME, NOW, store
from tests.shop import hostile, tasks
from tests.shop.hostile import VALUES, Hostile, Wordless

pytestmark = pytest.mark.django_db(**EVERY)

SHORT = 1000
# What is neither Python's own nor JSON is named by its type.
NAMED = {
    "an object": "an instance of tests.shop.hostile.Hostile",
    "a model instance": "an instance of tests.shop.hostile.OrderOfSomebody",
    "a queryset": "an instance of django.db.models.query.QuerySet",
    "a lazy object": "an instance of django.utils.functional.SimpleLazyObject",
    "a set of models": "{an instance of tests.shop.hostile.OrderOfSomebody}",
    "a set of it": "frozenset({(1, (2, (…)))})",
    "a large key": "{a number of 16610 bits: 1}",
    "a class": "<class 'tests.shop.hostile.Hostile'>",
    "a moment": "an instance of datetime.datetime",
}


def test_errors_in_errors_are_quoted_to_a_few_levels_only():
    nested = ValueError("innermost")
    for _ in range(3000):
        nested = ValueError(nested)
    circular = KeyError()
    circular.args = (circular,)

    assert quoted(nested) == "ValueError(ValueError(ValueError(ValueError(…))))"
    assert quoted(circular) == "KeyError(KeyError(KeyError(KeyError(…))))"


@pytest.mark.parametrize("name", VALUES)
def test_what_is_quoted_is_short_and_runs_no_code_of_the_value(name, django_assert_num_queries):
    value = VALUES[name]()

    with django_assert_num_queries(0):
        text = quoted(value)

    assert 0 < len(text) <= 301
    assert text == NAMED.get(name, text)


@pytest.mark.parametrize(
    "value",
    [
        None, True, -5, 1.5, float("nan"), "it's", b"\xff", 1j, [1, ["a"]], (1,), (), {"a": 1},
        {1, 2}, frozenset([1]), set(), {}, date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC),
        Decimal("1.50"), UUID(int=1), int, bytearray(b"x"),
    ],
)  # fmt: skip
def test_short_values_of_pythons_own_types_are_quoted_as_repr_has_them(value):
    assert quoted(value) == repr(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 500, f"'{'x' * 299}…"),
        ([0] * 500, "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, …]"),
        (dict.fromkeys(range(11)), quoted(dict.fromkeys(range(10)))[:-1] + ", …}"),
        ([[[[1]]]], "[[[[…]]]]"),
    ],
)
def test_long_values_are_cut(value, text):
    assert quoted(value) == text


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("place", ["args", "kwargs"])
def test_an_argument_is_refused_with_its_type_and_nothing_is_stored(db, name, place):
    value = VALUES[name]()
    echo = tasks.echo.using(backend=db.backend)

    with pytest.raises(NotSerializable) as refused:
        echo.enqueue(value) if place == "args" else echo.enqueue(value=value)

    assert str(refused.value).startswith(f"{place}[")
    assert len(str(refused.value)) < SHORT
    assert not db.objects(Job).exists()


@pytest.mark.parametrize("function", ["give", "give_later"])
@pytest.mark.parametrize("name", VALUES)
def test_a_result_is_refused_once_and_for_all(db, name, function):
    hostile.CALLS.clear()
    [job] = store(
        db, task_path=f"tests.shop.hostile.{function}", args=[name], kwargs={}, max_attempts=3
    )
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)

    outcome = execute(db, row, clock=lambda: NOW)
    finish(db, [outcome])

    assert outcome.failure.exception_path == "dj_queue.exceptions.InvalidReturnValue"
    assert isinstance(outcome.error, InvalidReturnValue)
    assert outcome.failure.message.startswith("return value")
    assert len(outcome.failure.message) < SHORT
    assert db.objects(FailedExecution).filter(job_id=job.id).exists()
    assert (db.objects(Attempt).count(), hostile.CALLS) == (1, [name])


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a model instance", "obj.pk"),
        ("a queryset", 'list(queryset.values_list("pk", flat=True))'),
        ("a large set", "list(value)"),
        ("large bytes", "value.hex()"),
        ("a moment", "str(value)"),
        ("an object", "str(value)"),
    ],
)
def test_the_refusal_says_what_to_give_instead(name, remedy):
    for path, verb in (("args", "pass"), ("return value", "return")):
        with pytest.raises(NotSerializable) as refused:
            normalize_json(VALUES[name](), path)

        assert str(refused.value).endswith(f"; {verb} {remedy}")


def test_a_value_that_cannot_be_read_is_refused_with_what_it_raised():
    with pytest.raises(NotSerializable) as refused:
        normalize_json({"a": VALUES["a mapping"]()}, "args")

    assert str(refused.value) == (
        "args['a']: expected a JSON value, got an instance of tests.shop.hostile.Items, "
        "which raised KeyError: 'read'"
    )


def test_an_exception_that_ends_processes_when_it_is_printed_fails_its_job_only(db):
    store(db, task_path="tests.shop.hostile.fail_without_words", args=[])
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)

    outcome = execute(db, row, clock=lambda: NOW)

    assert outcome.failure.exception_path == "tests.shop.hostile.Wordless"
    assert outcome.failure.message == "<str() of the exception raised SystemExit>"
    assert "Wordless" in outcome.failure.traceback


def test_errors_are_quoted_short():
    assert quoted_error(ValueError("x" * 1_000_000)) == f"ValueError: {'x' * 500}…"
    assert quoted_error(Wordless()) == "Wordless: <str() of the exception raised SystemExit>"
    assert len(text_of(ValueError("x" * 1_000_000))) == 1_000_000


CALLS = {
    "max_attempts": lambda value: tasks.add.using(max_attempts=value),
    "queue_name": lambda value: tasks.add.using(queue_name=value),
    "priority": lambda value: tasks.add.using(priority=value),
    "run_after": lambda value: tasks.add.using(run_after=value),
    "concurrency": lambda value: tasks.add.using(concurrency=value),
    "backoff": lambda value: task(backoff=value)(tasks.add.func),
    "retry_on": lambda value: task(retry_on=value)(tasks.add.func),
    "growth": lambda value: RetryPolicy(growth=value),
    "seconds": lambda value: RetryPolicy(seconds=value),
    "jitter": lambda value: RetryPolicy(jitter=value),
    "after": lambda value: Retry(after=value),
    "key": lambda value: tasks.add.using(concurrency=Concurrency(key=value)).enqueue(1, 2),
    "on_conflict": lambda value: Concurrency(key="k", on_conflict=value),
    "limit": lambda value: Concurrency(key="k", limit=value),
    "made key": lambda value: tasks.add.using(
        concurrency=Concurrency(key=lambda a, b: value)
    ).enqueue(1, 2),
    "result id": lambda value: task_backends["default"].get_result("x" * 1_000_000),
    "schedule": lambda value: schedule(key="k", task=tasks.sweep, schedule=value),
    "recurring key": lambda value: schedule(key=value, task=tasks.sweep, schedule="0 3 * * *"),
    "misfire": lambda value: schedule(
        key="k", task=tasks.sweep, schedule="0 3 * * *", misfire=value
    ),
    "timezone": lambda value: schedule(
        key="k", task=tasks.sweep, schedule="0 3 * * *", timezone=value
    ),
}


@pytest.mark.parametrize("make", [Hostile, lambda: set(range(200_000)), lambda: "x" * 1_000_000])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_whatever_is_given_to_the_api_is_refused_in_a_few_words(call, make):
    with pytest.raises((DjQueueError, InvalidTask, ValueError, TaskResultDoesNotExist)) as refused:
        call(make())

    assert len(str(refused.value)) < SHORT
