"""What settings alone can have wrong, each planted in a project, beside its healthy twin."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from dj_queue import DOCUMENTATION
from tests.faults.project import OURS, ROUTER, Project

ROUTES = "dj_queue_routes --check --json"
SILENCE = "System check identified no issues (0 silenced)."
MINE = "depot.backends.DepotBackend"


@dataclass(frozen=True)
class Fault:
    """Changes of healthy settings that are a fault, and those that are none but look alike."""

    id: str
    says: str
    changes: dict[str, Any]
    twin: dict[str, Any] = field(default_factory=dict)


def routers(*names: str) -> dict[str, Any]:
    """Change the routers; a bare name is one of the project's."""
    paths = [name if "." in name else f"depot.routers.{name}" for name in names]
    return {"DATABASE_ROUTERS": paths}


def backends(alias: str) -> dict[str, Any]:
    """Put both backends on one database."""
    return {f"TASKS.{name}.OPTIONS.database_alias": alias for name in ("default", "bulk")}


FAULTS = {
    "a wrong option": Fault(
        "E001",
        "TASKS['bulk']['OPTIONS']['workers'][0]['threads']: expected a whole number",
        {"TASKS.bulk.OPTIONS.workers": [{"threads": 0}]},
        twin={"TASKS.bulk.OPTIONS.workers": [{"threads": 1}]},
    ),
    "an unknown option": Fault(
        "E001",
        "TASKS['bulk']['OPTIONS']['colour']: expected one of database_alias",
        {"TASKS.bulk.OPTIONS.colour": "red"},
    ),
    "an option beside OPTIONS": Fault(
        "E001",
        "TASKS['bulk']['database_alias']: expected one of BACKEND, QUEUES, OPTIONS, got an unknown "
        "key: did you mean TASKS['bulk']['OPTIONS']['database_alias']?",
        {"TASKS.bulk.database_alias": "bulk"},
    ),
    "a key of older packages": Fault(
        "E001",
        "TASKS['bulk']['ENQUEUE_ON_COMMIT']: expected no such key,",
        {"TASKS.bulk.ENQUEUE_ON_COMMIT": False},
    ),
    "an unknown alias": Fault(
        "E002",
        "TASKS['bulk']['OPTIONS']['database_alias']: expected an alias of DATABASES ('default', "
        "'queue', 'bulk'), got 'blk'",
        {"TASKS.bulk.OPTIONS.database_alias": "blk"},
        twin={"TASKS.bulk.OPTIONS.database_alias": "queue"},
    ),
    "no router": Fault(
        "E003",
        "because queue databases ('queue', 'bulk') are not 'default', got none",
        routers(),
        twin={**routers(), **backends("default")},
    ),
    "our router behind one that answers first": Fault(
        "E004",
        "of backend 'bulk' to 'bulk', got 'default' from depot.routers.PrimaryRouter, which "
        "answers first",
        routers("PrimaryRouter", ROUTER),
        twin=routers(ROUTER, "PrimaryRouter"),
    ),
    "a constant router in front": Fault(
        "E004",
        "db_for_write to send dj_queue.Job of backend 'bulk' to 'bulk', got 'queue' from "
        "depot.routers.ConstantRouter",
        routers("ConstantRouter", ROUTER),
        twin={**routers("ConstantRouter", ROUTER), **backends("queue")},
    ),
    "a router that keeps our tables away": Fault(
        "E004",
        "expected allow_migrate to put dj_queue's tables on 'bulk', got False",
        routers("ReservingRouter", ROUTER),
        twin=routers("DepotReservingRouter", ROUTER),
    ),
    "reads from a replica": Fault(
        "E005",
        "of backend 'bulk' on one database, got 'default' for reading and 'bulk' for writing",
        routers("ReplicaRouter", ROUTER),
        twin=routers("DepotReplicaRouter", ROUTER),
    ),
    "a mirror": Fault(
        "E006",
        "expected DATABASES['bulk']['TEST']['MIRROR'] to be None for a queue database, got 'queue'",
        {"DATABASES.bulk.TEST": {"MIRROR": "queue"}},
        twin={"DATABASES.bulk.TEST": {"MIRROR": "queue"}, **backends("queue")},
    ),
    "a vendor without an engine": Fault(
        "E007",
        "expected DATABASES['bulk']['ENGINE'] to be PostgreSQL, MySQL, MariaDB or SQLite for a "
        "queue database, got 'cobol'",
        {"DATABASES.bulk": {"ENGINE": "cobol", "NAME": ":memory:"}},
        twin={"DATABASES.default": {"ENGINE": "cobol", "NAME": ":memory:"}},
    ),
    "requests in a queue transaction": Fault(
        "W004",
        "expected DATABASES['bulk']['ATOMIC_REQUESTS'] to be False",
        {"DATABASES.bulk.ATOMIC_REQUESTS": True},
        # The application's is W010, wherever a queue is apart.
        twin={"DATABASES.default.ATOMIC_REQUESTS": False},
    ),
    "requests in a transaction without their jobs": Fault(
        "W010",
        "expected DATABASES['default']['ATOMIC_REQUESTS'] to be False where jobs are kept on "
        "another database, got True: what a view enqueues to backends 'default', 'bulk' is",
        {"DATABASES.default.ATOMIC_REQUESTS": True},
        twin={"DATABASES.default.ATOMIC_REQUESTS": False},
    ),
    "requests in a transaction with some of their jobs": Fault(
        "W010",
        "what a view enqueues to backend 'bulk' is",
        {
            "DATABASES.default.ATOMIC_REQUESTS": True,
            "TASKS.default.OPTIONS.database_alias": "default",
        },
    ),
    "nothing is committed": Fault(
        "E014",
        "expected DATABASES['bulk']['AUTOCOMMIT'] to be True for a queue database, got False",
        {"DATABASES.bulk.AUTOCOMMIT": False},
        twin={"DATABASES.default.AUTOCOMMIT": False},
    ),
}


OF_A_SUBCLASS = ["an unknown alias", "a constant router in front", "reads from a replica"]
PLANTED = [(name, OURS) for name in FAULTS] + [(name, MINE) for name in OF_A_SUBCLASS]
NAMES = [f"{name}, {path.rpartition('.')[2]}" for name, path in PLANTED]


@pytest.mark.parametrize(("name", "backend"), PLANTED, ids=NAMES)
def test_the_fault_is_named_by_check_and_by_the_map(project: Project, name: str, backend: str):
    fault = FAULTS[name]
    project.write({**fault.changes, "TASKS.bulk.BACKEND": backend})

    checked, mapped = project.run("check --fail-level WARNING", ROUTES)

    assert (checked.status, mapped.status) == (1, 1)
    assert f"(dj_queue.{fault.id})" in checked.text
    assert fault.says in checked.text
    assert f"{DOCUMENTATION}checks/{fault.id}.html" in checked.text
    assert fault.id in mapped.ids
    assert any(fault.says in each["message"] for each in mapped.json["problems"])


@pytest.mark.parametrize(("name", "backend"), PLANTED, ids=NAMES)
def test_the_healthy_twin_is_silent(project: Project, name: str, backend: str):
    project.write({**FAULTS[name].twin, "TASKS.bulk.BACKEND": backend})

    (checked,) = project.run("check --fail-level WARNING")

    assert (checked.status, checked.text) == (0, SILENCE)
