"""Text that not every database can keep: lone surrogates, as of file names, and NUL."""

import os
from dataclasses import replace

import pytest
from django.core.management import CommandError, call_command

from dj_queue import recurring
from dj_queue.compat import InvalidTask, TaskResultDoesNotExist, task_backends
from dj_queue.conf import read_options
from dj_queue.exceptions import (
    InvalidOption,
    InvalidSchedule,
    NotSerializable,
    UnknownBackend,
    UnknownRecurringTask,
)
from dj_queue.models import Attempt, FailedExecution
from dj_queue.operations.claim import claim
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.operations.processes import register
from dj_queue.queues import Queue
from dj_queue.routers import queue_database, use_backend
from dj_queue.runtime import process
from tests.jobs import EVERY, ME, NOW, counts, store
from tests.recurring import tasks as rows
from tests.runtime.units import registered
from tests.shop import tasks

pytestmark = pytest.mark.django_db(**EVERY)

FILE_NAME = os.fsdecode(b"caf\xe9")
SURROGATE, NUL = "caf\udce9", "caf\x00"

unstorable = pytest.mark.parametrize("text", [SURROGATE, NUL, "\ud800"])


@unstorable
def test_a_task_is_not_made_for_such_a_queue(db, text):
    with pytest.raises(InvalidTask, match=r"^queue_name: expected 1 to 64 characters, without NUL"):
        tasks.add.using(backend=db.backend, queue_name=text)


@unstorable
@pytest.mark.parametrize(
    ("params", "path"),
    [
        (lambda text: {"QUEUES": [text]}, "TASKS['x']['QUEUES']"),
        (
            lambda text: {"OPTIONS": {"workers": [{"queues": ["*", text]}]}},
            "TASKS['x']['OPTIONS']['workers'][0]['queues'][1]",
        ),
        (
            lambda text: {"OPTIONS": {"workers": [{"queues": f"{text}*"}]}},
            "TASKS['x']['OPTIONS']['workers'][0]['queues'][0]",
        ),
        (
            lambda text: {"OPTIONS": {"recurring": {text: {}}}},
            "TASKS['x']['OPTIONS']['recurring']",
        ),
        *[
            (
                lambda text, name=name: {
                    "OPTIONS": {
                        "recurring": {
                            "k": {"task_path": "a.b", "schedule": "@daily", name: text},
                        }
                    }
                },
                f"TASKS['x']['OPTIONS']['recurring']['k'][{name!r}]",
            )
            for name in ("task_path", "schedule", "timezone", "queue_name")
        ],
    ],
)
def test_settings_with_it_name_the_path(text, params, path):
    with pytest.raises(InvalidOption) as error:
        read_options("x", params(text))

    assert str(error.value).startswith(f"{path}: expected ")
    str(error.value).encode()


@unstorable
def test_a_backend_is_not_called_so(text):
    with pytest.raises(InvalidOption, match=r"^TASKS: expected backend names without NUL") as error:
        read_options(text, {})

    str(error.value).encode()


@unstorable
def test_an_unknown_backend_is_named_in_text_that_can_be_written(text):
    for call in (lambda: queue_database(text), lambda: use_backend(text).__enter__()):
        with pytest.raises(UnknownBackend) as error:
            call()
        str(error.value).encode()
    with pytest.raises(CommandError) as refused:
        call_command("dj_queue", "--backend", text)
    str(refused.value).encode()


@unstorable
def test_a_queue_is_not_called_so(text):
    with pytest.raises(ValueError, match=r"^name: expected 1 to 64 characters, without NUL"):
        Queue(text)


@pytest.mark.parametrize("text", [SURROGATE, "\ud800"])
def test_arguments_and_results_are_refused(db, text):
    task = tasks.echo.using(backend=db.backend)
    for args, kwargs in ([(text,), {}], [(), {"a": [text]}], [(), {"a": {text: 1}}]):
        with pytest.raises(NotSerializable):
            task.enqueue(*args, **kwargs)

    assert counts(db) == {}


def test_nul_in_arguments_comes_back_as_it_went_in(db):
    result = tasks.echo.using(backend=db.backend).enqueue(NUL)

    assert task_backends[db.backend].get_result(result.id).args == [NUL]


@unstorable
def test_a_result_that_does_not_exist_is_none_whatever_it_is_called(db, text):
    with pytest.raises(TaskResultDoesNotExist) as error:
        task_backends[db.backend].get_result(text)

    str(error.value).encode()


@pytest.mark.parametrize("text", [FILE_NAME, NUL])
def test_an_error_that_names_such_a_file_is_stored_escaped(db, text):
    store(db, task_path="tests.shop.tasks.fail", args=["x"])
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    outcome = execute(db, row, clock=lambda: NOW)
    failure = type(outcome.failure).of(FileNotFoundError(2, "No such file", text))
    outcome = replace(outcome, failure=failure)

    assert finish(db, [outcome]) == [outcome]

    escaped = {FILE_NAME: "\\udce9", NUL: "\\x00"}[text]
    assert escaped in db.objects(FailedExecution).get().message
    assert escaped in db.objects(Attempt).get().traceback


@unstorable
def test_recurring_tasks_are_not_called_so(db, text):
    with pytest.raises(InvalidSchedule, match=r"^key: expected"):
        recurring.schedule(key=text, task=tasks.sweep, schedule="@daily", backend=db.backend)
    for call in (recurring.enable, recurring.disable, recurring.run_now):
        with pytest.raises(UnknownRecurringTask) as error:
            call(text, backend=db.backend)
        str(error.value).encode()
    assert recurring.unschedule(text, backend=db.backend) is False


@unstorable
@pytest.mark.parametrize("name", ["schedule", "timezone", "queue_name", "args"])
def test_a_recurring_task_with_it_is_refused(db, text, name):
    given = {"schedule": "@daily", name: [text] if name == "args" else text}
    if (text, name) == (NUL, "args"):
        pytest.skip("arguments may have NUL")

    with pytest.raises((InvalidSchedule, InvalidTask, NotSerializable)):
        recurring.schedule(key="k", task=tasks.echo, backend=db.backend, **given)

    assert rows(db) == {}


def test_a_host_whose_name_is_no_text_registers(db, monkeypatch):
    monkeypatch.setattr(process.socket, "gethostname", lambda: FILE_NAME)

    registration = registered(db)
    register(db, [registration.row(NOW)])

    assert registration.row(NOW).hostname == "caf\\xe9"
