"""Whether a driver is in a transaction, whatever Django has noted; without a round trip."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

IN_TRANSACTION = {2, 3}  # libpq's INTRANS and INERROR
MAY_HAVE_BEGUN = "dj_queue_may_have_begun"
BEGINS_NONE = (
    *(b"SELECT ", b"INSERT ", b"UPDATE ", b"DELETE ", b"REPLACE ", b"WITH ", b"SHOW "),
    *(b"SAVEPOINT ", b"RELEASE SAVEPOINT ", b"ROLLBACK TO SAVEPOINT "),
)
PROBE = "SET TRANSACTION READ WRITE"
CANNOT_CHANGE_NOW = 1568  # ER_CANT_CHANGE_TX_CHARACTERISTICS: in a transaction


def is_open(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a connection that Django has in autocommit mode is not, or is in a transaction.

    Of MySQL and MariaDB the server is asked, if a statement since `watch` may have begun one.
    """
    asking = {"postgresql": _postgresql, "sqlite": _sqlite, "mysql": _mysql}
    ask = asking.get(connection.vendor)
    if ask is None:
        return False
    with connection.wrap_database_errors:
        return ask(connection.connection)


def watch(connection: BaseDatabaseWrapper) -> None:
    """Look out from now on for what may begin a transaction, where a driver does not tell.

    That is mysqlclient, of whose statements each costs a fraction of a microsecond more.
    """
    driver = connection.connection
    if connection.vendor != "mysql" or driver is None:
        return
    if not hasattr(driver, MAY_HAVE_BEGUN):
        # A weak reference: the driver's connection would hold itself.
        driver.query = partial(_query, ref(driver), type(driver).query)
    setattr(driver, MAY_HAVE_BEGUN, False)


def has_ended(connection: BaseDatabaseWrapper) -> None:
    """Note that a transaction which was begun by a statement has ended by another."""
    if hasattr(connection.connection, MAY_HAVE_BEGUN):
        setattr(connection.connection, MAY_HAVE_BEGUN, False)


def _postgresql(driver: Any) -> bool:
    if not driver.autocommit:
        return True
    protocol = getattr(driver, "pgconn", None)  # psycopg2 has none
    status = protocol.transaction_status if protocol else driver.get_transaction_status()
    return status in IN_TRANSACTION


def _sqlite(driver: Any) -> bool:
    # The attribute is there since Python 3.12, and no bool where isolation_level counts.
    is_manual = getattr(driver, "autocommit", None) is False
    return driver.in_transaction or driver.isolation_level is not None or is_manual


def _mysql(driver: Any) -> bool:
    if not driver.get_autocommit():
        return True
    if not getattr(driver, MAY_HAVE_BEGUN, False):
        return False
    with driver.cursor() as cursor:
        if "mariadb" in driver.get_server_info().lower():
            cursor.execute("SELECT @@in_transaction")
            return bool(cursor.fetchone()[0])
        # MySQL has no variable for it, but refuses this in a transaction.
        try:
            cursor.execute(PROBE)
        except Exception as error:
            if error.args[:1] == (CANNOT_CHANGE_NOW,):
                return True
            raise
    driver.rollback()  # It was meant for the next transaction.
    setattr(driver, MAY_HAVE_BEGUN, False)
    return False


def _query(driver: Any, query: Callable[..., Any], sql: Any, *more: Any) -> Any:
    found = driver()
    text = sql.encode(errors="replace") if isinstance(sql, str) else sql
    if b";" in text or not text[:24].upper().startswith(BEGINS_NONE):
        with suppress(AttributeError):
            setattr(found, MAY_HAVE_BEGUN, True)
    return query(found, sql, *more)
