"""OPTIONS: a wrong one is named by its full path, with what was expected and what came."""

import math

import pytest

from dj_queue.conf import (
    BackendOptions,
    DispatcherOptions,
    RecurringOptions,
    SchedulerOptions,
    WorkerOptions,
    read_options,
)
from dj_queue.exceptions import InvalidOption

OPTIONS = "TASKS['x']['OPTIONS']"


def read(**options):
    return read_options("x", {"OPTIONS": options})


def recurring(**entry):
    return {"recurring": {"a": {"task_path": "x.y", "schedule": "@daily", **entry}}}


def test_recurring_tasks_are_read_by_key():
    options = read(**recurring(args=[1], kwargs={"b": 2}), scheduler={"misfire_after": 9})

    task = RecurringOptions("x.y", "@daily", args=(1,), kwargs={"b": 2})
    assert options.recurring == (("a", task),)
    assert options.scheduler == SchedulerOptions(misfire_after=9.0)


def test_no_options_are_the_defaults():
    assert read_options("x", {}) == read() == BackendOptions()
    assert BackendOptions().workers == (WorkerOptions(("*",), 3, 0, 1, 0.1),)


def test_a_process_may_miss_a_heartbeat_before_it_is_given_up():
    with pytest.raises(InvalidOption) as caught:
        read(process_heartbeat_interval=10, process_alive_threshold=19)

    assert str(caught.value) == (
        f"{OPTIONS}['process_alive_threshold']: expected at least twice "
        "process_heartbeat_interval (20), got 19.0"
    )


def test_sections_are_read_into_their_dataclasses():
    options = read(workers=[{"queues": ["a", "b*"]}, {"threads": 9}], dispatcher={"batch_size": 1})

    assert options.workers == (WorkerOptions(queues=("a", "b*")), WorkerOptions(threads=9))
    assert options.dispatcher == DispatcherOptions(batch_size=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thread": 1}, "['thread']: expected one of database_alias, read_database_alias, list"),
        ({"dedicated": 1}, "['dedicated']: expected True, False or None, got 1"),
        ({"database_alias": ""}, "['database_alias']: expected the alias of a database in DATAB"),
        (
            {"listen_database_alias": ""},
            "['listen_database_alias']: expected the alias of a database in DATABASES, or None, go",
        ),
        ({"listen_notify": None}, "['listen_notify']: expected True or False, got None"),
        ({"workers": {}}, "['workers']: expected a list of dicts, at least one, got {}"),
        ({"workers": []}, "['workers']: expected a list of dicts, at least one, got []"),
        ({"workers": [3]}, "['workers'][0]: expected a dict, got 3"),
        (
            {"workers": [{}, {"threads": 0}]},
            "['workers'][1]['threads']: expected a whole number from 1 to 1000, got 0",
        ),
        (
            {"workers": [{"threads": True}]},
            "['workers'][0]['threads']: expected a whole number from 1 to 1000, got True",
        ),
        (
            {"workers": [{"threads": 2.0}]},
            "['workers'][0]['threads']: expected a whole number from 1 to 1000, got 2.0",
        ),
        (
            {"workers": [{"concurrency": 10_001}]},
            "['workers'][0]['concurrency']: expected a whole number from 0 to 10000, got 10001",
        ),
        (
            {"workers": [{"polling_interval": math.nan}]},
            "['workers'][0]['polling_interval']: expected a number of seconds from 0.001 to 3600",
        ),
        ({"shutdown_timeout": -1}, "['shutdown_timeout']: expected a number of seconds from 0 to"),
        ({"shutdown_timeout": "5"}, "['shutdown_timeout']: expected a number of seconds from 0 to"),
        (
            {"workers": [{"queues": []}]},
            "['workers'][0]['queues']: expected '*', a queue name, 'pr",
        ),
        (
            {"workers": [{"queues": " mail"}]},
            "['workers'][0]['queues'][0]: expected '*', a queue name or the beginning of one and",
        ),
        (
            {"workers": [{"queues": ["a", "b**"]}]},
            "['workers'][0]['queues'][1]: expected '*', a queue name or the beginning of one and",
        ),
        (
            {"workers": [{"queues": "x" * 65}]},
            "['workers'][0]['queues'][0]: expected '*', a queue name or the beginning of one and",
        ),
        ({"scheduler": {"polling_interval": 0}}, "['scheduler']['polling_interval']: expected a n"),
        (
            {"scheduler": {"dynamic_tasks_enabled": 1}},
            "['scheduler']['dynamic_tasks_enabled']: exp",
        ),
        (
            {"scheduler": {"misfire_after": 0}},
            "['scheduler']['misfire_after']: expected a number o",
        ),
        ({"recurring": []}, "['recurring']: expected a dict of dicts, got []"),
        (
            {"recurring": {"": {}}},
            "['recurring']: expected keys of 1 to 64 characters, without NUL",
        ),
        ({"recurring": {"a": 3}}, "['recurring']['a']: expected a dict, got 3"),
        (
            {"recurring": {"a": {"task_path": "x.y"}}},
            "['recurring']['a']: expected a dict with 'schedule', got {'task_path': 'x.y'}",
        ),
        (
            recurring(schedule=3),
            "['recurring']['a']['schedule']: expected a cron expression of 1 t",
        ),
        (
            recurring(task_path=""),
            "['recurring']['a']['task_path']: expected the path of a task of",
        ),
        (
            recurring(args="ab"),
            "['recurring']['a']['args']: expected a list of positional argument",
        ),
        (
            recurring(kwargs=[]),
            "['recurring']['a']['kwargs']: expected a dict of keyword arguments",
        ),
        (
            recurring(queue_name="a*"),
            "['recurring']['a']['queue_name']: expected a queue name (1 t",
        ),
        (
            recurring(priority=101),
            "['recurring']['a']['priority']: expected a whole number from -1",
        ),
        (
            recurring(timezone=1),
            "['recurring']['a']['timezone']: expected a time zone of 1 to 64 c",
        ),
        (
            recurring(misfire="never"),
            "['recurring']['a']['misfire']: expected one of 'latest', 'all', 'skip', got 'never'",
        ),
        (
            recurring(when=1),
            "['recurring']['a']['when']: expected one of task_path, schedule, args",
        ),
        ({"dispatcher": {"batch_size": "many"}}, "['dispatcher']['batch_size']: expected a whole"),
    ],
)
def test_a_wrong_option_is_named_by_its_path(options, message):
    with pytest.raises(InvalidOption) as caught:
        read(**options)

    assert str(caught.value).startswith(f"{OPTIONS}{message}")


def test_all_wrong_options_are_named_at_once():
    with pytest.raises(InvalidOption) as caught:
        read(dedicated="yes", nonsense=1, workers=[{"threads": -1, "queues": 7}])

    paths = [line.partition(": ")[0] for line in str(caught.value).splitlines()]
    assert paths == [
        f"{OPTIONS}['dedicated']",
        f"{OPTIONS}['nonsense']",
        f"{OPTIONS}['workers'][0]['threads']",
        f"{OPTIONS}['workers'][0]['queues']",
    ]


@pytest.mark.parametrize("options", [None, [], "x"])
def test_options_that_are_no_dict_are_refused(options):
    with pytest.raises(InvalidOption, match=r"TASKS\['x'\]\['OPTIONS'\]: expected a dict, got"):
        read_options("x", {"OPTIONS": options})


@pytest.mark.parametrize("queues", ["mail", [1], [""], ["x" * 65], ["x "], ["x*"], None])
def test_queues_that_are_no_list_of_names_are_refused(queues):
    with pytest.raises(InvalidOption, match=r"TASKS\['x'\]\['QUEUES'\]: expected a list of queue"):
        read_options("x", {"QUEUES": queues})


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_backend_name_that_no_column_holds_is_refused(name):
    with pytest.raises(InvalidOption, match="TASKS: expected a backend name of 1 to 64 characters"):
        read_options(name, {})


@pytest.mark.parametrize(
    ("params", "meant"),
    [
        ({"database_alias": "queue"}, "['OPTIONS']['database_alias']"),
        ({"DATABASE_ALIAS": "queue"}, "['OPTIONS']['database_alias']"),
        ({"databse_alias": "queue"}, "['OPTIONS']['database_alias']"),
        ({"options": {}}, "['OPTIONS']"),
        ({"OPTION": {}}, "['OPTIONS']"),
        ({"queues": []}, "['QUEUES']"),
        ({"workers": []}, "['OPTIONS']['workers']"),
        ({"threads": 3}, "['OPTIONS']['workers'][0]['threads']"),
        ({"OPTIONS": {"databse_alias": "queue"}}, "['OPTIONS']['database_alias']"),
        ({"OPTIONS": {"Dedicated": True}}, "['OPTIONS']['dedicated']"),
        ({"OPTIONS": {"QUEUES": []}}, "['QUEUES']"),
        ({"OPTIONS": {"OPTIONS": {}}}, "['OPTIONS']"),
        ({"OPTIONS": {"threads": 3}}, "['OPTIONS']['workers'][0]['threads']"),
        ({"OPTIONS": {"batch_size": 3}}, "['OPTIONS']['dispatcher']['batch_size']"),
        ({"OPTIONS": {"workers": [{}, {"queue": "a"}]}}, "['OPTIONS']['workers'][1]['queues']"),
        ({"OPTIONS": {"scheduler": {"misfire": 3}}}, None),
        ({"colour": "red"}, None),
        ({1: 2}, None),
    ],
    ids=str,
)
def test_an_unknown_name_is_refused_with_what_was_most_likely_meant(params, meant):
    with pytest.raises(InvalidOption, match=r"got an unknown (key|option)") as caught:
        read_options("x", params)

    said = str(caught.value).partition(": did you mean ")[2]
    assert said == ("" if meant is None else f"TASKS['x']{meant}?")


@pytest.mark.parametrize("name", ["ENQUEUE_ON_COMMIT", "enqueue_on_commit"])
@pytest.mark.parametrize("value", [True, False, None])
@pytest.mark.parametrize("is_option", [False, True])
def test_enqueue_on_commit_is_refused_with_what_to_use(name, value, is_option):
    params = {"OPTIONS": {name: value}} if is_option else {name: value}

    with pytest.raises(InvalidOption, match=r"transaction.on_commit\(partial\(task.enqueue"):
        read_options("x", params)
