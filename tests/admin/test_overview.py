"""A backend's page: what it lists, what it counts, and what that costs."""

import json
from datetime import timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from dj_queue.admin.formats import moment
from dj_queue.compat import BaseTaskBackend
from dj_queue.models import (
    STATES,
    BlockedExecution,
    FailedExecution,
    FinishedExecution,
    Process,
    RecurringTask,
    ScheduledExecution,
    Semaphore,
    Slot,
)
from dj_queue.models.ids import new_id
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.pauses import pause
from dj_queue.routers import QueueDatabase, queue_database
from tests.admin.conftest import ROOT, overview_of
from tests.jobs import EVERY, LATER, NOW, build, in_state, store

pytestmark = pytest.mark.django_db(**EVERY)


def recurring(db, key="nightly", queue_name="night", **columns):
    defaults = {
        "backend": db.backend,
        "task_path": "tests.shop.tasks.add",
        "schedule": "0 3 * * *",
        "timezone": "UTC",
        "misfire": "latest",
        "args": [],
        "kwargs": {},
        "priority": 0,
        "is_static": True,
    }
    row = RecurringTask(key=key, queue_name=queue_name, **defaults | columns)
    db.objects(RecurringTask).bulk_create([row])


def process(db, name, kind="worker", *, age=0, supervisor=None, queues=("*",), **columns):
    at = timezone.now() - timedelta(seconds=age)
    defaults = {
        "backend": "" if kind == "supervisor" else db.backend,
        "pid": 4711,
        "hostname": "node-1",
        "supervisor_id": supervisor,
        "metadata": {"queues": list(queues)} if kind == "worker" else {},
        "started_at": at,
        "last_heartbeat_at": at,
    }
    row = Process(id=new_id(), name=name, kind=kind, **defaults | columns)
    db.objects(Process).bulk_create([row])
    return row.id


def test_the_dashboard_leads_to_the_default_backend(viewer):
    response = viewer.get(ROOT)

    assert (response.status_code, response.url) == (302, f"{ROOT}default/")


def test_the_switcher_leads_to_the_backend_chosen(viewer):
    assert viewer.get(ROOT, {"backend": "bulk"}).url == f"{ROOT}bulk/"
    assert viewer.get(ROOT, {"backend": "nobody"}).status_code == 404
    html = overview_of(viewer, "bulk").html
    assert [name in html for name in ('value="default"', 'value="bulk" selected')] == [True, True]


def test_other_backends_of_the_project_are_not_listed(viewer, settings):
    dummy = f"{BaseTaskBackend.__module__.removesuffix('base')}dummy.DummyBackend"
    settings.TASKS = {**settings.TASKS, "elsewhere": {"BACKEND": dummy}}

    assert "elsewhere" not in overview_of(viewer, "default").html
    assert viewer.get(f"{ROOT}elsewhere/").status_code == 404


def test_the_page_has_its_headings_and_empty_texts(viewer):
    page = overview_of(viewer, "bulk")

    for text in ("operator view", "dj_queue dashboard", "inspect raw rows")[:2]:
        assert text in page.html
    assert page.rows("queues") == [
        [
            "name",
            "ready",
            "claimed",
            "scheduled",
            "blocked",
            "failed",
            "finished",
            "paused",
            "latency",
            "workers",
            "oldest scheduled",
            "blocked until",
            "Controls",
        ],
        ["no queues for this backend"],
    ]
    assert page.rows("processes")[0] == [
        "name",
        "kind",
        "state",
        "last heartbeat",
        "hostname",
        "pid",
    ]
    assert page.rows("processes")[1:] == [["no registered processes"]]
    assert page.rows("recurring tasks") == [
        ["key", "task", "queue", "schedule", "type", "last run", "next run"],
        ["none configured"],
    ]
    assert page.rows("semaphores") == [
        ["key", "available", "limit", "blocked waiters", "expires at"],
        ["none active"],
    ]
    assert "shared queues" not in page.tables
    assert page.column("backends", "database") == {
        "default": "queue",
        "alerts": "queue",
        "bulk this page": "bulk",
    }


def test_jobs_are_counted_by_state_with_links_to_them(viewer, db):
    for count, state in enumerate(STATES, 1):
        in_state(db, state, count=count, queue_name="mail")

    page = overview_of(viewer, db.backend)

    for count, state in enumerate(STATES, 1):
        assert page.column("queues", state.state) == {"mail": str(count)}
        assert f"{ROOT}{db.backend}/queues/mail/{state.state}/" in page.links
    assert f"{ROOT}{db.backend}/jobs/?state=failed" in page.links


def test_times_and_latency_are_those_of_the_queue(viewer, db):
    now = timezone.now()
    enqueue(
        db,
        [
            build(db, queue_name="fast", enqueued_at=now - timedelta(seconds=4)),
            build(db, queue_name="slow", enqueued_at=now - timedelta(minutes=73, seconds=30)),
            # It waits since it was due, not since it was enqueued.
            build(
                db,
                queue_name="due",
                enqueued_at=now - timedelta(days=2),
                run_after=now - timedelta(seconds=9),
            ),
        ],
        now=now,
    )
    in_state(db, ScheduledExecution, queue_name="later")
    in_state(db, BlockedExecution, queue_name="held")

    page = overview_of(viewer, db.backend)

    latency = page.column("queues", "latency")
    assert latency["fast"][:2] in ("4.", "5.", "6.")
    assert latency["slow"] == "1 h 13 min"
    assert latency["due"].endswith(" s")
    assert float(latency["due"].removesuffix(" s")) < 20
    assert latency["later"] == latency["held"] == "-"
    assert page.column("queues", "oldest scheduled")["later"] == moment(LATER)
    assert page.column("queues", "blocked until") == {
        "due": "-",
        "fast": "-",
        "held": moment(LATER),
        "later": "-",
        "slow": "-",
    }


def test_finished_jobs_are_counted_up_to_a_cap(viewer, db, monkeypatch):
    monkeypatch.setattr("dj_queue.observability.queues.FINISHED_CAP", 3)
    in_state(db, FinishedExecution, count=3, queue_name="just")
    in_state(db, FinishedExecution, count=4, queue_name="many")

    page = overview_of(viewer, db.backend)

    assert page.column("queues", "finished") == {"just": "3", "many": "3+"}


PLACES = [
    (own, sibling, is_paused, is_recurring)
    for own in (None, *STATES)
    for sibling in (False, True)
    for is_paused in (False, True)
    for is_recurring in (False, True)
]


def test_queues_are_listed_where_they_belong(viewer):
    """Every combination of a job of this backend, one of a sibling, a pause, a recurring task."""
    db, sibling, elsewhere = map(queue_database, ("default", "alerts", "bulk"))
    for number, (own, of_sibling, is_paused, is_recurring) in enumerate(PLACES):
        name = f"q{number:02}"
        if own:
            in_state(db, own, queue_name=name)
        if of_sibling:
            in_state(sibling, FailedExecution, count=2, queue_name=name)
        if is_paused:
            pause(db, [name], now=NOW)
        if is_recurring:
            recurring(sibling, key=name, queue_name=name)
        in_state(elsewhere, FailedExecution, count=3, queue_name=name)

    stats = json.loads(viewer.get(f"{ROOT}default/stats.json").content)

    queues = {each["name"]: each for each in stats["queues"]}
    shared = {each["name"]: each for each in stats["shared"]}
    for number, (own, _, is_paused, is_recurring) in enumerate(PLACES):
        name = f"q{number:02}"
        sources = ["pause"] * is_paused + ["recurring task"] * is_recurring
        assert (name in queues) == bool(own), name
        assert (name in shared) == (not own and bool(sources)), name
        if own:
            assert queues[name]["is_paused"] == is_paused
            counts = {each.state: queues[name][each.state]["value"] for each in STATES}
            assert counts == {each.state: int(each is own) for each in STATES}
        elif sources:
            assert (shared[name]["sources"], shared[name]["is_paused"]) == (sources, is_paused)


def test_shared_queues_say_why_they_are_there_and_whom_they_concern(operator):
    db = queue_database("default")
    recurring(db, queue_name="night")
    pause(db, ["night", "other"], now=NOW)
    in_state(queue_database("alerts"), FailedExecution, queue_name="other")

    page, sibling = overview_of(operator, "default"), overview_of(operator, "alerts")

    assert page.rows("shared queues") == [
        ["name", "shared via", "paused", "Controls"],
        ["night", "pause recurring task", "yes", "Resume concerns default and alerts"],
        ["other", "pause", "yes", "Resume concerns default and alerts"],
    ]
    assert [row[0] for row in sibling.rows("shared queues")] == ["name", "night"]
    assert "below</a>" in page.html
    assert "shared queues" not in overview_of(operator, "bulk").tables


def test_processes_stand_under_their_supervisor(viewer, db):
    lost = process(db, "lost", "supervisor", age=4000)
    boss = process(db, "boss", "supervisor")
    for kind in ("scheduler", "dispatcher", "worker"):
        process(db, f"a-{kind}", kind, supervisor=boss)
        process(db, f"z-{kind}", kind, supervisor=lost, age=4000)
    process(db, "orphan", supervisor=new_id(), age=70)

    page = overview_of(viewer, db.backend)

    assert [row[0] for row in page.rows("processes")[1:]] == [
        "boss",
        "a-worker under boss",
        "a-dispatcher under boss",
        "a-scheduler under boss",
        "lost",
        "z-worker under lost",
        "z-dispatcher under lost",
        "z-scheduler under lost",
        "orphan",
    ]
    states = page.column("processes", "state")
    assert (states["boss"], states["lost"], states["orphan"]) == ("live", "stale", "live")
    beats = page.column("processes", "last heartbeat")
    assert beats["boss"].endswith("s ago)")
    assert beats["lost"].endswith("(1 h 6 min ago)")
    assert beats["orphan"].endswith("(1 min 10 s ago)") or "1 min 1" in beats["orphan"]
    assert "4 processes have gone silent on node-1" in page.html


def test_workers_are_those_of_the_backend_that_serve_the_queue(viewer, db):
    store(db, queue_name="mail.high")
    store(db, queue_name="post")
    process(db, "all")
    process(db, "prefix", queues=["mail.*"])
    process(db, "exact", queues=["nothing", "mail.high"])
    process(db, "stale", age=4000)
    process(db, "foreign", backend="somebody")
    process(db, "dispatcher", "dispatcher", metadata={"queues": ["*"]})

    page = overview_of(viewer, db.backend)

    assert page.column("queues", "workers") == {"mail.high": "3", "post": "1"}


def test_recurring_tasks_are_those_of_the_database(viewer):
    db = queue_database("alerts")
    recurring(db, next_run_at=LATER, last_run_at=NOW)
    recurring(db, key="often", is_static=False, is_enabled=False, schedule="* * * * *")

    for backend in ("default", "alerts"):
        page = overview_of(viewer, backend)
        assert page.column("recurring tasks", "type") == {
            "nightly": "static",
            "often switched off": "dynamic",
        }
        assert page.column("recurring tasks", "last run")["nightly"] == moment(NOW)
        assert page.column("recurring tasks", "next run")["nightly"] == moment(LATER)
    assert page.rows("recurring tasks")[1][1] == "tests.shop.tasks.add"
    assert overview_of(viewer, "bulk").rows("recurring tasks")[1:] == [["none configured"]]


def test_semaphores_show_what_is_free_and_who_waits(viewer):
    db = queue_database("default")
    limits = {"concurrency_limit": 3, "concurrency_seconds": 60}
    for key, held in (("blocked", 1), ("running", 2), ("unknown", 1), ("free", 0)):
        row = Semaphore(key=key, held=held, expires_at=LATER)
        db.objects(Semaphore).bulk_create([row])
    in_state(queue_database("alerts"), BlockedExecution, count=2)
    db.objects(BlockedExecution).update(concurrency_key="blocked")
    (holder,) = in_state(db, STATES[3], concurrency_key="running", **limits)
    db.objects(Slot).bulk_create([Slot(holder.id, "running")])

    for backend in ("default", "alerts"):
        assert overview_of(viewer, backend).rows("semaphores")[1:] == [
            ["blocked", "0", "1", "2", moment(LATER)],
            ["running", "1", "3", "0", moment(LATER)],
            ["unknown", "-", "-", "0", moment(LATER)],
        ]
    assert overview_of(viewer, "bulk").rows("semaphores")[1:] == [["none active"]]


def test_trouble_is_named_first(viewer, db):
    in_state(db, FailedExecution, count=30, queue_name="mail")
    store(db, 2, queue_name="post")
    pause(db, ["post"], now=NOW)
    store(db, queue_name="nobody")
    process(db, "worker", queues=["mail"])

    html = overview_of(viewer, db.backend).html

    problems = html.partition('id="problems"')[2].partition("</div>")[0]
    for text in ("<b>mail</b> 30 failed", "paused with 2 ready", "1 ready and no worker"):
        assert text in problems


def test_all_is_well_is_said_as_well(viewer, db):
    in_state(db, FinishedExecution)
    process(db, "worker")

    assert "All is well" in overview_of(viewer, db.backend).html


def queries(client, url, alias):
    client.get(url)  # Sessions and users are not what is counted.
    with CaptureQueriesContext(connections[alias]) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


@pytest.mark.parametrize("page", ["", "stats.json", "jobs/?state=ready", "queues/q000/ready/"])
def test_a_page_costs_the_same_however_many_queues_there_are(operator, db, page):
    def fill(first, last):
        for state in STATES:
            with db.atomic():
                for number in range(first, last):
                    in_state(db, state, queue_name=f"q{number:03}")
        pause(db, [f"p{number}" for number in range(first, last)], now=NOW)

    url = f"{ROOT}{db.backend}/{page}"
    fill(0, 3)
    few = queries(operator, url, db.alias)
    fill(3, 300)
    many = queries(operator, url, db.alias)

    assert few == many <= 20


def test_a_table_sorts_and_pages_apart_from_the_others(viewer, db):
    for number in range(20):
        store(db, 1 + number % 2, queue_name=f"q{number:02}")
    process(db, "one")
    process(db, "two")

    page = overview_of(viewer, db.backend, "?queues_sort=-2.1&queues_page=2&processes_sort=-1")

    assert [row[0] for row in page.rows("queues")[1:]] == ["q16", "q18"]
    assert [row[0] for row in page.rows("processes")[1:]] == ["two", "one"]
    assert "20 results" in page.html
    assert "Sorting priority: 2" in page.html
    kept = [link for link in page.links if "processes_sort=-1" in link and link.startswith("?")]
    assert any("queues_sort=-2.1" in link and "queues_page=1" in link for link in kept)
    assert any("queues_sort=2.1" in link and "queues_page" not in link for link in kept)


def test_what_makes_no_sense_in_the_query_is_ignored(viewer, db):
    store(db)

    query = "?queues_sort=x.-.99.13.0.²&queues_page=-7&semaphores_page=x&processes_sort=1.1"

    assert overview_of(viewer, db.backend, query).column("queues", "ready") == {"default": "1"}


def test_facts_tell_how_the_backend_is_set_up(viewer, db, settings):
    options = {**settings.TASKS[db.backend]["OPTIONS"], "use_skip_locked": False}
    settings.TASKS = {
        **settings.TASKS,
        db.backend: {**settings.TASKS[db.backend], "OPTIONS": options},
    }

    facts = json.loads(viewer.get(f"{ROOT}{db.backend}/stats.json").content)["facts"]

    assert facts["queue db"] == db.alias
    assert facts["guarantee"] == "immediate"
    is_sqlite = facts["vendor"].startswith("SQLite")
    assert facts["skip locked"] == ("unsupported" if is_sqlite else "off")
    is_postgresql = facts["vendor"].startswith("PostgreSQL")
    assert facts["notify"] == ("on" if is_postgresql else "unsupported")


def test_a_backend_without_siblings_says_nothing_of_them(operator):
    store(QueueDatabase(alias="bulk", backend="bulk"), queue_name="mail")

    html = overview_of(operator, "bulk").html

    assert "A pause or resume concerns" not in html
    assert "Pause mail for bulk" in html
