"""A browser, a server and an operator who is logged in."""

import os
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from tests.browser.chrome import Chrome, missing
from tests.browser.showcase import fill


@pytest.fixture(scope="session")
def chrome():
    if programs := missing():
        pytest.skip(f"needs a browser: {programs} is not installed")
    browser = Chrome()
    yield browser
    browser.close()


@pytest.fixture
def showcase(transactional_db):
    """Fill the databases."""
    fill(timezone.now())


@pytest.fixture
def site(chrome, live_server, transactional_db):
    """Give a browser whose user may do everything, and the address of the dashboard."""
    user = User.objects.create_superuser("operator")
    client = Client()
    client.force_login(user)
    chrome.resize(1440, 900)
    chrome.prefer("light")
    chrome.open(f"{live_server.url}/static/dj_queue/dashboard.css")
    name = django_settings.SESSION_COOKIE_NAME
    chrome.set_cookie(name, client.cookies[name].value)
    chrome.complaints()
    chrome.root = f"{live_server.url}/admin/dj_queue/dashboard/"
    yield chrome
    chrome.open("about:blank")


@pytest.fixture
def pictures():
    """Give the directory that bin/screenshots wants pictures in, or None."""
    directory = os.environ.get("DJ_QUEUE_TEST_SCREENSHOTS")
    return Path(directory) if directory else None
