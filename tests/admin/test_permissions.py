"""Every address of every backend for everybody: who sees it, who may press what."""

from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import resolve

from dj_queue.admin.permissions import JOB_ACTIONS, QUEUE_ACTIONS
from dj_queue.admin.raw_rows import BY_NAME
from dj_queue.models import STATES, FinishedExecution, ScheduledExecution
from dj_queue.models.ids import new_id
from dj_queue.routers import queue_database
from tests.admin.conftest import ACTIONS, RAW, ROOT, Page, overview_of, staff
from tests.jobs import EVERY, in_state, states, store

pytestmark = pytest.mark.django_db(**EVERY)

BACKENDS = ("default", "alerts", "bulk")
PAGES = [
    "",
    "stats.json",
    "jobs/",
    "jobs/?state=failed",
    "jobs/{job}/",
    *(f"queues/mail/{state.state}/" for state in STATES),
]
ROWS = [f"rows/{name}/" for name in RAW]
FORMS = ["act/queue/", "act/jobs/"]


def everybody(operator, viewer):
    return {
        "anonymous": Client(),
        "staff": staff("clerk"),
        "viewer": viewer,
        "operator": operator,
    }


def statuses(people, url):
    return {name: client.get(url).status_code for name, client in people.items()}


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_page_is_for_those_who_may_look(operator, viewer, backend):
    (job,) = in_state(queue_database(backend), STATES[0], queue_name="mail")
    people = everybody(operator, viewer)

    for page in PAGES:
        url = f"{ROOT}{backend}/{page.format(job=job.id)}"
        assert statuses(people, url) == {
            "anonymous": 302,
            "staff": 403,
            "viewer": 200,
            "operator": 200,
        }, url
    for page in ROWS:
        url = f"{ROOT}{backend}/{page}"
        assert statuses(people, url) == {
            "anonymous": 302,
            "staff": 403,
            "viewer": 403,
            "operator": 200,
        }, url
    for page in FORMS:
        url = f"{ROOT}{backend}/{page}"
        found = statuses(people, url)
        assert found == {"anonymous": 302, "staff": 403, "viewer": 405, "operator": 405}, url


def test_only_permissions_that_have_an_effect_exist():
    rows = Permission.objects.filter(content_type__app_label="dj_queue")

    assert sorted(rows.values_list("codename", flat=True)) == sorted(
        [
            "view_dashboard",
            *(each.permission for each in (*QUEUE_ACTIONS.values(), *JOB_ACTIONS.values())),
            *(f"view_{rows.model._meta.model_name}" for rows in BY_NAME.values()),
        ]
    )


def test_anonymous_is_led_to_the_login():
    for page in ("", "default/", "default/act/queue/"):
        response = Client().post(ROOT + page)
        assert response.url.startswith("/admin/login/"), page


def test_no_address_is_left_out_above():
    from dj_queue.admin.dashboard import DashboardAdmin

    known = {"dj_queue_dashboard_changelist"}
    for page in (*PAGES, *ROWS, *FORMS):
        path = urlsplit(f"{ROOT}default/{page.format(job=new_id())}").path
        known.add(resolve(path).url_name)

    from django.contrib import admin

    from dj_queue.models import Dashboard

    patterns = DashboardAdmin(Dashboard, admin.site).get_urls()
    assert {pattern.name for pattern in patterns} == known


@pytest.mark.parametrize("backend", ["nobody", "Default", "default~2F", "..", "~", "%2e%2e"])
def test_an_unknown_backend_is_not_found(operator, backend):
    for page in (*PAGES, *ROWS):
        url = f"{ROOT}{backend}/{page.format(job=new_id())}"
        assert operator.get(url).status_code == 404, url
    for page in FORMS:
        assert operator.post(f"{ROOT}{backend}/{page}", {"action": "pause"}).status_code == 404


@pytest.mark.parametrize(
    "page",
    ["jobs/7/", "jobs/x/", "jobs/{job}/", "queues/mail/running/", "rows/user/", "queues/mail/"],
)
def test_what_is_not_there_is_not_found(operator, page):
    assert operator.get(f"{ROOT}default/{page.format(job=new_id())}").status_code == 404


def test_a_job_is_only_shown_by_its_own_backend(operator):
    (job,) = store(queue_database("default"))

    found = {name: operator.get(f"{ROOT}{name}/jobs/{job.id}/").status_code for name in BACKENDS}

    assert found == {"default": 200, "alerts": 404, "bulk": 404}


def test_pages_are_not_posted_to(operator):
    for page in PAGES:
        url = f"{ROOT}default/{page.format(job=new_id())}"
        assert operator.post(url).status_code == 405, url


def test_a_form_without_its_token_is_refused():
    client = Client(enforce_csrf_checks=True)
    client.cookies = staff("operator", "view_dashboard", *ACTIONS.values()).cookies
    (job,) = in_state(queue_database("default"), STATES[4])

    for place, fields in {
        "queue": {"action": "pause", "queue": "default"},
        "jobs": {"action": "retry", "state": "failed", "job": str(job.id)},
    }.items():
        assert client.post(f"{ROOT}default/act/{place}/", fields).status_code == 403
    assert states(queue_database("default")) == {job.id: ["failed"]}


# For each action: the page that has its button, the button's text, and what the button sends.
PLACES = {
    "pause": ("", "Pause", "queue", {"queue": "mail"}),
    "resume": ("", "Resume", "queue", {"queue": "paused"}),
    "clear": ("", "Clear", "queue", {"queue": "mail"}),
    "retry": ("queues/mail/failed/", "Retry", "jobs", {"state": "failed"}),
    "discard": ("queues/mail/failed/", "Discard", "jobs", {"state": "failed"}),
    "run_now": ("queues/mail/scheduled/", "Run now", "jobs", {"state": "scheduled"}),
    "again": ("queues/mail/finished/", "Enqueue again", "jobs", {"state": "finished"}),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("backend", ["default", "bulk"])
def test_each_button_needs_its_own_permission(backend, action):
    from dj_queue.operations.pauses import pause
    from tests.jobs import NOW

    db = queue_database(backend)
    for state in STATES:
        in_state(db, state, queue_name="mail")
    store(db, queue_name="paused")
    pause(db, ["paused"], now=NOW)
    page, label, place, fields = PLACES[action]
    others = [codename for name, codename in ACTIONS.items() if name != action]
    may = staff("may", "view_dashboard", ACTIONS[action])
    may_not = staff("may-not", "view_dashboard", *others)
    before = states(db)

    shown = {
        name: Page(client.get(f"{ROOT}{backend}/{page}").content.decode()).buttons
        for name, client in (("may", may), ("may not", may_not))
    }
    url = f"{ROOT}{backend}/act/{place}/"
    refused = may_not.post(url, {"action": action, "confirm": "yes", **fields})

    assert label in shown["may"]
    assert label not in shown["may not"]
    assert refused.status_code == 403
    assert states(db) == before
    assert may.post(url, {"action": action, **fields}).status_code in (200, 302)


def test_a_viewer_sees_no_button_that_acts(viewer):
    db = queue_database("default")
    for state in STATES:
        in_state(db, state, queue_name="mail")
    pages = ["", "jobs/?state=failed", *(f"queues/mail/{state.state}/" for state in STATES)]
    for state in (FinishedExecution, ScheduledExecution):
        pages += [f"jobs/{job.id}/" for job in in_state(db, state)]

    for page in pages:
        shown = Page(viewer.get(f"{ROOT}default/{page}").content.decode())
        assert set(shown.buttons) <= {"Log out", "Switch", "Filter"}, page
        assert not any("/act/" in form["action"] for form in shown.forms), page
        assert 'name="job"' not in shown.html, page


def test_raw_rows_are_linked_for_those_who_may_see_them(viewer):
    some = staff("some", "view_dashboard", "view_job", "view_semaphore")

    links = {
        client: [link for link in overview_of(client, "bulk").links if "/rows/" in link]
        for client in (viewer, some)
    }

    assert links == {
        viewer: [],
        some: [f"{ROOT}bulk/rows/jobs/", f"{ROOT}bulk/rows/semaphores/"],
    }


def test_the_index_links_the_dashboard_and_no_table_of_ours(operator):
    html = operator.get("/admin/").content.decode()

    assert ROOT in html
    assert "/admin/dj_queue/job" not in html
    assert ROOT not in staff("clerk").get("/admin/").content.decode()
