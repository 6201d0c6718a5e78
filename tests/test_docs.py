"""The documentation and the code agree.

A name that exists in the code is the term of a definition list or the first cell of a table row, in
backticks.
"""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, fields
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

import django
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command, find_commands, load_command_class
from django.core.management.base import BaseCommand
from django.db.models import Model
from django.test import override_settings
from django.test.utils import isolate_apps

import dj_queue
from dj_queue import events, exceptions
from dj_queue.checks import STATIC
from dj_queue.compat import InvalidTask, Task, task_backends
from dj_queue.conf import (
    BackendOptions,
    DispatcherOptions,
    RecurringOptions,
    SchedulerOptions,
    WorkerOptions,
    read_options,
)
from dj_queue.management.commands import dj_queue_routes
from dj_queue.models import Attempt, Job
from dj_queue.models.fields import normalize_json
from dj_queue.observability.route_map import BackendFacts, DatabaseFacts, Problem, RouteMap
from dj_queue.routers import DjQueueRouter, queue_database, use_backend
from dj_queue.signatures import require_arguments

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(dj_queue.__file__).resolve().parent
BACKEND = "dj_queue.backend.DjQueueBackend"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
}
EVERYTHING = "\n".join(PAGES.values())
SECTIONS = {
    "Options of a backend": BackendOptions,
    "Options of a worker": WorkerOptions,
    "Options of the dispatcher": DispatcherOptions,
    "Options of the scheduler": SchedulerOptions,
    "Options of a recurring task": RecurringOptions,
}


def definitions(text: str) -> dict[str, str]:
    """Give the definition of each term that is in backticks."""
    found = re.findall(r"^`([^`\n]+)`\n: ((?:.+\n|\n(?= ))+)", text, re.MULTILINE)
    return {term: " ".join(body.split()) for term, body in found}


def first_cells(text: str) -> list[str]:
    """Give the backticked first cells of table rows."""
    return re.findall(r"^\| `([^`|]+)` \|", text, re.MULTILINE)


def section(page: str, heading: str) -> str:
    """Give the text under a heading, up to the next of its level."""
    return PAGES[page].partition(f"\n## {heading}\n")[2].partition("\n## ")[0] + "\n"


def blocks(page: str, language: str) -> list[str]:
    """Give the code blocks of a page."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", PAGES[page], re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def expectation(parser: Callable[[Any, str], Any]) -> str:
    """Give what an option's parser says it expects."""
    with pytest.raises(exceptions.InvalidOption) as refused:
        parser(object(), "path")
    return str(refused.value).removeprefix("path: expected ").partition(", got ")[0]


def test_every_page_is_in_the_table_of_contents() -> None:
    trees = [*blocks("docs/index.md", r"\{toctree\}"), *blocks("docs/checks.md", r"\{toctree\}")]
    listed = re.findall(r"^([\w/]+)$", "\n".join(trees), re.MULTILINE)

    written = [page[len("docs/") : -len(".md")] for page in PAGES if page.startswith("docs/")]
    assert sorted(listed) == sorted(set(written) - {"index"})


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(((?!https:)[^)#]+)", PAGES[page])

    assert [each for each in targets if not (ROOT / page).parent.joinpath(each).exists()] == []


@pytest.mark.parametrize("heading", SECTIONS)
def test_options_are_those_of_the_code(heading: str) -> None:
    options = {each.name for each in fields(SECTIONS[heading])}

    assert set(definitions(section("docs/options.md", heading))) == options


@pytest.mark.parametrize(
    ("heading", "name"),
    [(heading, each.name) for heading, kind in SECTIONS.items() for each in fields(kind)],
)
def test_defaults_and_bounds_of_an_option_are_those_of_the_code(heading: str, name: str) -> None:
    option = {each.name: each for each in fields(SECTIONS[heading])}[name]
    text = definitions(section("docs/options.md", heading))[name]

    default, expected = re.findall(r"(Default: `.+`|Required)\. Expected: (.+)\.$", text)[0]

    parser = option.metadata["parser"]
    if option.default is MISSING and option.default_factory is MISSING:
        assert default == "Required"
    else:
        in_code = option.default_factory() if option.default is MISSING else option.default
        documented = default.removeprefix("Default: `").removesuffix("`")
        assert parser(ast.literal_eval(documented), name) == in_code
    assert expected == expectation(parser)


def test_options_page_shows_every_default() -> None:
    (block,) = blocks("docs/options.md", "python")

    params = run_settings(block)["TASKS"]["default"]

    assert read_options("default", params) == BackendOptions()
    assert list(params["OPTIONS"]) == [each.name for each in fields(BackendOptions)]


def test_commands_are_those_of_the_code() -> None:
    commands = set(find_commands(str(PACKAGE / "management")))

    assert set(re.findall(r"manage\.py\s+(dj_queue\w*)", EVERYTHING)) == commands
    headings = re.findall(r"^#+ manage\.py (dj_queue\w*)$", EVERYTHING, re.MULTILINE)
    assert sorted(headings) == sorted(commands)


@pytest.mark.parametrize("name", find_commands(str(PACKAGE / "management")))
def test_arguments_of_a_command_are_documented(name: str) -> None:
    plain = set(BaseCommand().create_parser("manage.py", name)._option_string_actions)
    parser = load_command_class("dj_queue", name).create_parser("manage.py", name)

    text = EVERYTHING.partition(f"## manage.py {name}\n")[2].partition("\n## ")[0]

    assert set(re.findall(r"`(--[\w-]+)", text)) == set(parser._option_string_actions) - plain


def test_the_address_in_hints_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["urls"]["Documentation"] == dj_queue.DOCUMENTATION


def test_ids_of_checks_that_pages_name_exist() -> None:
    """tests/test_check_pages.py has the rest."""
    named = set(re.findall(r"\b[EW]\d{3}\b", EVERYTHING))

    assert named == {Path(page).stem for page in PAGES if page.startswith("docs/checks/")}


def test_events_are_those_of_the_code() -> None:
    rows = first_cells(section("docs/workers.md", "Log events"))

    assert rows == list(events.LEVELS)


@pytest.mark.parametrize("event", events.LEVELS)
def test_level_and_payload_of_an_event_are_those_of_the_code(event: str) -> None:
    row = re.findall(rf"^\| `{event}` \| (\w+) \| (.*?) \|", PAGES["docs/workers.md"], re.MULTILINE)
    source = (PACKAGE / "events.py").read_text(encoding="utf-8")

    ((level, payload),) = row

    ((comment,),) = [re.findall(rf'"{event}": .*# (.+)', source)]
    keys = [key.strip() for key in comment.partition(":")[0].split(",")]
    assert level == logging.getLevelName(events.LEVELS[event])
    of_a_database = event.startswith(("database_", "listener_", "process_")) or event in (
        "other_deployment",
        "transaction_left_open",
        "claims_recovered",
        "fork_failed",
        "ledger_not_kept",
    )
    everywhere = ["database"] if of_a_database else ["backend", "database"]
    assert [*everywhere, *re.findall(r"`(\w+)`", payload)] == keys


def test_exceptions_are_those_of_the_code() -> None:
    names = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and value.__module__ == exceptions.__name__
    }

    assert set(definitions(PAGES["docs/errors.md"])) == names


def test_members_of_the_handle_exist() -> None:
    cells = re.findall(r"^\| (`.+?) \|", section("docs/routing.md", "The handles"), re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)", cell)}

    db = queue_database("bulk")

    assert named == {name for name in dir(db) if not name.startswith("_")}


def test_what_pages_import_from_the_package_exists() -> None:
    imports = re.findall(r"^from (dj_queue[\w.]*) import (.+)$", EVERYTHING, re.MULTILINE)

    assert imports
    for module, names in imports:
        for name in names.split(", "):
            assert hasattr(import_module(module), name), f"{module}.{name}"


def test_test_variables_are_those_of_the_suite() -> None:
    modules = [ROOT / "tests" / name for name in ("databases.py", "selection.py")]
    source = "".join(module.read_text(encoding="utf-8") for module in modules)
    named = re.findall(r"\bDJ_QUEUE_TEST_(\w+)", PAGES["docs/development.md"])

    servers = {"POSTGRESQL", "MARIADB", "MYSQL"}
    assert servers <= set(named)
    assert {each for each in set(named) - servers if f"DJ_QUEUE_TEST_{each}" not in source} == set()


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_compile(page: str) -> None:
    for block in blocks(page, "python"):
        compile(block, page, "exec")


def run_settings(block: str) -> dict[str, Any]:
    """Execute a block as the end of a settings module."""
    settings: dict[str, Any] = {
        "INSTALLED_APPS": [],
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}},
        "BASE_DIR": ROOT,
    }
    if django.VERSION < (6, 0):
        block = block.replace("django.tasks", "django_tasks")
    exec(block, settings)
    return settings


SETTINGS = [
    pytest.param(block, id=f"{page}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page, "python"))
    if re.search(r"^TASKS = ", block, re.MULTILINE)
]


@pytest.mark.parametrize("block", SETTINGS)
def test_settings_pass_our_checks(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = run_settings(block)
    for name in ("shop", "shop.tasks"):
        monkeypatch.setitem(sys.modules, name, import_module(f"tests.{name}"))

    for backend, params in settings["TASKS"].items():
        read_options(backend, params)
    with override_settings(
        TASKS=settings["TASKS"], DATABASE_ROUTERS=settings.get("DATABASE_ROUTERS", [])
    ):
        assert [message for check in STATIC for message in check()] == []


def test_readme_has_two_queue_databases() -> None:
    (block,) = blocks("README.md", "python")

    settings = run_settings(block)

    aliases = {params["OPTIONS"]["database_alias"] for params in settings["TASKS"].values()}
    assert aliases == {"queue", "bulk"}
    assert aliases < set(settings["DATABASES"])
    assert len(block.splitlines()) <= 10


def options(**values: Any) -> Callable[[], object]:
    """Give a function that reads these OPTIONS of the backend "default"."""
    return lambda: read_options("default", {"OPTIONS": values})


def elsewhere(model: type, alias: str, **values: Any) -> Any:
    """Build a row as if it had been read from a database."""
    row = model(**values)
    row._state.db = alias
    return row


def save_in_the_wrong_context() -> None:
    """Save a row of one backend inside another's context."""
    with use_backend("default"):
        Job(backend="bulk").save()


@isolate_apps("tests.shop")
def row_of_the_shop() -> Model:
    """Make a row of the model that the docs use."""
    meta = type("Meta", (), {"app_label": "shop"})
    return type("Order", (Model,), {"__module__": "shop.models", "Meta": meta})()


def task_of_the_shop() -> Task:
    """Make the task that the docs enqueue."""

    def send(address: str, subject: str) -> None: ...

    send.__module__, send.__qualname__ = "shop.tasks", "send"
    made = object.__new__(Task)  # The constructor asks for a module that is not there.
    object.__setattr__(made, "func", send)
    object.__setattr__(made, "takes_context", False)
    return made


PROVOKED: dict[str, Callable[[], object]] = {
    "threads": options(workers=[{"threads": 0}]),
    "unknown option": options(threads=3),
    "batch_size": options(dispatcher={"batch_size": 0}),
    "ambiguous": lambda: Job.objects.count(),
    "wrong context": save_in_the_wrong_context,
    "wrong using": lambda: Job(backend="bulk").save(using="queue"),
    "wrong update": lambda: Job.objects.using("queue").bulk_update(
        [elsewhere(Job, "bulk")], ["args"]
    ),
    "foreign row": lambda: DjQueueRouter().db_for_read(Job, instance=elsewhere(User, "default")),
    "cross": lambda: Attempt(job=elsewhere(Job, "bulk")).save(using="queue"),
    "unknown backend": lambda: queue_database("mail"),
    "date": lambda: normalize_json([[0, date(2026, 1, 1)]], "args"),
    "row": lambda: normalize_json([{"order": row_of_the_shop()}], "args"),
    "key": lambda: normalize_json([{"a": {1: 2}}], "args"),
    "missing": lambda: require_arguments(task_of_the_shop(), ["ada@example.com"], {}),
    "nan": lambda: normalize_json({"total": float("nan")}, "kwargs"),
}


@pytest.mark.parametrize("provoke", PROVOKED.values(), ids=PROVOKED)
def test_quoted_errors_are_what_the_code_says(provoke: Callable[[], object]) -> None:
    with pytest.raises((exceptions.DjQueueError, InvalidTask)) as raised:
        provoke()

    assert f"{raised.value}\n" in EVERYTHING


def example_map() -> RouteMap:
    """Build the map of the JSON example."""
    (text,) = blocks("docs/deploying.md", "json")
    example = json.loads(text)
    return RouteMap(
        [BackendFacts(**each) for each in example["backends"]],
        [DatabaseFacts(**each) for each in example["databases"]],
        [Problem(**each) for each in example["problems"]],
    )


def test_json_example_has_every_key_in_order() -> None:
    (text,) = blocks("docs/deploying.md", "json")

    assert json.dumps(json.loads(text)) == json.dumps(example_map().as_json())


def test_json_schema_is_that_of_the_code() -> None:
    names = {"str": "string", "bool": "boolean", "int": "number", "None": "null"}
    names["list[str]"] = "list of strings"

    page = section("docs/deploying.md", "manage.py dj_queue_routes")

    for key, kind in {
        "backends": BackendFacts,
        "databases": DatabaseFacts,
        "problems": Problem,
    }.items():
        table = page.partition(f"\n`{key}` has one object")[2].partition("\n\n`")[0]
        rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", table, re.MULTILINE)
        in_code = {each.name: str(each.type).split(" | ") for each in fields(kind)}
        assert rows == [
            (name, " or ".join(names[each] for each in types)) for name, types in in_code.items()
        ]
    assert [each.name for each in fields(RouteMap)] == ["backends", "databases", "problems"]


def test_map_in_the_docs_is_what_the_command_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dj_queue_routes, "draw_map", lambda seconds: example_map())

    with pytest.raises(SystemExit) as ended:
        call_command("dj_queue_routes", no_color=True)

    prompt = "$ python manage.py dj_queue_routes\n"
    (shown,) = [each for each in blocks("docs/deploying.md", "console") if each.startswith(prompt)]
    assert shown.removeprefix(prompt) == capsys.readouterr().out
    assert ended.value.code == 1


def test_guarantees_are_those_of_the_table() -> None:
    page = section("docs/separating.md", "Many databases")
    rows = re.findall(r"^\| (?:`(\w+)`|nothing).*? \| (\w+) \| (\w+) \|$", page, re.MULTILINE)

    backends = task_backends["default"], task_backends["bulk"]

    assert {alias for alias, *_ in rows} == {"", "default", "queue", "bulk"}
    for alias, *stated in rows:
        if alias:
            assert stated == [each.guarantee(alias) for each in backends]
    assert set(first_cells(section("docs/separating.md", "Two databases"))) == {
        "guarantee(using)",
        *(each.guarantee("queue") for each in backends),
    }


class Project:
    """A new Django project that follows the quickstart."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        own = [name for name in os.environ if name.startswith(("DJ_QUEUE_", "DJANGO_", "PYTEST_"))]
        inherited = {name: value for name, value in os.environ.items() if name not in own}
        self.environment = {**inherited, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        self.run("-m", "django", "startproject", "mysite", ".")
        self.manage("startapp", "shop")
        if django.VERSION < (6, 0):
            self.append("mysite/settings.py", 'INSTALLED_APPS += ["django_tasks"]\n')

    def run(self, *arguments: str) -> str:
        """Run Python to its end; give what it printed."""
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def manage(self, *arguments: str) -> str:
        """Run a management command to its end; give what it printed."""
        return self.run("manage.py", *arguments)

    def append(self, path: str, text: str) -> None:
        """Add a block of the page to a file."""
        if django.VERSION < (6, 0):
            text = text.replace("django.tasks", "django_tasks")
        with (self.directory / path).open("a", encoding="utf-8") as file:
            file.write(f"\n{text}")

    def add_with_workers(self) -> list[str]:
        """Enqueue the page's job, run workers until it is finished; give what these printed."""
        shell = ("shell", "--verbosity=0", "--command")
        job_id = self.manage(
            *shell, "from shop.tasks import add; print(add.enqueue(1, 2).id)"
        ).strip()
        worker = subprocess.Popen(
            [sys.executable, "manage.py", "dj_queue"],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        look = (
            f"from shop.tasks import add; r = add.get_result('{job_id}'); "
            "print(r.is_finished and (str(r.status), r.return_value))"
        )
        try:
            deadline = time.monotonic() + 60
            while (seen := self.manage(*shell, look).strip()) == "False":
                assert time.monotonic() < deadline, "the job was not finished within 60 seconds"
        finally:
            worker.terminate()
            output, _ = worker.communicate(timeout=60)
        assert seen == "('SUCCESSFUL', 3)"
        assert worker.returncode == 0
        return output.splitlines()


def test_quickstart_leads_to_a_finished_job(tmp_path: Path) -> None:
    first, task, apart = blocks("docs/quickstart.md", "python")
    shown = "\n".join(blocks("docs/quickstart.md", "console"))
    project = Project(tmp_path)

    project.append("mysite/settings.py", first)
    project.append("shop/tasks.py", task)
    project.manage("migrate")
    together = project.add_with_workers()
    project.append("mysite/settings.py", apart)
    migrated = project.manage("dj_queue_migrate")
    separate = project.add_with_workers()

    assert together[0] in shown
    assert migrated in shown
    assert separate[0] in shown
    assert (tmp_path / "queue.sqlite3").exists()
