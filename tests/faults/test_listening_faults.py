"""Where workers listen: what settings can have wrong, beside what looks like it and is well."""

from typing import Any

import pytest

from dj_queue import DOCUMENTATION
from tests.faults.project import Project
from tests.faults.test_live_faults import ENQUEUE
from tests.faults.test_more_static_faults import CHECK, needs_psycopg
from tests.faults.test_static_faults import ROUTES, SILENCE

LISTEN = "TASKS.bulk.OPTIONS.listen_database_alias"
PATH = "TASKS['bulk']['OPTIONS']['listen_database_alias']: expected"


def postgresql(port: object, host: str = "127.0.0.1", **more: Any) -> dict[str, Any]:
    """Give a PostgreSQL database that nobody can reach."""
    place = {"HOST": host, "PORT": port, "NAME": "shop_bulk"}
    return {"ENGINE": "django.db.backends.postgresql", **place, **more}


def test_an_unknown_alias_to_listen_on_is_named(project: Project):
    project.write({LISTEN: "direct"})

    checked, mapped = project.run(CHECK, ROUTES)

    assert (checked.status, mapped.status) == (1, 1)
    expected = f"{PATH} an alias of DATABASES ('default', 'queue', 'bulk'), got 'direct'"
    assert f"(dj_queue.E009) {expected}" in checked.text
    assert "E009" in mapped.ids
    assert f"{DOCUMENTATION}checks/E009.html" in checked.text


def test_an_alias_to_listen_on_that_cannot_tell_is_named(project: Project):
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    project.write({"DATABASES.direct": sqlite, LISTEN: "direct"})

    (checked,) = project.run(CHECK)

    expected = f"{PATH} the alias of a PostgreSQL database, got 'direct' on sqlite"
    assert f"(dj_queue.E009) {expected}" in checked.text
    assert checked.text.count("dj_queue.") == 1


@pytest.mark.parametrize("given", [{}, {LISTEN: None}], ids=str)
def test_no_alias_to_listen_on_is_well(project: Project, given: dict[str, Any]):
    project.write(given)

    (checked,) = project.run(CHECK)

    assert checked.text == SILENCE


@needs_psycopg
def test_an_alias_to_listen_on_that_leads_elsewhere_is_named(project: Project, closed_port: int):
    own = postgresql(closed_port)
    project.write(
        {"DATABASES.bulk": own, "DATABASES.direct": {**own, "NAME": "x"}, LISTEN: "direct"}
    )

    checked, mapped = project.run(CHECK, ROUTES)

    place = f"postgresql localhost:{closed_port}"
    assert f"(dj_queue.W006) {PATH} an alias of the queue database, {place}/shop_bulk, got " in (
        checked.text
    )
    assert f"got 'direct' on {place}/x: workers would hear nothing there" in checked.text
    assert "W006" in mapped.ids


@needs_psycopg
def test_an_alias_to_listen_on_beside_a_queue_of_another_vendor_is_named(
    project: Project, closed_port: int
):
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    sqlite["OPTIONS"] = {"transaction_mode": "IMMEDIATE"}  # type: ignore[assignment]
    direct = postgresql(closed_port)
    project.write({"DATABASES.bulk": sqlite, "DATABASES.direct": direct, LISTEN: "direct"})

    (checked,) = project.run(CHECK)

    assert "(dj_queue.W006)" in checked.text
    assert checked.text.count("dj_queue.") == 1


@needs_psycopg
@pytest.mark.parametrize(
    "there",
    [
        {"HOST": "db.internal", "PORT": ""},
        {"NAME": "", "OPTIONS": {"service": "shop"}},
    ],
    ids=str,
)
def test_an_alias_to_listen_on_may_lead_there_another_way(
    project: Project, closed_port: int, there: dict[str, Any]
):
    own = postgresql(closed_port)
    project.write({"DATABASES.bulk": own, "DATABASES.direct": {**own, **there}, LISTEN: "direct"})

    (checked,) = project.run(CHECK)

    assert checked.text == SILENCE


POOLERS = [
    ({"PORT": 6432}, "PORT is 6432"),
    ({"PORT": "5432,6432"}, "PORT is '5432,6432'"),
    ({"PORT": "", "OPTIONS": {"port": 6543}}, "PORT is 6543"),
    ({"HOST": "PgBouncer"}, "HOST is 'PgBouncer'"),
    ({"HOST": "/var/run/pgbouncer"}, "HOST is '/var/run/pgbouncer'"),
    ({"HOST": "ep-cool-1-pooler.eu.neon.tech"}, "HOST is 'ep-cool-1-pooler.eu.neon.tech'"),
    ({"HOST": "", "OPTIONS": {"host": "pooler"}}, "HOST is 'pooler'"),
    ({"DISABLE_SERVER_SIDE_CURSORS": True}, "DISABLE_SERVER_SIDE_CURSORS is True"),
]


@needs_psycopg
@pytest.mark.parametrize(("values", "reason"), POOLERS, ids=str)
def test_what_looks_like_a_pooler_is_named_with_the_reason(
    project: Project, closed_port: int, values: dict[str, Any], reason: str
):
    project.write({"DATABASES.bulk": {**postgresql(closed_port), **values}})

    (checked,) = project.run(CHECK)

    assert checked.status == 1
    assert (
        f"(dj_queue.W007) {PATH} an alias that leads past the pooler, because DATABASES['bulk'] "
        f"looks like a transaction pooler ({reason}), got None: workers would hear nothing"
    ) in checked.text
    assert checked.text.count("dj_queue.W") == 1


PREPARED = [
    ({"prepare_threshold": 5}, "dj_queue prepares nothing through a pooler, so it has no effect"),
    (
        {"prepare_threshold": 0, "server_side_binding": True},
        "Django prepares statements on connections to the server that are not its own",
    ),
]


@needs_psycopg
@pytest.mark.parametrize(("options", "what"), PREPARED, ids=str)
def test_preparing_statements_through_a_pooler_is_named_whether_or_not_workers_listen(
    project: Project, closed_port: int, options: dict[str, Any], what: str
):
    place = {**postgresql(closed_port), "HOST": "pgbouncer", "OPTIONS": options}
    project.write({"DATABASES.bulk": place, "TASKS.bulk.OPTIONS.listen_notify": False})

    (checked,) = project.run(CHECK)

    assert (
        "(dj_queue.W007) DATABASES['bulk']['OPTIONS']['prepare_threshold']: expected None, because "
        "DATABASES['bulk'] looks like a transaction pooler (HOST is 'pgbouncer'), got "
        f"{options['prepare_threshold']}: {what}"
    ) in checked.text
    assert checked.text.count("dj_queue.W") == 1


@needs_psycopg
@pytest.mark.parametrize("values", [{"OPTIONS": {"prepare_threshold": None}}, {"HOST": "db"}])
def test_preparing_statements_elsewhere_or_not_at_all_is_passed_over(
    project: Project, closed_port: int, values: dict[str, Any]
):
    own = {"HOST": "pgbouncer", "OPTIONS": {"prepare_threshold": 5}, **values}
    place = {**postgresql(closed_port), **own}
    project.write({"DATABASES.bulk": place, "TASKS.bulk.OPTIONS.listen_notify": False})

    (checked,) = project.run(CHECK)

    assert "dj_queue.W007" not in checked.text


@needs_psycopg
def test_an_alias_to_listen_on_that_leads_through_a_pooler_is_named(
    project: Project, closed_port: int
):
    bulk, direct = postgresql(closed_port), postgresql(6432)
    project.write({"DATABASES.bulk": bulk, "DATABASES.direct": direct, LISTEN: "direct"})

    checked, mapped = project.run(CHECK, ROUTES)

    assert "because DATABASES['direct'] looks like a transaction pooler (PORT is 6432), got " in (
        checked.text
    )
    assert "W007" in mapped.ids


@needs_psycopg
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"PORT": ""},
        {"PORT": 5432, "OPTIONS": {"pool": {"max_size": 20}}},
        {"HOST": "spooler.internal"},
        {"HOST": "poolers-choice.internal"},
        {"DISABLE_SERVER_SIDE_CURSORS": False},
    ],
    ids=str,
)
def test_a_server_itself_is_no_pooler(project: Project, closed_port: int, values: dict[str, Any]):
    project.write({"DATABASES.bulk": {**postgresql(closed_port), **values}})

    (checked,) = project.run(CHECK)

    assert checked.text == SILENCE


@needs_psycopg
@pytest.mark.parametrize(
    "changes",
    [
        {"TASKS.bulk.OPTIONS.listen_notify": False},
        {LISTEN: "direct"},
        {"TASKS.bulk.OPTIONS.database_alias": "queue"},
    ],
    ids=str,
)
def test_a_pooler_that_nobody_listens_through_is_well(
    project: Project, closed_port: int, changes: dict[str, Any]
):
    direct = postgresql(closed_port)
    project.write({"DATABASES.bulk": postgresql(6432), "DATABASES.direct": direct, **changes})

    (checked,) = project.run(CHECK)

    assert checked.text == SILENCE


def test_jobs_seen_through_the_alias_to_listen_on_are_not_stranded(migrated: Project):
    if "postgresql" not in migrated.databases["bulk"]["ENGINE"]:
        pytest.skip("needs notifications: this database has none")
    direct = {"DATABASES.direct": migrated.databases["bulk"]}
    migrated.write({**direct, LISTEN: "direct"})
    migrated.run(ENQUEUE)
    (listening,) = migrated.run("dj_queue_routes --json")
    migrated.write(direct)
    (forgotten,) = migrated.run("dj_queue_routes --json")

    # The two aliases have one address, as an alias to listen on may.
    assert listening.ids == []
    assert forgotten.ids == ["W001", "W101"]
