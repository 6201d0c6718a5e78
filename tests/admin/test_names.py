"""Queues and backends of any name have an address that leads to them and no other."""

from urllib.parse import unquote

import pytest
from django.test import override_settings
from django.urls import resolve
from hypothesis import given
from hypothesis import strategies as st

from dj_queue.admin.links import Links
from dj_queue.admin.names import NameConverter
from dj_queue.models import FailedExecution, Pause
from dj_queue.parsers import is_queue_name
from dj_queue.routers import queue_database
from tests.admin.conftest import ROOT, Page
from tests.jobs import EVERY, in_state

NAMES = [
    "jobs/action",
    "act",
    "..",
    ".",
    "...",
    ".hidden",
    "~",
    "~2F",
    "%2F",
    "a b",
    "a//b",
    "\\windows\\",
    "?x=1#y",
    ";&=+$,:@",
    "<script>alert('x')</script>",
    'say "hi"',
    "new\nline",
    "tab\tbed",
    "größe/日本/🐘",
    "x" * 64,
    "é" * 64,
]
links = Links("admin", "default")


@pytest.mark.django_db(**EVERY)
@pytest.mark.parametrize("name", NAMES)
def test_a_queue_is_opened_and_acted_on_by_its_name(operator, db, name):
    assert is_queue_name(name)
    in_state(db, FailedExecution, queue_name=name)
    own = Links("admin", db.backend)

    overview = Page(operator.get(own.overview()).content.decode())
    page = operator.get(own.queue(name, "failed"))
    operator.post(own.to("queue_action"), {"action": "pause", "queue": name})

    assert own.queue(name, "failed") in overview.links
    assert page.status_code == 200
    assert page.context["queue"] == name
    assert "no failed jobs" not in page.content.decode()
    assert "<script>alert" not in page.content.decode()
    assert [row.queue_name for row in db.objects(Pause)] == [name]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64))
def test_an_address_leads_back_to_its_name(name):
    url = links.queue(name)
    path = url.removeprefix(f"{ROOT}default/queues/").removesuffix("/ready/")

    assert "/" not in path
    assert path not in (".", "..")
    assert resolve(unquote(url)).kwargs == {
        "backend": "default",
        "queue": name,
        "state": "ready",
    }


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9))
def test_a_name_has_one_address_only(text):
    converter = NameConverter()
    try:
        name = converter.to_python(text)
    except ValueError:
        return
    assert converter.to_url(name) == text


@pytest.mark.django_db(**EVERY)
def test_backends_of_any_name_have_pages(operator, settings):
    own = settings.TASKS["default"]
    named = dict.fromkeys(("a/b", "..", 'x"y', "ä ö"), own)
    with override_settings(TASKS={**settings.TASKS, **named}):
        for name in named:
            in_state(queue_database(name), FailedExecution, queue_name="mail")
            address = Links("admin", name)
            page = operator.get(address.overview())
            assert page.status_code == 200
            assert address.queue("mail", "failed") in Page(page.content.decode()).links
            assert operator.get(address.queue("mail", "failed")).context["db"].backend == name
        switched = operator.get(ROOT, {"backend": "a/b"})
        assert switched.url == f"{ROOT}a~2Fb/"


@pytest.mark.django_db(**EVERY)
@pytest.mark.parametrize("text", ["%00", "%ED%A0%80"])
def test_what_no_database_keeps_finds_nothing_and_breaks_nothing(operator, db, text):
    jobs = f"{ROOT}{db.backend}/jobs/"

    for name in ("text", "task", "queue", "state", "since"):
        assert operator.get(f"{jobs}?{name}={text}").status_code == 200
    assert operator.get(f"{ROOT}?backend={text}").status_code == 404
    assert operator.get(f"{ROOT}{db.backend}/queues/a~00/ready/").status_code == 404
