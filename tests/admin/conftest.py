"""Who looks at the dashboard, and what its pages say."""

from html.parser import HTMLParser

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

ROOT = "/admin/dj_queue/dashboard/"
ACTIONS = {
    "pause": "pause_queue",
    "resume": "resume_queue",
    "clear": "clear_queue",
    "retry": "retry_job",
    "discard": "discard_job",
    "run_now": "run_job_now",
    "again": "enqueue_job_again",
}
RAW = {
    "jobs": "view_job",
    "failed": "view_failedexecution",
    "pauses": "view_pause",
    "processes": "view_process",
    "recurring": "view_recurringtask",
    "semaphores": "view_semaphore",
}


def staff(name, *codenames):
    """Make a member of staff with these permissions, and a client they are logged in with."""
    user = User.objects.create_user(name, is_staff=True)
    permissions = Permission.objects.filter(codename__in=codenames)
    assert len(permissions) == len(codenames), codenames
    user.user_permissions.set(permissions)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def viewer():
    return staff("viewer", "view_dashboard")


@pytest.fixture
def operator():
    return staff("operator", "view_dashboard", *ACTIONS.values(), *RAW.values())


class Page(HTMLParser):
    """A page as a person sees it: its tables by name, links, forms and buttons."""

    def __init__(self, html):
        super().__init__()
        self.html = html
        self.tables, self.links, self.forms, self.notes = {}, [], [], []
        self._table = self._row = self._cell = self._form = None
        self._button = None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        match tag:
            case "table":
                self._table = self.tables[attributes.get("aria-label", "")] = []
            case "tr" if self._table is not None:
                self._row = []
                self._table.append(self._row)
            case "td" | "th" if self._row is not None:
                self._cell = []
                self._row.append(self._cell)
            case "a":
                self.links.append(attributes.get("href", ""))
            case "form":
                self._form = {"action": attributes.get("action", ""), "fields": [], "buttons": []}
                self.forms.append(self._form)
            case "input" if self._form is not None and attributes.get("name"):
                field = attributes["name"], attributes.get("value", "")
                if attributes.get("type") == "hidden" or attributes["name"] == "job":
                    self._form["fields"].append(field)
            case "button":
                self._button = []

    def handle_endtag(self, tag):
        match tag:
            case "table":
                self._table = self._row = self._cell = None
            case "td" | "th":
                self._cell = None
            case "form":
                self._form = None
            case "button":
                if self._form is not None:
                    self._form["buttons"].append(" ".join(self._button))
                self._button = None

    def handle_data(self, text):
        if text.strip() and self._cell is not None:
            self._cell.append(text.strip())
        if text.strip() and self._button is not None:
            self._button.append(text.strip())

    def rows(self, table):
        """Give a table's rows, the header first; what stands in a cell is joined with spaces."""
        return [[" ".join(cell) for cell in row] for row in self.tables[table]]

    def column(self, table, label):
        """Give a column's cells by the first cell of their row."""
        header, *rows = self.rows(table)
        place = header.index(label)
        return {row[0]: row[place] for row in rows if len(row) == len(header)}

    @property
    def buttons(self):
        return sorted({each for form in self.forms for each in form["buttons"]})


def overview_of(client, backend, query=""):
    response = client.get(f"{ROOT}{backend}/{query}")
    assert response.status_code == 200, response
    return Page(response.content.decode())
