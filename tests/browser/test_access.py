"""Strict CSP, screen readers and contrast: every page, by what a browser and axe find."""

import pytest
from django.utils import timezone

from dj_queue.models import ClaimedExecution, FailedExecution, FinishedExecution, ReadyExecution
from dj_queue.operations.pauses import pause
from dj_queue.routers import queue_database
from tests.browser.page import complaints, serious

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

ROWS = ("jobs", "failed", "pauses", "processes", "recurring", "semaphores")


def addresses():
    db = queue_database("default")
    pages = ["default/", "bulk/", "default/jobs/", "default/jobs/?state=failed&text=order"]
    for state in ("ready", "claimed", "scheduled", "blocked", "failed", "finished"):
        pages.append(f"default/queues/mail/{state}/")
    for state in (ReadyExecution, ClaimedExecution, FailedExecution, FinishedExecution):
        pages.append(f"default/jobs/{db.objects(state).first().pk}/")
    return [*pages, *(f"default/rows/{name}/" for name in ROWS)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_finding(site, showcase, scheme):
    site.prefer(scheme)
    found = {}
    for page in addresses():
        site.open(site.root + page)
        found[page] = serious(site)

    assert {page: problems for page, problems in found.items() if problems} == {}


def test_a_narrow_page_and_a_question_have_none_either(site, showcase):
    site.resize(400, 800)
    site.open(f"{site.root}default/?queues_sort=-2.1")
    narrow = serious(site)
    site.click(".dq-queues button", "Clear")
    site.wait_for(lambda: "clear" in " ".join(site.texts("button")), "the question")

    assert narrow == []
    assert serious(site) == []


def test_no_page_breaks_the_strictest_policy(site, showcase):
    pause(queue_database("default"), ["mail"], now=timezone.now())
    for page in addresses():
        site.open(site.root + page)
        styled = "return getComputedStyle(document.querySelector('#content')).paddingLeft"
        assert site.run(styled) == "24px", page

    assert complaints(site) == []
