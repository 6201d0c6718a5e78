"""Databases that settings name by a service, an options file or a link: the server knows them."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults.project import Project
from tests.faults.test_live_faults import CHECK, CHECK_ALL, ROUTES, SILENCE
from tests.faults.test_more_static_faults import needs_psycopg

KEYS = {"NAME": "dbname", "HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password"}


def named_elsewhere(project: Project, alias: str, other: str) -> dict[str, Any]:
    """Give an entry of DATABASES for the database of `alias` whose NAME and HOST say nothing."""
    config = dict(project.databases[alias])
    name = f"{alias}_{other}"
    if "sqlite" in config["ENGINE"]:
        link = Path(project.directory) / f"{name}.sqlite3"
        os.link(config["NAME"], link)
        return {**config, "NAME": str(link)}
    file = Path(project.directory) / name
    values = {KEYS[key]: str(config[key]) for key in KEYS if config.get(key)}
    if "mysql" in config["ENGINE"]:
        values["database"] = values.pop("dbname")
    section = name if "postgresql" in config["ENGINE"] else "client"
    lines = [f"{key}={value}" for key, value in values.items()]
    file.write_text("\n".join([f"[{section}]", *lines]) + "\n")
    plain = {**config, **dict.fromkeys(KEYS, "")}
    if "mysql" in config["ENGINE"]:
        return {**plain, "OPTIONS": {**config.get("OPTIONS", {}), "read_default_file": str(file)}}
    services = Path(project.directory) / "services"
    with services.open("a") as all_services:
        all_services.write(file.read_text())
    return {**plain, "OPTIONS": {**config.get("OPTIONS", {}), "service": section}}


def write(project: Project, changes: dict[str, Any]) -> None:
    """Write settings that know the project's services."""
    project.write(changes)
    with (project.directory / "settings.py").open("a") as settings:
        path = str(Path(project.directory) / "services")
        settings.write(f"import os\nos.environ['PGSERVICEFILE'] = {path!r}\n")


@pytest.fixture
def indirect(migrated: Project) -> Project:
    """Give the healthy project, with both queue databases named where settings cannot see it."""
    changes = {f"DATABASES.{it}": named_elsewhere(migrated, it, "self") for it in ("queue", "bulk")}
    write(migrated, {**changes, "SILENCED_SYSTEM_CHECKS": ["dj_queue.W003"]})
    return migrated


def test_different_databases_are_not_taken_for_one(indirect: Project):
    checked, mapped = indirect.run(CHECK_ALL, ROUTES)

    assert checked.text == SILENCE
    assert (mapped.status, mapped.ids) == (0, [])


def test_one_database_under_two_aliases_is_named_where_only_its_server_knows(migrated: Project):
    again = named_elsewhere(migrated, "queue", "again")
    write(migrated, {"DATABASES.again": again, "SILENCED_SYSTEM_CHECKS": ["dj_queue.W003"]})

    static, checked, mapped = migrated.run(
        "check --fail-level WARNING",
        f"{CHECK} --database again --database queue --database bulk",
        ROUTES,
    )

    assert static.text == SILENCE
    assert checked.status == 1
    assert (
        "(dj_queue.W106) expected each alias to be a database of its own, got 'queue' and 'again'"
    ) in checked.text
    assert mapped.ids == ["W106"]


def test_the_application_on_a_queue_database_is_named_too(migrated: Project):
    default = named_elsewhere(migrated, "queue", "default")
    write(migrated, {"DATABASES.default": default, "SILENCED_SYSTEM_CHECKS": ["dj_queue.W003"]})

    (mapped,) = migrated.run(ROUTES)

    assert "got 'queue' and 'default' on one and the same" in mapped.text
    assert "W106" in mapped.ids


@needs_psycopg
@pytest.mark.parametrize("how", ["listen", "read"])
def test_an_alias_that_is_meant_to_lead_there_is_none_of_a_pair(migrated: Project, how: str):
    if "postgresql" not in migrated.databases["queue"]["ENGINE"]:
        pytest.skip("needs notifications: this database has none")
    other = {**migrated.databases["queue"], "OPTIONS": {"options": "-c application_name=other"}}
    option = f"TASKS.default.OPTIONS.{how}_database_alias"
    migrated.write({"DATABASES.other": other, option: "other"})
    (different,) = migrated.run(ROUTES)
    migrated.write({"DATABASES.other": migrated.databases["queue"], option: "other"})
    (same,) = migrated.run(ROUTES)

    assert (different.ids, same.ids) == ([], [])


def test_two_schemas_of_one_database_are_two_places(empty: Project):
    if "postgresql" not in empty.databases["queue"]["ENGINE"]:
        pytest.skip("needs schemas: this database has none")
    shared = empty.databases["queue"]
    aliases = ("default", "queue", "bulk")
    places = {
        f"DATABASES.{it}": {**shared, "OPTIONS": {"options": f"-c search_path=schema_{it}"}}
        for it in aliases
    }
    code = "; ".join(f"cursor.execute('CREATE SCHEMA schema_{it}')" for it in aliases)
    cursor = "from django.db import connection; cursor = connection.cursor(); "
    empty.write(places)

    made, migrated, mapped, checked = empty.run(
        f"-c {cursor}{code}", "dj_queue_migrate", ROUTES, CHECK_ALL
    )

    assert (made.status, migrated.status) == (0, 0), made.text + migrated.text
    assert (mapped.status, mapped.ids, checked.text) == (0, [], SILENCE)
