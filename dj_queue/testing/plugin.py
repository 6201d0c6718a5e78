"""The pytest plugin `dj_queue`: a mark that opens the queue databases to a test.

pytest loads it wherever dj_queue is installed, so it imports Django for a marked test only.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import pytest

MARK = (
    "dj_queue: let the test use every queue database of TASKS as well, besides the databases that "
    "its django_db mark or its TestCase class names; implies django_db."
)
HINT = (
    "{}. Mark the test with @pytest.mark.dj_queue: then it may use every queue database, beside "
    "those that its django_db mark or its TestCase class names."
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say beside a refused query that there is the mark: the refusal's own hint does not help."""
    report = yield
    if call.excinfo is not None and item.get_closest_marker("dj_queue") is None:
        for error in _chain(call.excinfo.value):
            alias = _refused_database(error)
            if alias is not None:
                report.sections.append(("dj_queue", HINT.format(alias)))
                break
    return report


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _refused_database(error: BaseException) -> str | None:
    """Return what the test would have had to open, as text, or None for another error."""
    from dj_queue.quoting import text_of

    text = text_of(error)  # Its own str() may raise, which would end the whole run.
    refused = re.match(r"Database [a-z ]+ to '([^']+)' are not allowed in this test", text)
    if refused and refused[1] in _registry_databases():
        return f"{refused[1]!r} is a queue database"
    if text.startswith("Database access not allowed") and _is_ours(error):
        return "dj_queue was asked for a queue database"
    return None


def _is_ours(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith("dj_queue."):
            return True
        trace = trace.tb_next
    return False


def _registry_databases() -> tuple[str, ...]:
    from dj_queue.routers import registry

    return registry.databases()


def _queue_databases(item: pytest.Item) -> tuple[str, ...]:
    from django.core.exceptions import ImproperlyConfigured

    try:
        return _registry_databases()
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
