"""The page of public names, and what the first page of the documentation says of features."""

import re
from inspect import signature
from typing import get_overloads

import django
import pytest

from dj_queue.models import STATES
from dj_queue.tasks import task
from tests import api
from tests.test_docs import EVERYTHING, PAGES, section

INDEX = "docs/index.md"


@pytest.mark.skipif(django.VERSION < (6, 1), reason="needs the signatures of the newest Django")
def test_the_page_is_that_of_the_code():
    assert api.PAGE.read_text(encoding="utf-8") == api.page(), "run `python -m tests.api`"


def test_pages_import_public_names_only():
    found = re.findall(r"^from (dj_queue[\w.]*) import (.+)$", EVERYTHING, re.MULTILINE)
    # Django's own names, wherever a version has them.
    imports = {(module, names) for module, names in found if module != "dj_queue.compat"}

    assert imports
    for module, names in imports:
        assert set(names.split(", ")) <= set(api.names_of(module)), module


def test_every_public_name_says_what_it_is():
    entries = re.findall(r"^`.+`\n(.*)$", PAGES["docs/api.md"], re.MULTILINE)

    assert len(entries) >= 45
    assert all(re.fullmatch(r": \S.+[.:;].*", entry) for entry in entries)


def test_the_states_are_those_of_the_tables():
    (listed,) = re.findall(r"in exactly one state\*\*: ([\w, ]+)\.", PAGES[INDEX])

    assert set(re.split(r", | or ", listed)) == {model.state for model in STATES}


def test_what_is_missing_is_not_an_argument_of_a_task():
    items = "".join(re.findall(r"^- .*(?:\n  .*)*", section(INDEX, "Not yet"), re.MULTILINE))
    missing = set(re.findall(r"[a-z_]+", items.lower()))

    assert missing
    assert not missing & set(signature(get_overloads(task)[-1]).parameters)
