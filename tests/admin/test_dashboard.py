"""The dashboard's first page."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import override_settings

from dj_queue.operations.pauses import pause
from tests.jobs import EVERY, LATER, NOW, store

pytestmark = pytest.mark.django_db(**EVERY)


@pytest.fixture
def viewer(client):
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_dashboard"))
    client.force_login(user)
    return client


def page(client, backend):
    return client.get(f"/admin/dj_queue/dashboard/{backend}/")


def test_the_dashboard_leads_to_the_default_backend(viewer):
    response = viewer.get("/admin/dj_queue/dashboard/")

    assert (response.status_code, response.url) == (302, "/admin/dj_queue/dashboard/default/")


def test_a_page_counts_the_jobs_of_its_backend_only(viewer, db):
    store(db, count=2, queue_name="mail")
    store(db, queue_name="mail", run_after=LATER)
    pause(db, ["mail"], now=NOW)

    for name in ("default", "alerts", "bulk"):
        html = page(viewer, name).content.decode()
        own = name == db.backend
        assert ("<td>2</td>" in html, "<td>yes</td>" in html) == (own, own)
        assert ("Nothing is waiting" in html) == (not own)


def test_the_page_costs_a_constant_number_of_queries(viewer, db, django_assert_num_queries):
    for number in range(20):
        store(db, queue_name=f"q{number}")

    with django_assert_num_queries(5, using=db.alias):
        page(viewer, db.backend)


def test_an_unknown_backend_is_not_found(viewer):
    assert page(viewer, "nobody").status_code == 404


def test_staff_without_the_permission_is_refused(client):
    client.force_login(User.objects.create_user("clerk", is_staff=True))

    assert page(client, "default").status_code == 403
    assert "/admin/dj_queue/dashboard/" not in client.get("/admin/").content.decode()


def test_anonymous_is_sent_to_the_login(client):
    assert page(client, "default").status_code == 302


def test_a_database_that_cannot_be_read_is_said_on_the_page(viewer, settings):
    # The application's database has none of our tables.
    own = {**settings.TASKS["bulk"], "OPTIONS": {"database_alias": "queue"}}
    broken = {**own, "OPTIONS": {"database_alias": "default"}}
    with override_settings(TASKS={"bulk": broken, "default": own}):
        html = page(viewer, "bulk").content.decode()

    assert "Queue database default does not answer" in html
