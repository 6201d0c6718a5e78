"""The demo in a real browser: its own server, database files and workers, all real processes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import django
import pytest

from tests.browser.page import complaints, hears, serious
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent
MANAGE = ROOT / "examples" / "demo" / "manage.py"
BROKEN, GOOD, LARGE = 120, 3, 2
"""How many files of each kind: the small ones are of backend alerts, the large ones of bulk."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demo on a small source tree; give where it serves, its login and its source."""
    directory = tmp_path_factory.mktemp("demo")
    source = directory / "source"
    source.mkdir()
    for number in range(BROKEN):
        (source / f"broken{number:03}.py").write_text("def broken(:\n")
    for number in range(GOOD):
        (source / f"good{number}.py").write_text("# filler\n" * 400)
    for number in range(LARGE):
        (source / f"large{number}.py").write_text("# filler\n" * 6_000)
    log = directory / "log"
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DJ_QUEUE_DEMO_VAR": str(directory / "var"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(MANAGE), "demo", "--source", str(source)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        until(lambda: "Ctrl-C" in log.read_text() or process.poll() is not None)
        found = re.findall(r"^(The admin|Password): +(\S+)$", log.read_text(), re.MULTILINE)
        assert len(found) == 2, log.read_text()
        address, password = (value for _, value in found)
        yield SimpleNamespace(address=address, password=password, source=source)
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=60)
    assert status == 0, log.read_text()


@pytest.fixture
def site(chrome, demo):
    """Give a browser whose user has logged in; its console must not have complained."""
    chrome.resize(1440, 900)
    chrome.prefer("light")
    chrome.open(demo.address)
    if "/login/" in chrome.url:
        chrome.type("#id_username", "demo")
        chrome.type("#id_password", demo.password)
        chrome.click("input[type=submit]")
        chrome.wait_for(lambda: chrome.url == demo.address, "the login")
    chrome.complaints()
    chrome.root = f"{demo.address}dj_queue/dashboard/"
    yield chrome
    assert complaints(chrome) == []
    chrome.open("about:blank")


def tab(site, state):
    """Give the count of a state that the page of a queue shows."""
    (text,) = [each for each in site.texts(".dq-tabs a") if each.startswith(state)]
    return int(text.removeprefix(state))


def test_the_backend_is_switched_and_tells_what_is_wrong(site):
    site.open(site.root)
    assert site.texts("#problems strong") == ["All is well"]
    assert "stale" not in site.texts(".dq-processes td")

    site.click('#dq-backend option[value="alerts"]')
    site.wait_for(lambda: site.url.endswith("/dashboard/alerts/"), "the switch")

    assert site.texts("#problems li") == [f"default {BROKEN} failed"]
    assert site.texts(".dq-backends tbody th a") == ["default", "alerts", "bulk"]
    assert serious(site) == []


def test_the_strictest_policy_is_in_force(site):
    if django.VERSION < (6, 0):
        pytest.skip("needs a Content-Security-Policy middleware: Django 6 has one")
    script = """
    const done = arguments[arguments.length - 1];
    fetch(location.href).then(page => done(page.headers.get('Content-Security-Policy')));
    """
    assert "default-src 'none'" in site.run_async(script)


def test_a_failed_job_is_found_retried_and_run_by_a_worker(site, demo):
    (demo.source / "broken007.py").write_text("MENDED = True\n")
    site.open(f"{site.root}alerts/queues/default/failed/")

    site.type("input[name=text]", "broken007")
    site.click("button", "Filter")
    site.wait_for(lambda: "text=broken007" in site.url, "the search")
    site.click("tbody input[name=job]")
    site.click("button", "Retry")
    hears(site, "Retried 1 job on queue.")

    site.open(f"{site.root}alerts/queues/default/finished/?text=broken007")
    # The page sees it by itself, as soon as a worker has run it.
    site.wait_for(lambda: len(site.texts(".dq-jobs tbody .dq-id a")) == 1, "the job's end")
    site.click(".dq-jobs tbody .dq-id a")
    site.wait_for(lambda: site.texts(".dq-timeline b"), "the job's page")
    assert [each.split()[-1] for each in site.texts(".dq-timeline b")] == [
        "enqueued",
        "failed",
        "started",
        "finished",
    ]


def test_a_paused_queue_waits_until_it_is_resumed(site):
    site.open(f"{site.root}bulk/queues/default/finished/")
    before = tab(site, "finished")

    site.click(".dq-bar button", "Pause")
    hears(site, "Paused queue default on bulk_queue.")
    site.click("[data-select-all]")
    site.click("button", "Enqueue again")
    hears(site, f"Enqueued again {before} jobs on bulk_queue.")
    site.click(".dq-tabs a", f"ready {before}")
    site.wait_for(lambda: site.url.endswith("/ready/"), "the tab")
    site.click("tbody input[name=job]")
    site.click("button", "Discard")
    site.click("button", "Yes, discard 1 job")
    hears(site, "Discarded 1 job on bulk_queue.")
    assert (tab(site, "ready"), tab(site, "finished")) == (before - 1, before)
    site.click(".dq-bar button", "Resume")
    hears(site, "Resumed queue default on bulk_queue.")

    ended = 2 * before - 1
    site.wait_for(lambda: (tab(site, "ready"), tab(site, "finished")) == (0, ended), "their end")


def test_a_paused_queue_is_cleared(site):
    site.open(f"{site.root}default/queues/default/finished/")
    site.click(".dq-bar button", "Pause")
    hears(site, "Paused queue default on queue.")
    site.click("[data-select-all]")
    site.click("button", "Enqueue again")
    hears(site, f"Enqueued again {GOOD} jobs on queue.")

    site.open(f"{site.root}default/")
    site.click(".dq-queues button", "Clear")
    site.click("button", f"Yes, clear {GOOD} jobs")

    hears(site, f"Discarded {GOOD} jobs of queue default on queue.")
    site.click(".dq-queues button", "Resume")
    hears(site, "Resumed queue default on queue.")


def test_jobs_are_sorted_paged_and_acted_on_over_a_filter(site):
    site.open(f"{site.root}alerts/queues/default/failed/")
    site.click(".dq-jobs thead a", "failed")
    site.wait_for(lambda: "jobs_sort=5" in site.url, "the sort")
    site.click(".dq-jobs thead a", "priority")
    site.wait_for(lambda: site.texts(".dq-jobs .sortpriority") == ["2", "1"], "both sorts")
    site.click('nav[aria-label="Pages of jobs"] a', "2")
    site.wait_for(lambda: "jobs_page=2" in site.url, "the page")
    assert 0 < len(site.texts(".dq-jobs tbody .dq-id")) <= BROKEN - 100

    site.type("input[name=text]", "broken05")
    site.click("button", "Filter")
    site.wait_for(lambda: "text=broken05" in site.url, "the filter")
    site.click("button", "Retry all")
    site.click("button", "Yes, retry 10 jobs")
    hears(site, "Retried 10 jobs on queue.")

    # They fail once more: their files are as they were.
    site.wait_for(lambda: tab(site, "failed") >= BROKEN - 1, "their second failure")


def test_a_refresh_keeps_the_selection_and_the_place(site):
    site.resize(1440, 500)
    site.open(f"{site.root}alerts/queues/default/failed/")
    site.click("tbody input[name=job]")
    chosen = "return [...document.querySelectorAll('tbody :checked')].map(box => box.value)"
    mine = site.run(chosen)
    site.run("window.scrollTo(0, 240)")
    site.run("document.querySelector('[data-live]').firstElementChild.dataset.old = 'yes'")

    site.wait_for(lambda: not site.texts("[data-old]"), "a refresh")

    assert (site.run(chosen), site.run("return window.scrollY")) == (mine, 240)
    assert len(mine) == 1
