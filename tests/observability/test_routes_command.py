"""`manage.py dj_queue_routes` as people and programs read it."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from dj_queue import DOCUMENTATION
from dj_queue.observability import route_map
from dj_queue.observability.route_map import BackendFacts, DatabaseFacts, Problem, RouteMap
from tests.jobs import EVERY

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

COMMAND = "dj_queue.management.commands.dj_queue_routes"
SCHEMA = {
    "backends": {
        "backend": str,
        "database": str,
        "reads_answered_by": str,
        "writes_answered_by": str,
        "enqueue": str,
        "ready": int,
        "failed": int,
    },
    "databases": {
        "alias": str,
        "address": str,
        "is_reachable": bool,
        "server": str,
        "isolation": str,
        "missing_tables": list,
        "unapplied_migrations": list,
    },
    "problems": {"id": str, "level": str, "message": str, "hint": str},
}
UNKNOWN_IF_AWAY = {"ready", "failed", "address", "server", "isolation"}


def run(*arguments: str) -> tuple[int, str]:
    """Run the command; return its exit status and what it printed."""
    out = StringIO()
    try:
        call_command("dj_queue_routes", *arguments, stdout=out, no_color=True)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    return 0, out.getvalue()


@pytest.fixture
def astray(settings) -> None:
    """Point the backend `bulk` to a database that DATABASES does not have."""
    own = settings.TASKS["bulk"]
    settings.TASKS = {**settings.TASKS, "bulk": {**own, "OPTIONS": {"database_alias": "blk"}}}


@pytest.fixture
def show(monkeypatch):
    """Give a function that makes the command show a map of the test's own."""

    def show(**parts):
        drawn = RouteMap(**{"backends": [], "databases": [], "problems": [], **parts})
        monkeypatch.setattr(f"{COMMAND}.draw_map", lambda seconds: drawn)

    return show


def assert_schema(drawn, may_be_unknown=frozenset()):
    """Assert that JSON has the documented names, in order, and their types."""
    assert list(drawn) == list(SCHEMA)
    for part, kinds in SCHEMA.items():
        for each in drawn[part]:
            assert list(each) == list(kinds)
            for name, value in each.items():
                is_unknown = value is None and name in may_be_unknown
                assert is_unknown or type(value) is kinds[name], (part, name, value)


def test_json_has_the_documented_names_and_types():
    status, output = run("--json")

    assert status == 0
    assert_schema(json.loads(output))


def test_json_keeps_its_shape_where_something_is_unknown(astray):
    status, output = run("--json")

    drawn = json.loads(output)
    assert status == 1
    assert_schema(drawn, UNKNOWN_IF_AWAY)
    assert drawn["databases"][1] == {
        "alias": "blk",
        "address": None,
        "is_reachable": False,
        "server": None,
        "isolation": None,
        "missing_tables": [],
        "unapplied_migrations": [],
    }
    assert [each["id"] for each in drawn["problems"]] == ["dj_queue.E002"]


def test_a_healthy_map_ends_with_saying_so_and_status_0():
    status, output = run()

    first, *_, last = output.splitlines()
    assert (status, last) == (0, "nothing is wrong")
    assert first.split() == ["backend", "database", "answered", "by", "enqueue", "ready", "failed"]
    assert "alerts   queue     DjQueueRouter  immediate      0       0" in output
    assert output.count("all there") == 2


def test_check_prints_nothing_else_when_nothing_is_wrong():
    assert run("--check") == (0, "nothing is wrong\n")


def test_check_prints_problems_only(astray):
    status, output = run("--check")

    assert status == 1
    assert output.startswith("error dj_queue.E002\n  TASKS['bulk']['OPTIONS']['database_alias']: ")
    # Where the hint is wrapped depends on the length of the address.
    hint = f"HINT: Add the alias to DATABASES, or correct it. See {DOCUMENTATION}checks/E002.html"
    assert " ".join(output.split()).endswith(hint)


def test_a_warning_is_wrong_too(show):
    show(problems=[Problem("dj_queue.W001", "warning", "expected x", "Do y.")])

    assert run("--check") == (1, "warning dj_queue.W001\n  expected x\n  HINT: Do y.\n")


def test_lines_keep_to_100_columns_and_addresses_go_below_where_they_must(show):
    backend = BackendFacts("default", "queue", "a.Replica", "b.Ours", "immediate", 1_234_567, 89)
    wide = {"server": "PostgreSQL 18.1", "isolation": "read committed", "is_reachable": True}
    place = "postgresql db.example.com:5432/" + "q" * 50
    show(
        backends=[backend],
        databases=[
            DatabaseFacts("queue", place, **wide),
            DatabaseFacts("bulk", "sqlite bulk.sqlite3", **wide, missing_tables=["a", "b"]),
            DatabaseFacts("blk", None),
        ],
        problems=[Problem("dj_queue.E003", "error", "very-long words " * 40, "Do it. " * 40)],
    )

    _, output = run()

    assert max(map(len, output.splitlines())) <= 100
    assert "default  queue     Replica / Ours  immediate  1,234,567      89\n" in output
    assert f"queue     PostgreSQL 18.1   read committed  all there\n          {place}\n" in output
    assert "bulk      PostgreSQL 18.1   read committed  2 missing\n          sqlite bulk" in output
    assert "blk       not in DATABASES\n\nerror" in output
    assert "address" not in output


def test_short_addresses_stand_in_their_row(show):
    facts = {"server": "SQLite 3.50.0", "isolation": "serializable (wal)", "is_reachable": True}
    show(
        databases=[
            DatabaseFacts("queue", "sqlite q.sqlite3", **facts, unapplied_migrations=["0001_x"]),
            DatabaseFacts("bulk", "sqlite b.sqlite3"),
        ]
    )

    _, output = run()

    assert output.splitlines()[2:5] == [
        "database  server         isolation           tables              address",
        "queue     SQLite 3.50.0  serializable (wal)  1 migration behind  sqlite q.sqlite3",
        "bulk      unreachable    ?                   ?                   sqlite b.sqlite3",
    ]


@pytest.mark.parametrize("seconds", ["0", "-1", "3601", "nan", "inf"])
def test_a_timeout_out_of_bounds_is_refused(seconds):
    with pytest.raises(
        CommandError, match="--timeout: expected more than 0 and at most 3600 seconds, got "
    ):
        call_command("dj_queue_routes", f"--timeout={seconds}")


def test_the_timeout_reaches_the_map(monkeypatch):
    asked = []
    draw = route_map.draw_map
    monkeypatch.setattr(
        f"{COMMAND}.draw_map", lambda seconds: asked.append(seconds) or draw(seconds=30)
    )

    run("--timeout", "7.5")
    run()

    assert asked == [7.5, 5]


def test_a_project_without_our_backend_is_told_so(settings):
    settings.TASKS = {}

    with pytest.raises(CommandError, match="expected a backend in TASKS whose BACKEND is dj_queue"):
        call_command("dj_queue_routes")
