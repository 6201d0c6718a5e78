"""Concurrency: what may be said of keys, where it is refused, and which key a job gets."""

import copy
import pickle

import django
import pytest

from dj_queue.backend import DjQueueBackend
from dj_queue.compat import InvalidTask
from dj_queue.compat import task as django_task
from dj_queue.models import Job
from dj_queue.results import stored_task
from dj_queue.tasks import Concurrency, QueueTask, task
from tests.jobs import EVERY, NOW, counts
from tests.shop import tasks, turns
from tests.test_tasks import tasks_module, with_backend


def work(account_id, /, place="here", *rest, size=1, **more):
    """Stand where a task's function stands."""


def listen(context, account_id):
    """Stand where the function of a task with a context stands."""


def plain(account_id):
    """Stand where a function of one argument stands."""


def key_of(key, *args, func=work, takes_context=False, **kwargs):
    """Give the key of a job that is enqueued with these arguments."""
    made = task(concurrency=Concurrency(key=key), takes_context=takes_context)(func)
    return DjQueueBackend("default", {})._job(made, args, kwargs, NOW).concurrency_key


def test_a_task_has_no_key_unless_it_says_so():
    assert task(work).concurrency is None
    assert DjQueueBackend("default", {})._job(tasks.add, [1, 2], {}, NOW).concurrency_key is None


def test_a_key_is_one_at_a_time_unless_it_says_more():
    rule = Concurrency(key="k")

    assert (rule.limit, rule.duration, rule.on_conflict) == (1, None, "block")


@pytest.mark.parametrize(
    ("key", "args", "kwargs", "expected"),
    [
        ("mail", [1], {}, "mail"),
        ("account:{account_id}", [7], {}, "account:7"),
        ("{account_id}/{place}/{size:03}", [7], {}, "7/here/001"),
        ("{account_id}/{place}/{size}", [7, "there"], {"size": 2}, "7/there/2"),
        ("{account_id[name]}", [{"name": "ada"}], {}, "ada"),
        ("{rest[0]}", [1, 2, 3], {}, "3"),
        ("{colour}", [1], {"colour": "red"}, "red"),
        ("{{{account_id}}}", [1], {}, "{1}"),
        ("|{account_id:>{size}}|", [1], {"size": 3}, "|  1|"),
        ("{account_id}", ["x" * 255], {}, "x" * 255),
        (lambda account_id, **_: f"of {account_id}", [7], {"size": 2}, "of 7"),
        ("{account_id}", [b"ab"], {}, "ab"),
    ],
)
def test_the_key_is_made_of_the_arguments(key, args, kwargs, expected):
    assert key_of(key, *args, **kwargs) == expected


def test_the_context_is_no_argument_of_a_key():
    assert key_of("{account_id}", 7, func=listen, takes_context=True) == "7"
    with pytest.raises(InvalidTask, match="got 'context'"):
        key_of("{context}", 7, func=listen, takes_context=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"key": ""},
            "key: expected a format string or a function of the task's arguments, got ''",
        ),
        ({"key": 5}, "key: expected a format string or a function of the task's arguments, got 5"),
        ({"limit": 0}, "limit: expected a whole number from 1 to 32767, got 0"),
        ({"limit": 32768}, "limit: expected a whole number from 1 to 32767, got 32768"),
        ({"limit": True}, "limit: expected a whole number from 1 to 32767, got True"),
        ({"duration": 0}, "duration: expected a number of seconds from 1 to 31536000, got 0"),
        ({"duration": "1"}, "duration: expected a number of seconds from 1 to 31536000, got '1'"),
        ({"on_conflict": "drop"}, "on_conflict: expected 'block' or 'discard', got 'drop'"),
    ],
)
def test_what_is_out_of_bounds_is_refused_where_it_is_said(options, message):
    with pytest.raises(InvalidTask) as refused:
        Concurrency(**{"key": "k"} | options)

    assert str(refused.value) == f"concurrency.{message}"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "{acount_id}",
            "expected arguments of tests.test_keys.plain (account_id) in '{acount_id}', got "
            "'acount_id'",
        ),
        ("{}", "expected arguments of tests.test_keys.plain (account_id) in '{}', got ''"),
        ("{0}", "expected arguments of tests.test_keys.plain (account_id) in '{0}', got '0'"),
        (
            "{account_id:{width}}",
            "expected arguments of tests.test_keys.plain (account_id) in '{account_id:{width}}', "
            "got 'width'",
        ),
        ("{account_id", "expected a format string, got '{account_id': expected '}' before end"),
    ],
)
def test_a_format_string_that_names_no_argument_is_refused_by_the_decorator(key, message):
    with pytest.raises(InvalidTask) as refused:
        task(concurrency=Concurrency(key=key))(plain)

    assert str(refused.value).startswith(f"concurrency.key: {message}")


@pytest.mark.parametrize("key", [None, "k", {"key": "k"}])
def test_concurrency_is_a_concurrency(key):
    if key is None:
        assert task(concurrency=None)(plain).concurrency is None
        return
    with pytest.raises(InvalidTask, match="concurrency: expected a Concurrency, got"):
        task(concurrency=key)(plain)


@pytest.mark.parametrize(
    "key", ["", "x" * 256, "a\x00b", " a", "a ", "a\n", "\ud800", None, 7, b"k"]
)
def test_arguments_that_make_no_key_are_refused_by_enqueue(key):
    with pytest.raises(InvalidTask) as refused:
        key_of(lambda *_: key, 1)

    what = "expected 1 to 255 characters, without NUL or space around them"
    assert str(refused.value) == f"concurrency.key: {what}, got {key!r}"


@pytest.mark.parametrize(
    ("key", "args", "message"),
    [
        (
            "{account_id}",
            [],
            "expected arguments that tests.test_keys.work takes, got: missing a required argument: "
            "'account_id'",
        ),
        ("{colour}", [1], "expected arguments that fit '{colour}', got KeyError: 'colour'"),
        (
            "{account_id[name]}",
            [1],
            "expected arguments that fit '{account_id[name]}', got TypeError: 'int' object is not "
            "subscriptable",
        ),
        (
            "{account_id:d}",
            ["x"],
            "expected arguments that fit '{account_id:d}', got ValueError: Unknown format code 'd'",
        ),
    ],
)
def test_arguments_that_do_not_fit_the_key_are_refused_by_enqueue(key, args, message):
    with pytest.raises(InvalidTask) as refused:
        key_of(key, *args)

    # 3.14 says more of a missing argument.
    assert str(refused.value).startswith(f"concurrency.key: {message}")


@pytest.mark.django_db(**EVERY)
def test_a_bad_key_among_many_is_named_and_nothing_is_stored(db):
    charge = turns.charge.using(backend=db.backend)

    with pytest.raises(InvalidTask, match=r"^calls\[1\]: concurrency\.key: expected 1 to 255"):
        DjQueueBackend(db.backend, {}).enqueue_all(
            [(charge, [1], {}), (charge, ["x" * 300], {}), (charge, [2], {})]
        )

    assert counts(db) == {}


@pytest.mark.django_db(**EVERY)
def test_a_job_keeps_what_it_was_enqueued_with(db, settings):
    own = settings.TASKS[db.backend]
    options = {**own["OPTIONS"], "default_concurrency_duration": 45.5}
    settings.TASKS = {**settings.TASKS, db.backend: {**own, "OPTIONS": options}}
    compute = turns.compute.using(backend=db.backend)
    refresh = turns.refresh.using(backend=db.backend)

    compute.enqueue(1, b=2)
    refresh.enqueue(7)
    refresh.using(concurrency=Concurrency(key="other", limit=3)).enqueue(7)

    names = ["concurrency_key", "concurrency_limit", "concurrency_seconds", "discards_on_conflict"]
    assert list(db.objects(Job).order_by("id").values_list(*names)) == [
        ("(1,){'b': 2}", 2, 60, False),
        ("account:7", 1, 46, True),
        ("other", 3, 46, False),
    ]
    stored = stored_task(db.objects(Job).order_by("id")[1])
    assert stored.concurrency == turns.refresh.concurrency


def test_using_changes_concurrency_only():
    before = task(max_attempts=3, queue_name="mail", concurrency=Concurrency(key="a"))(work)

    after = before.using(concurrency=Concurrency(key="b", limit=2))

    assert (after.concurrency, after.max_attempts) == (Concurrency(key="b", limit=2), 3)
    assert (after.queue_name, before.concurrency) == ("mail", Concurrency(key="a"))
    with pytest.raises(InvalidTask, match="got 'nobody'"):
        task(plain).using(concurrency=Concurrency(key="{nobody}"))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_task_with_a_key_can_be_copied(duplicate):
    assert duplicate(turns.charge) == turns.charge
    assert duplicate(turns.compute) == turns.compute


def test_a_task_with_a_format_string_can_be_pickled():
    assert pickle.loads(pickle.dumps(turns.charge)) == turns.charge


@pytest.mark.skipif(
    django.VERSION[:2] == (6, 0),
    reason="needs keywords of a backend in Django's decorator: Django 6.0 has none",
)
def test_djangos_decorator_takes_concurrency():
    made = django_task(concurrency=Concurrency(key="k"))(plain)

    assert type(made) is QueueTask
    assert made.concurrency == Concurrency(key="k")


def test_a_backend_that_is_not_ours_keeps_no_jobs_apart(settings):
    rule = Concurrency(key="k")
    foreign = with_backend(settings, "tests.test_tasks.ForeignBackend")
    with foreign, pytest.raises(InvalidTask) as refused:
        task(backend="other", concurrency=rule)(plain)

    assert str(refused.value) == (
        f"concurrency: expected None on backend 'other', which is a ForeignBackend, got {rule!r}: "
        "only a backend of dj_queue ('default', 'alerts', 'bulk') keeps jobs apart"
    )


@pytest.mark.parametrize("kind", ["immediate.ImmediateBackend", "dummy.DummyBackend"])
def test_djangos_backends_for_tests_take_the_task(settings, kind):
    with with_backend(settings, f"{tasks_module()}.backends.{kind}"):
        made = task(backend="other", concurrency=Concurrency(key="k"))(tasks.add.func)

        assert made.enqueue(1, 2).args == [1, 2]
