"""The pytest plugin `dj_queue`: a mark that opens the queue databases to a test.

pytest loads it wherever dj_queue is installed, so it imports Django for a marked test only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

MARK = (
    "dj_queue: let the test use every queue database of TASKS as well, besides the databases that "
    "its django_db mark or its TestCase class names; implies django_db."
)
DATABASES_POSITION = 2  # in django_db(transaction, reset_sequences, databases, …)


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    config.addinivalue_line("markers", MARK)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Add the queue databases to a marked test, before pytest-django looks at its databases."""
    mark = item.get_closest_marker("dj_queue")
    if mark is None:
        return
    if mark.args or mark.kwargs:
        raise pytest.UsageError(
            f"{item.nodeid}: expected the mark dj_queue without arguments, got {mark.args}, "
            f"{mark.kwargs}: give them to the mark django_db"
        )
    aliases = _queue_databases(item)
    test_class = _django_test_class(item)
    if test_class is None:
        _mark_databases(item, aliases)
    else:
        test_class.databases = _together(test_class.databases, aliases)


def _queue_databases(item: pytest.Item) -> tuple[str, ...]:
    from django.core.exceptions import ImproperlyConfigured

    from dj_queue.routers import registry

    try:
        return registry.databases()
    except ImproperlyConfigured as error:
        raise pytest.UsageError(
            f"{item.nodeid}: the mark dj_queue needs the project's settings: {error}"
        ) from error


def _django_test_class(item: pytest.Item) -> Any:
    from django.test import SimpleTestCase, TransactionTestCase

    test_class = getattr(item, "cls", None)
    if test_class is None or not issubclass(test_class, SimpleTestCase):
        return None
    if not issubclass(test_class, TransactionTestCase):
        raise pytest.UsageError(
            f"{item.nodeid}: expected the mark dj_queue on a TestCase or TransactionTestCase, got "
            f"a {test_class.__base__.__name__}, after which rows would stay in the database"
        )
    return test_class


def _mark_databases(item: pytest.Item, aliases: Iterable[str]) -> None:
    known = [line.partition("(")[0].partition(":")[0] for line in item.config.getini("markers")]
    if "django_db" not in known:
        raise pytest.UsageError(
            f"{item.nodeid}: the mark dj_queue needs pytest-django, got none: "
            "pip install pytest-django"
        )
    mark = item.get_closest_marker("django_db")
    args: list[Any] = [*mark.args] if mark else []
    kwargs: dict[str, Any] = {**mark.kwargs} if mark else {}
    if len(args) > DATABASES_POSITION:
        args[DATABASES_POSITION] = _together(args[DATABASES_POSITION], aliases)
    else:
        kwargs["databases"] = _together(kwargs.get("databases"), aliases)
    # In front, where pytest-django finds it first.
    item.add_marker(pytest.mark.django_db(*args, **kwargs), append=False)


def _together(databases: Any, aliases: Iterable[str]) -> Any:
    if databases == "__all__":
        return databases
    return {*(["default"] if databases is None else databases), *aliases}
