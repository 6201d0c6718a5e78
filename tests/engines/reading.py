"""What statements read, and how they find it: the plan in each vendor's words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

from dj_queue.models import (
    BlockedExecution,
    ClaimedExecution,
    Job,
    ReadyExecution,
    ScheduledExecution,
    Semaphore,
    Slot,
)
from dj_queue.routers import QueueDatabase

Statement = tuple[str, Any]
"""SQL and its parameters."""

STATES = (ReadyExecution, ScheduledExecution, ClaimedExecution, BlockedExecution)
MODELS = (Job, *STATES, Semaphore, Slot)
BIG = sorted(model._meta.db_table for model in MODELS)
"""The tables that are big in these tests: no row of them may be met by chance."""


@contextmanager
def undone(db: QueueDatabase) -> Iterator[None]:
    """Roll back what the block does."""
    with db.atomic():
        yield
        transaction.set_rollback(True, using=db.alias)


def cost_of(db: QueueDatabase, work: Callable[[], Any]) -> int:
    """Do the work and undo it; count the rows it read, on SQLite the steps that took."""
    return COSTS[db.vendor](db, work)


def faults_of(db: QueueDatabase, work: Callable[[], Any]) -> list[str]:
    """Do the work and undo it; give what the plans of its statements should not have.

    Of a big table that is: reading all of it, and sorting what was read.
    """
    statements = sent_by(db, work)
    assert statements
    return FAULTS[db.vendor](db, statements)


def sent_by(db: QueueDatabase, work: Callable[[], Any]) -> list[Statement]:
    """Do the work and undo it; give the statements that looked for rows."""
    sent: list[Statement] = []

    def note(execute, sql, params, many, context):
        if not many and sql.split()[0] in ("SELECT", "DELETE", "WITH", "(", "BEGIN"):
            sent.append((sql, params))
        return execute(sql, params, many, context)

    with undone(db), db.connection.execute_wrapper(note):
        work()
    return sent


def explained(db: QueueDatabase, how: str, statements: list[Statement]) -> list[Any]:
    """Explain statements one after the other, and undo them; give the lines of each as dicts."""
    plans = []
    with undone(db), db.cursor() as cursor:
        for sql, params in statements:
            cursor.execute(f"{how} {sql}", params)
            names = [column[0] for column in cursor.description]
            plans.append([dict(zip(names, line, strict=True)) for line in cursor.fetchall()])
    return plans


def postgresql_nodes(db: QueueDatabase, statements: list[Statement]) -> list[dict[str, Any]]:
    """Run statements with EXPLAIN ANALYZE; give the nodes that scan a big table."""
    nodes = []
    plans = explained(db, "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON)", statements)
    left = [line["QUERY PLAN"][0]["Plan"] for [line] in plans]
    while left:
        node = left.pop()
        left += node.get("Plans", ())
        if "Scan" in node["Node Type"] and node.get("Relation Name") in BIG:
            nodes.append(node)
    return nodes


def postgresql_cost(db: QueueDatabase, work: Callable[[], Any]) -> int:
    counted = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    return sum(
        sum(node.get(name, 0) for name in counted) * node["Actual Loops"]
        for node in postgresql_nodes(db, sent_by(db, work))
    )


def postgresql_faults(db: QueueDatabase, statements: list[Statement]) -> list[str]:
    # What is sorted has been scanned before, and is in the cost.
    nodes = postgresql_nodes(db, statements)
    return [str(node) for node in nodes if node["Node Type"] == "Seq Scan"]


def mysql_cost(db: QueueDatabase, work: Callable[[], Any]) -> int:
    def rows() -> int:
        with db.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
            return sum(int(count) for _, count in cursor.fetchall())

    # Asking reads rows as well.
    first, start = rows(), rows()
    with undone(db):
        work()
    return (rows() - start) - (start - first)


def mysql_faults(db: QueueDatabase, statements: list[Statement]) -> list[str]:
    how = "EXPLAIN" if db.connection.mysql_is_mariadb else "EXPLAIN FORMAT=TRADITIONAL"
    # A compound statement has no plan: what it reads is in the cost.
    simple = [each for each in statements if not each[0].startswith("BEGIN")]
    lines = [line for plan in explained(db, how, simple) for line in plan]
    return [
        str(line)
        for line in lines
        if line["table"] in BIG
        and (line["type"] in ("ALL", "index") or "filesort" in (line["Extra"] or ""))
    ]


def sqlite_cost(db: QueueDatabase, work: Callable[[], Any]) -> int:
    steps: list[int] = []
    connection = db.connection.connection
    # Called before each step of SQLite's virtual machine, of which every row takes some.
    connection.set_progress_handler(lambda: steps.append(1), 1)
    try:
        with undone(db):
            work()
    finally:
        connection.set_progress_handler(None, 1)
    return len(steps)


def sqlite_faults(db: QueueDatabase, statements: list[Statement]) -> list[str]:
    faults = []
    for plan in explained(db, "EXPLAIN QUERY PLAN", statements):
        reads = [line for line in plan if set(line["detail"].split()) & set(BIG)]
        # By its primary key, an "autoindex", one row is found. The arms of a union are below
        # what sorts their rows, and these are no more than the arms are limited to.
        many = {line["parent"] for line in reads if "autoindex" not in line["detail"]}
        sorts = [line for line in plan if "TEMP B-TREE" in line["detail"]]
        faults += [line["detail"] for line in reads if not line["detail"].startswith("SEARCH")]
        faults += [line["detail"] for line in sorts if line["parent"] in many]
    return faults


COSTS = {"postgresql": postgresql_cost, "mysql": mysql_cost, "sqlite": sqlite_cost}
FAULTS = {"postgresql": postgresql_faults, "mysql": mysql_faults, "sqlite": sqlite_faults}
