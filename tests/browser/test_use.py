"""The dashboard in a real browser: pressed, sorted, searched, live, and without JavaScript."""

import pytest
from django.utils import timezone

from dj_queue.models import (
    FailedExecution,
    FinishedExecution,
    Pause,
    ReadyExecution,
    ScheduledExecution,
)
from dj_queue.routers import queue_database
from tests.browser.page import complaints, hears
from tests.browser.showcase import jobs

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def db():
    return queue_database("default")


@pytest.fixture
def quiet(site):
    """Give the browser; afterwards its console must not have complained of anything."""
    yield site
    assert complaints(site) == []


def put(db, state, count, queue="mail", **columns):
    return jobs(db, state, count, now=timezone.now(), queue_name=queue, **columns)


def names(site, table="queues"):
    return site.texts(f".dq-{table} tbody th a")


def test_the_backend_is_switched(quiet, db):
    put(db, ReadyExecution, 1)
    quiet.open(f"{quiet.root}default/")

    quiet.click('#dq-backend option[value="bulk"]')

    quiet.wait_for(lambda: quiet.url.endswith("/dashboard/bulk/"), "the switch")
    assert quiet.texts(".dq-queues .dq-empty") == ["no queues for this backend"]


def test_two_columns_are_sorted_by_and_pages_turned(quiet, db):
    for number in range(20):
        put(db, ReadyExecution, 1 + number % 2, queue=f"q{number:02}")
    quiet.open(f"{quiet.root}default/?processes_sort=1")

    quiet.click(".dq-queues thead a", "name")
    quiet.click(".dq-queues .sorted .toggle")
    quiet.click(".dq-queues thead a", "ready")
    quiet.click('nav[aria-label="Pages of queues"] a', "2")

    assert quiet.texts(".dq-queues .sortpriority") == ["2", "1"]
    assert names(quiet) == ["q03", "q01"]
    assert "processes_sort=1" in quiet.url


def test_a_queue_is_paused_and_resumed(quiet, db):
    put(db, ReadyExecution, 1)
    quiet.open(f"{quiet.root}default/?queues_sort=-1")

    quiet.click(".dq-queues button", "Pause")

    hears(quiet, "Paused queue mail on queue.")
    assert quiet.url.endswith("/default/?queues_sort=-1")
    assert db.objects(Pause).exists()
    quiet.click(".dq-queues button", "Resume")
    hears(quiet, "Resumed queue mail on queue.")
    assert not db.objects(Pause).exists()


def test_a_queue_is_cleared_after_a_question(quiet, db):
    put(db, ReadyExecution, 3)
    quiet.open(f"{quiet.root}default/")

    quiet.click(".dq-queues button", "Clear")
    quiet.click("button", "Yes, clear 3 jobs")

    hears(quiet, "Discarded 3 jobs of queue mail on queue.")
    assert not db.objects(ReadyExecution).exists()


def test_chosen_jobs_are_retried_and_discarded(quiet, db):
    first, second, *_ = reversed(put(db, FailedExecution, 3))
    quiet.open(f"{quiet.root}default/queues/mail/failed/")

    quiet.click(f'input[value="{first.pk}"]')
    quiet.click("button", "Retry")
    quiet.click(f'input[value="{second.pk}"]')
    quiet.click("button", "Discard")
    quiet.click("button", "Yes, discard 1 job")

    hears(quiet, "Discarded 1 job on queue.")
    assert [row.pk for row in db.objects(ReadyExecution)] == [first.pk]
    assert db.objects(FailedExecution).count() == 1


def test_all_on_the_page_are_chosen_at_once(quiet, db):
    put(db, FinishedExecution, 3)
    quiet.open(f"{quiet.root}default/queues/mail/finished/")

    quiet.click("[data-select-all]")
    quiet.click("button", "Enqueue again")

    hears(quiet, "Enqueued again 3 jobs on queue.")
    assert db.objects(ReadyExecution).count() == 3


def test_a_search_narrows_what_a_bulk_is_about(quiet, db):
    put(db, FailedExecution, 4)
    quiet.open(f"{quiet.root}default/queues/mail/failed/")

    quiet.type("input[name=text]", "customer2@")
    quiet.click("button", "Filter")
    quiet.click("button", "Retry all")
    quiet.click("button", "Yes, retry 1 job")

    hears(quiet, "Retried 1 job on queue.")
    assert db.objects(FailedExecution).count() == 3
    assert "text=customer2" in quiet.url


def test_a_job_tells_its_life_and_is_run_now(quiet, db):
    (job,) = put(db, ScheduledExecution, 1)
    quiet.open(f"{quiet.root}default/queues/mail/scheduled/")

    quiet.click(".dq-jobs tbody a")
    quiet.click("button", "Run now")

    hears(quiet, "Made ready 1 job on queue.")
    assert quiet.url.endswith(f"/default/jobs/{job.pk}/")
    assert [each.split()[-1] for each in quiet.texts(".dq-timeline b")] == ["enqueued", "ready"]


@pytest.mark.parametrize("name", ["..", "jobs/action", 'a "b" <i>', "ä/ö~%2F?#;", "x" * 64])
def test_a_queue_of_any_name_is_opened_and_paused(quiet, db, name):
    put(db, ReadyExecution, 1, queue=name)
    quiet.open(f"{quiet.root}default/")

    quiet.click(".dq-queues tbody th a")
    quiet.click(".dq-bar button", "Pause")

    hears(quiet, f"Paused queue {name} on queue.")
    assert quiet.texts("h1 .dq-given") == [name]
    assert [row.queue_name for row in db.objects(Pause)] == [name]


def test_a_refresh_keeps_what_was_chosen_opened_and_scrolled_to(quiet, db):
    mine, *_ = reversed(put(db, FailedExecution, 60))
    quiet.resize(1440, 500)
    quiet.open(f"{quiet.root}default/queues/mail/failed/?jobs_sort=-1")
    quiet.click(f'input[value="{mine.pk}"]')
    quiet.type("input[name=task]", "half")
    quiet.run("document.querySelector('.dq-tabs a:last-child').focus({preventScroll: true})")
    quiet.run("window.scrollTo(0, 240)")

    put(db, FailedExecution, 5)

    quiet.wait_for(lambda: "failed 65" in quiet.texts(".dq-tabs a"), "the refresh")
    assert quiet.run("return window.scrollY") == 240
    assert quiet.run("return [...document.querySelectorAll(':checked')].map(b => b.value)") == [
        str(mine.pk)
    ]
    assert quiet.run("return document.querySelector('input[name=task]').value") == "half"
    assert quiet.run("return document.activeElement.innerText") == "finished 0"
    assert quiet.url.endswith("?jobs_sort=-1")


def test_a_paused_page_stays_as_it_is(quiet, db):
    put(db, ReadyExecution, 1)
    quiet.open(f"{quiet.root}default/")
    quiet.click("button", "Live: pause")
    asked = "return performance.getEntriesByType('resource').length"
    before = quiet.run(asked)

    quiet.run_async("setTimeout(arguments[0], 6000)")

    assert quiet.run(asked) == before
    assert quiet.texts(".dq-live") == ["Go live"]
    quiet.click("button", "Go live")
    quiet.wait_for(lambda: quiet.run(asked) > before, "a refresh")


def test_without_javascript_everything_is_a_link_or_a_form(quiet, db):
    put(db, FailedExecution, 2)
    quiet.scripts(enabled=False)
    try:
        quiet.open(f"{quiet.root}alerts/")
        quiet.click('#dq-backend option[value="default"]')
        quiet.click("button", "Switch")
        quiet.click(".dq-card a", "2 failed")
        quiet.click("tbody input[name=job]")
        quiet.click("button", "Retry")
    finally:
        quiet.scripts(enabled=True)

    hears(quiet, "Retried 1 job on queue.")
    assert db.objects(ReadyExecution).count() == 1
