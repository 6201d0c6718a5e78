"""dumpdata and loaddata: rows come back as they were, by every serializer, on every vendor."""

import json
from datetime import timedelta
from importlib.util import find_spec
from io import StringIO

import pytest
from django.apps import apps
from django.core import serializers
from django.core.management import call_command

from dj_queue.models import (
    STATES,
    Attempt,
    FinishedExecution,
    Installation,
    Job,
    Pause,
    Process,
    QueueMinute,
    RecurringRun,
    RecurringTask,
    Semaphore,
    Slot,
)
from dj_queue.models.fields import UnreadableText
from dj_queue.operations.claim import claim
from dj_queue.operations.execute import execute
from dj_queue.operations.failure import Failure
from dj_queue.operations.finish import finish
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY, LATER, ME, NOW, build, in_state, store

pytestmark = pytest.mark.django_db(**EVERY)

SOURCE, TARGET = (
    QueueDatabase(alias="queue", backend="default"),
    QueueDatabase(alias="bulk", backend="default"),
)
FORMATS = ["json", "jsonl", "xml", "yaml", "python"]
# Milliseconds: Django's JSON has no finer ones.
AT = NOW + timedelta(milliseconds=123)
VALUES = [
    None,
    True,
    0,
    -(2**64),
    10**4000,
    1e300,
    -0.0,
    "",
    "5",
    "null",
    '"quoted"',
    "[1,2]",
    " spaces\r\n\t",
    "\x00\x01\x1b\x7f\x85\u2028\ufffe\uffff𝄞 <&]]>",
    [],
    {},
    [[1, "1", 1.0, True], {"b": None, "a": "\x00"}],
]
DIED = Failure.of(ValueError("\x00\x1b[31mred\x1b[0m \ufffe\uffff\udc80"))


@pytest.fixture(params=FORMATS)
def form(request):
    if request.param == "yaml" and find_spec("yaml") is None:
        pytest.skip("needs PyYAML: it is not installed")
    return request.param


def dumped(form, *labels):
    """Dump tables of the source as dumpdata does."""
    if form == "python":
        models = [apps.get_model(label) for label in labels] or concrete_models()
        rows = [row for model in models for row in SOURCE.objects(model).order_by("pk")]
        return serializers.serialize("python", rows)
    out = StringIO()
    call_command("dumpdata", *labels or ["dj_queue"], database="queue", format=form, stdout=out)
    return out.getvalue()


def load(dump, form, folder):
    """Load a dump into the target as loaddata does."""
    if form == "python":
        for each in serializers.deserialize("python", dump, using="bulk"):
            each.save(using="bulk")
        return
    path = folder / f"rows.{form}"
    path.write_text(dump, encoding="utf-8", newline="")
    call_command("loaddata", path, database="bulk", verbosity=0)


def concrete_models():
    return [each for each in apps.get_app_config("dj_queue").get_models() if not each._meta.proxy]


def rows_on(db):
    """Give all rows of all tables, strictly comparable: 1, 1.0 and True are three things."""
    return {
        model._meta.label: [
            [(name, type(value), repr(value)) for name, value in sorted(row.items())]
            for row in db.objects(model).order_by("pk").values()
        ]
        for model in concrete_models()
    }


def fill():
    """Store rows of every table, with each kind of JSON value."""
    SOURCE.objects(Installation).all().delete()
    TARGET.objects(Installation).all().delete()
    for state in STATES:
        in_state(SOURCE, state, enqueued_at=AT, run_after=AT, args=VALUES, kwargs={"k": VALUES})
    jobs = [build(SOURCE) for _ in VALUES]
    SOURCE.objects(Job).bulk_create(jobs)
    [failed] = in_state(SOURCE, STATES[4], concurrency_key="ключ", discards_on_conflict=True)
    recurring = RecurringTask(
        key="k", backend="default", task_path="a.b", schedule="0 3 * * *", timezone="UTC",
        misfire="all", args=VALUES, kwargs={"k": VALUES}, queue_name="q", priority=1,
        is_static=True, next_run_at=AT,
    )  # fmt: skip
    rows = [
        *(
            FinishedExecution(
                job.id, "default", "q", 0, 1,
                worker_id=ME, started_at=AT, finished_at=AT, return_value=value,
            )
            for job, value in zip(jobs, VALUES, strict=True)
        ),
        Attempt(job=failed, number=1, worker_id=ME, started_at=AT, ended_at=AT, **vars(DIED)),
        Installation(deployment="d", backends=["default", "5"], recorded_at=AT),
        Pause(queue_name="mail", paused_at=AT),
        Process(
            id=ME, kind="worker", name="w", backend="", pid=1, hostname="h",
            metadata={"queues": ["*"]}, started_at=AT, last_heartbeat_at=AT,
        ),
        QueueMinute(
            backend="default", queue_name="q", minute=AT, process_id=ME, waiting_seconds=0.1
        ),
        recurring,
        RecurringRun(task=recurring, run_at=AT, job=failed),
        Semaphore(key="ключ", held=1, expires_at=LATER),
        Slot(job_id=failed.id, key="ключ"),
    ]  # fmt: skip
    for row in rows:
        SOURCE.objects(type(row)).bulk_create([row])


def test_each_row_of_each_table_comes_back_as_it_was(form, tmp_path):
    fill()
    before = rows_on(SOURCE)
    dump = dumped(form)
    if form == "xml":
        # Django strips the text of XML's elements; of ours a traceback alone ends in a line end.
        before["dj_queue.Attempt"] = [
            [(n, t, r.replace("\\n'", "'") if n == "traceback" else r) for n, t, r in row]
            for row in before["dj_queue.Attempt"]
        ]

    load(dump, form, tmp_path)

    assert all(before.values()), "a table without a row proves nothing"
    assert rows_on(TARGET) == before


def test_a_restored_job_runs(form, tmp_path):
    task = "tests.shop.tasks.echo"
    [job] = store(SOURCE, task_path=task, args=[[1, 2], "3"], kwargs={"b": {"c": None}})

    load(dumped(form, "dj_queue.job", "dj_queue.readyexecution"), form, tmp_path)
    [row] = claim(TARGET, ["*"], limit=1, process_id=ME, now=NOW)
    outcome = execute(TARGET, row, clock=lambda: LATER)
    finish(TARGET, [outcome])

    assert outcome.error is None
    [stored] = TARGET.objects(FinishedExecution).filter(job_id=job.id)
    assert stored.return_value == [[[1, 2], "3"], {"b": {"c": None}}]


def test_a_row_whose_text_is_no_json_is_dumped_and_restored(form, tmp_path):
    [job] = store(SOURCE)
    with SOURCE.cursor() as cursor:
        cursor.execute("UPDATE dj_queue_job SET args = 'no json', kwargs = %s", ["[" * 100_000])

    load(dumped(form, "dj_queue.job"), form, tmp_path)

    row = TARGET.objects(Job).get(pk=job.pk)
    assert (row.args, row.kwargs) == ("no json", "[" * 100_000)


def test_a_fixture_written_by_hand_has_json_or_its_text(tmp_path):
    [job] = [build(SOURCE)]
    fields = {
        "backend": "default", "queue_name": "q", "task_path": "a.b", "priority": 0,
        "enqueued_at": "2026-01-01T12:00:00Z", "args": [1, {"a": None}], "kwargs": '{"b":2}',
    }  # fmt: skip
    load(
        json.dumps([{"model": "dj_queue.job", "pk": str(job.pk), "fields": fields}]),
        "json",
        tmp_path,
    )

    row = TARGET.objects(Job).get(pk=job.pk)
    assert (row.args, row.kwargs) == ([1, {"a": None}], {"b": 2})


@pytest.mark.parametrize("text", ["5", "null", "[1]", "no json"])
def test_validation_leaves_text_that_looks_like_json_alone(text):
    row = FinishedExecution(return_value=text)

    row.clean_fields(exclude=[f.name for f in row._meta.fields if f.name != "return_value"])

    assert row.return_value == text
    assert type(row.return_value) is not UnreadableText
