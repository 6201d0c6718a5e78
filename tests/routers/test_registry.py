"""The map from backends to databases."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from threading import Event, Thread
from types import ModuleType

import pytest
from django.apps import apps
from django.core.checks import WARNING
from django.core.exceptions import AppRegistryNotReady
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import override_settings
from django.utils.module_loading import import_string

from dj_queue.checks.routing import check_neighbours
from dj_queue.exceptions import InvalidOption, UnknownBackend
from dj_queue.routers import queue_database, registry
from tests.routers.conftest import OURS, backend

FOREIGN = "tests.routers.backends.ForeignBackend"
BROKEN = {
    "syntax": "def",
    "runtime": "raise RuntimeError('not\\nnow')",
    "ends": "raise SystemExit(3)",
    "stops": "raise type('Stop', (BaseException,), {})('now')",
    "unprintable": "raise type('Mute', (Exception,), {'__str__': lambda error: 1 / 0})",
    "settings": "from django.conf import settings; settings.NO_SUCH_SETTING",
}
MISSING = "tests.routers.nowhere.Backend"


@pytest.fixture
def add_alias(monkeypatch, vendor_by_alias):
    """Give a function that adds a database to DATABASES; nothing connects to it."""
    added = []

    def add(alias, like, **changes):
        config = {**connections.databases[like], **changes}
        monkeypatch.setitem(connections.databases, alias, config)
        added.append(alias)

    yield add
    for alias in added:
        del connections[alias]


def test_each_backend_is_mapped_to_its_database_in_the_order_of_tasks():
    assert list(registry.routes()) == ["default", "alerts", "bulk"]
    assert registry.database_for("default") == "queue"
    assert registry.database_for("alerts") == "queue"
    assert registry.database_for("bulk") == "bulk"
    assert registry.databases() == ("queue", "bulk")
    assert registry.backends_on("queue") == ("default", "alerts")
    assert registry.backends_on("bulk") == ("bulk",)
    assert registry.backends_on("default") == ()


def test_a_backend_that_names_no_database_uses_the_default_one(tasks):
    tasks(plain={"BACKEND": "dj_queue.backend.DjQueueBackend"})

    assert registry.database_for("plain") == "default"


def test_the_map_is_built_on_first_use_and_kept(tasks):
    tasks(broken=backend(path=MISSING))
    assert registry.routes() == {}

    tasks(default=backend("bulk"))

    assert registry.routes() is registry.routes()


@pytest.mark.parametrize("name", ["TracingBackend", "NestedTracingBackend"])
def test_a_subclass_of_our_backend_is_ours(tasks, name):
    tasks(traced=backend("bulk", path=f"tests.routers.backends.{name}"))

    assert registry.database_for("traced") == "bulk"


@pytest.mark.parametrize("name", ["ForeignBackend", "not_a_class"])
def test_other_backends_are_left_alone(tasks, name):
    tasks(other=backend("queue", path=f"tests.routers.backends.{name}"), ours=backend("bulk"))

    assert list(registry.routes()) == ["ours"]
    assert registry.databases() == ("bulk",)
    with pytest.raises(UnknownBackend):
        registry.route("other")


@pytest.mark.parametrize(
    "entry",
    [
        backend(path=MISSING),
        backend(path="tests.routers.backends.NoSuchBackend"),
        backend(path="depot"),
        backend(path=""),
        backend(path=None),
        backend(path=7),
        *(backend(path=f"broken_{name}.Backend") for name in BROKEN),
        {},
        None,
        "tests.routers.backends.ForeignBackend",
    ],
    ids=str,
)
def test_an_entry_without_a_class_stops_no_other_and_is_reported(
    tasks, entry, tmp_path, monkeypatch
):
    for name, code in BROKEN.items():
        (tmp_path / f"broken_{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)

    tasks(other=entry, ours=backend("bulk"))

    assert list(registry.routes()) == ["ours"]
    assert [(each.id, each.level) for each in check_neighbours()] == [("dj_queue.W008", WARNING)]


def test_an_interrupted_import_of_a_backend_is_an_interrupt(tasks, tmp_path, monkeypatch):
    (tmp_path / "interrupted.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(tmp_path)
    entry = backend(path="interrupted.Backend")

    tasks(other=entry)

    with pytest.raises(KeyboardInterrupt):
        registry.routes()
    with pytest.raises(KeyboardInterrupt):
        registry.import_problem(entry)


def test_entries_with_a_class_are_not_reported(tasks):
    tasks(other=backend(path=FOREIGN), ours=backend("bulk"))

    assert list(check_neighbours()) == []


def test_an_unknown_backend_is_named_beside_the_known_ones():
    with pytest.raises(UnknownBackend) as caught:
        queue_database("blk")

    assert str(caught.value) == (
        "expected a dj_queue backend of TASKS ('default', 'alerts', 'bulk'), got 'blk'"
    )


def test_an_unknown_backend_is_told_when_there_is_none_at_all(tasks):
    tasks(other=backend(path=FOREIGN))

    with pytest.raises(UnknownBackend, match=r"of TASKS \(none\), got 'default'"):
        queue_database("default")


@pytest.mark.parametrize("alias", ["blk", "", None, 7, ["bulk"]])
def test_an_unknown_database_is_named_with_its_full_setting(tasks, alias):
    tasks(default=backend("queue"), nightly={**backend(), "OPTIONS": {"database_alias": alias}})

    with pytest.raises(InvalidOption) as caught:
        queue_database("nightly")

    assert str(caught.value) == (
        "TASKS['nightly']['OPTIONS']['database_alias']: expected an alias of DATABASES "
        f"('default', 'queue', 'bulk'), got {str(alias)!r}"
    )
    assert queue_database("default").alias == "queue"
    assert registry.is_queue_database("queue")
    assert not registry.is_queue_database(None)


@pytest.mark.parametrize("options", [None, [], "queue"])
def test_options_that_are_no_dict_do_not_take_the_route_away(tasks, options):
    tasks(default={**backend(), "OPTIONS": options})

    assert registry.database_for("default") == "default"
    with pytest.raises(InvalidOption, match=r"TASKS\['default'\]\['OPTIONS'\]: expected a dict"):
        _ = queue_database("default").options


def test_changed_settings_replace_the_map_and_come_back(tasks):
    before = registry.routes()

    with override_settings(TASKS={"only": backend("bulk")}):
        assert registry.databases() == ("bulk",)
        assert not registry.is_queue_database("queue")

    assert registry.routes() == before


@pytest.mark.parametrize("setting", ["DATABASES", "DATABASE_ROUTERS"])
def test_settings_that_routes_depend_on_drop_the_map(settings, setting):
    before = registry.routes()

    if setting == "DATABASES":
        with pytest.warns(UserWarning, match="Overriding setting DATABASES"):
            settings.DATABASES = {**settings.DATABASES}
    else:
        settings.DATABASE_ROUTERS = []

    assert registry.routes() is not before
    assert registry.routes() == before


def test_the_sole_database_is_the_one_that_all_backends_share(tasks):
    assert registry.sole_database() is None

    tasks(one=backend("bulk"), two=backend("bulk"))
    assert registry.sole_database() == "bulk"

    tasks(other=backend(path=FOREIGN))
    assert registry.sole_database() is None


def test_a_sole_database_that_does_not_exist_is_named_with_its_setting(tasks):
    tasks(default=backend("blk"))

    with pytest.raises(InvalidOption, match=r"TASKS\['default'\]\['OPTIONS'\]\['database_alias'\]"):
        registry.sole_database()


def test_one_dedicated_backend_dedicates_the_database(tasks):
    tasks(a=backend("queue"), b=backend("queue", dedicated=True), c=backend("bulk", dedicated=1))

    assert registry.is_dedicated("queue")
    assert not registry.is_dedicated("bulk")
    assert not registry.is_dedicated("default")


@pytest.mark.parametrize(
    ("said", "is_dedicated"),
    [([None], True), ([False], False), ([None, False], False), ([False, None, True], True)],
    ids=str,
)
def test_a_queue_database_apart_is_dedicated_unless_a_backend_says_otherwise(
    tasks, said, is_dedicated
):
    tasks(**{f"b{number}": backend("bulk", dedicated=it) for number, it in enumerate(said)})

    assert registry.is_dedicated("bulk") is is_dedicated
    assert not registry.is_dedicated("queue")


def test_the_application_database_is_dedicated_only_if_a_backend_says_so(tasks):
    tasks(plain=backend("default"))
    assert not registry.is_dedicated("default")

    tasks(plain=backend("default", dedicated=True))
    assert registry.is_dedicated("default")


def test_two_aliases_of_one_database_are_physically_one(add_alias):
    add_alias("twin", "queue")
    add_alias("cousin", "queue", NAME="elsewhere")

    assert registry.physical("twin") == registry.physical("queue")
    assert registry.physical("cousin") != registry.physical("queue")
    assert registry.physical("bulk") != registry.physical("queue")


def test_a_file_is_one_database_however_its_path_is_written(add_alias):
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "HOST": "", "PORT": ""}
    add_alias("relative", "queue", NAME="jobs.sqlite3", **sqlite)
    add_alias("absolute", "queue", NAME=Path.cwd() / "tests" / ".." / "jobs.sqlite3", **sqlite)
    add_alias("memory", "queue", NAME=":memory:", **sqlite)

    assert registry.physical("relative") == registry.physical("absolute")
    assert registry.physical("memory").name == ":memory: of memory"


@pytest.mark.parametrize(
    ("engine", "one", "other"),
    [
        ("postgresql", {"service": "shop"}, {"service": "queue"}),
        ("postgresql", {"service": "shop"}, {}),
        ("postgresql", {"options": "-c search_path=queue"}, {}),
        ("mysql", {"read_default_file": "/etc/shop.cnf"}, {"read_default_file": "/etc/queue.cnf"}),
        ("mysql", {"read_default_file": "/etc/shop.cnf"}, {}),
        ("mysql", {"read_default_group": "shop"}, {"read_default_group": "queue"}),
        ("mysql", {"db": "shop"}, {"database": "queue"}),
        ("postgresql", {"host": "one"}, {"host": "other"}),
        ("postgresql", {"dbname": "shop"}, {"dbname": "queue"}),
    ],
    ids=str,
)
def test_what_options_name_is_another_place(add_alias, engine, one, other):
    pytest.importorskip({"postgresql": "psycopg", "mysql": "MySQLdb"}[engine])
    plain = {"ENGINE": f"django.db.backends.{engine}", "NAME": "", "HOST": "", "PORT": ""}
    add_alias("one", "queue", **plain, OPTIONS=one)
    add_alias("same", "queue", **plain, OPTIONS=one)
    add_alias("other", "queue", **plain, OPTIONS=other)

    assert registry.physical("one") == registry.physical("same")
    assert registry.physical("one") != registry.physical("other")


def test_the_user_may_decide_on_the_schema(add_alias):
    pytest.importorskip("psycopg")
    plain = {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", "HOST": "", "PORT": ""}
    add_alias("one", "queue", **plain, USER="app")
    add_alias("other", "queue", **plain, USER="queue")

    assert registry.physical("one") != registry.physical("other")
    assert str(registry.physical("one")) == "postgresql localhost:5432/shop"


def test_a_service_is_named_in_the_address(add_alias):
    pytest.importorskip("psycopg")
    plain = {"ENGINE": "django.db.backends.postgresql", "NAME": None, "HOST": "", "PORT": ""}
    add_alias("one", "queue", **plain, OPTIONS={"service": "shop"})

    assert str(registry.physical("one")) == "postgresql (service=shop)"


def test_a_port_is_the_same_as_number_and_as_text(add_alias):
    add_alias("number", "queue", PORT=5433)
    add_alias("text", "queue", PORT="5433")

    assert registry.physical("number") == registry.physical("text")


def test_reading_the_map_opens_no_connection(monkeypatch, tasks, vendor_by_alias):
    def refuse(self):
        raise AssertionError(f"{self.alias} was connected to")

    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", refuse)
    tasks(default=backend("queue"), bulk=backend("bulk", dedicated=True))

    assert registry.databases() == ("queue", "bulk")
    assert registry.database_for("bulk") == "bulk"
    assert registry.is_dedicated("bulk")
    assert registry.sole_database() is None
    assert registry.physical("queue") != registry.physical("bulk")
    assert queue_database("bulk").options.dedicated


def test_no_backend_class_is_imported_before_apps_are_ready(monkeypatch, tasks):
    monkeypatch.setattr(apps, "ready", False)

    tasks(ours=backend("bulk"))
    assert registry.database_for("ours") == "bulk"

    tasks(ours=backend("bulk"), other=backend(path=MISSING))
    with pytest.raises(AppRegistryNotReady, match="nowhere"):
        registry.routes()

    monkeypatch.setattr(apps, "ready", True)
    assert list(registry.routes()) == ["ours"]


def test_a_map_that_was_being_built_of_old_settings_is_thrown_away(monkeypatch):
    """A reader has read the old settings and builds; they change; only then it goes on."""
    build, began, go_on = registry._build, Event(), Event()
    answers = []

    def build_slowly(tasks):
        if not began.is_set():
            began.set()
            assert go_on.wait(10)
        return build(tasks)

    monkeypatch.setattr(registry, "_build", build_slowly)
    reader = Thread(target=lambda: answers.append(registry.databases()))
    with override_settings(TASKS={"old": backend("queue")}):
        reader.start()
        assert began.wait(10)
        with override_settings(TASKS={"new": backend("bulk")}):
            go_on.set()
            reader.join()

            assert answers == [("bulk",)]
            assert registry.databases() == ("bulk",)


def test_a_backend_whose_module_is_being_imported_is_not_forgotten(tasks, monkeypatch):
    # A module that defines a backend and imports the tasks of the project, which ask for it.
    name = "tests.routers.half_imported"
    half = ModuleType(name)
    half.__spec__ = ModuleSpec(name, None)
    half.__spec__._initializing = True
    monkeypatch.setitem(sys.modules, name, half)
    tasks(mine=backend(path=f"{name}.Mine"))

    with pytest.raises(ImportError):
        registry.routes()
    half.Mine = type("Mine", (import_string(OURS),), {})
    half.__spec__._initializing = False

    assert list(registry.routes()) == ["mine"]
