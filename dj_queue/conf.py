"""OPTIONS of a backend as frozen dataclasses: the one place for names, defaults and bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from dj_queue.exceptions import InvalidOption

NAME_LENGTH = 64
"""Longest name of a backend or queue, in characters."""

PATH_LENGTH = 255
"""Longest path of a task, in characters."""

QUEUE_NAME = f"1 to {NAME_LENGTH} characters, without NUL, space around them or '*' at the end"
"""What a queue may be called, in words."""

Parser = Callable[[Any, str], Any]
"""Takes a raw value and its path, returns the checked value or raises InvalidOption."""


def is_queue_name(name: object) -> bool:
    """Tell whether every vendor keeps this name exactly and a selector can mean it alone."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= NAME_LENGTH
        and name == name.strip()
        and not name.endswith("*")
        and "\x00" not in name  # PostgreSQL cannot keep it
    )


def expected(path: str, what: str, got: object) -> InvalidOption:
    """Build the error for one bad setting."""
    return InvalidOption(f"{path}: expected {what}, got {got!r}")


def flag(value: Any, path: str) -> bool:
    """Accept True or False."""
    if not isinstance(value, bool):
        raise expected(path, "True or False", value)
    return value


def alias(value: Any, path: str) -> str:
    """Accept the name of a database; whether it exists is the router's business."""
    if not isinstance(value, str) or not value:
        raise expected(path, "the alias of a database in DATABASES", value)
    return value


def alias_or_none(value: Any, path: str) -> str | None:
    """Accept the name of a database, or None."""
    if value is not None and (not isinstance(value, str) or not value):
        raise expected(path, "the alias of a database in DATABASES, or None", value)
    return value


def whole(minimum: int, maximum: int) -> Parser:
    """Accept a whole number within bounds, both inclusive."""

    def parse(value: Any, path: str) -> int:
        if type(value) is not int or not minimum <= value <= maximum:
            raise expected(path, f"a whole number from {minimum} to {maximum}", value)
        return value

    return parse


def seconds(minimum: float, maximum: float) -> Parser:
    """Accept a finite number of seconds within bounds, both inclusive."""

    def parse(value: Any, path: str) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not minimum <= value <= maximum:
            raise expected(path, f"a number of seconds from {minimum} to {maximum}", value)
        return float(value)

    return parse


def selectors(value: Any, path: str) -> tuple[str, ...]:
    """Accept a selector or a list of them: `"*"`, an exact name, or `"prefix*"`."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not listed:
        raise expected(path, "'*', a queue name, 'prefix*' or a list of these", value)
    for index, selector in enumerate(listed):
        if selector == "*":
            continue
        if not isinstance(selector, str) or not is_queue_name(selector.removesuffix("*")):
            what = f"'*', a queue name or the beginning of one and '*' ({QUEUE_NAME})"
            raise expected(f"{path}[{index}]", what, selector)
    return tuple(listed)


def option(default: Any, parser: Parser) -> Any:
    """Declare one option of a section."""
    return field(default=default, metadata={"parser": parser})


def section(kind: type) -> Parser:
    """Accept a dict of the section's options."""
    return lambda value, path: read_section(kind, value, path)


def sections(kind: type) -> Parser:
    """Accept a list of such dicts, at least one."""

    def parse(value: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or not value:
            raise expected(path, "a list of dicts, at least one", value)
        return tuple(read_section(kind, item, f"{path}[{i}]") for i, item in enumerate(value))

    return parse


@dataclass(frozen=True)
class WorkerOptions:
    """One entry of `workers`: threads that claim from the same selectors."""

    queues: tuple[str, ...] = option(("*",), selectors)
    threads: int = option(3, whole(1, 1000))
    polling_interval: float = option(0.1, seconds(0.001, 3600))


@dataclass(frozen=True)
class DispatcherOptions:
    """`dispatcher`: makes due jobs ready, up to `batch_size` at a time."""

    batch_size: int = option(500, whole(1, 10_000))
    polling_interval: float = option(1.0, seconds(0.001, 3600))


@dataclass(frozen=True)
class BackendOptions:
    """OPTIONS of one backend."""

    database_alias: str = option("default", alias)
    listen_database_alias: str | None = option(None, alias_or_none)
    dedicated: bool = option(False, flag)
    workers: tuple[WorkerOptions, ...] = option((WorkerOptions(),), sections(WorkerOptions))
    dispatcher: DispatcherOptions = option(DispatcherOptions(), section(DispatcherOptions))
    preserve_finished_jobs: bool = option(True, flag)
    use_skip_locked: bool = option(True, flag)
    listen_notify: bool = option(True, flag)
    shutdown_timeout: float = option(5.0, seconds(0, 86_400))


def read_options(backend: str, params: Mapping[str, Any]) -> BackendOptions:
    """Read `TASKS[backend]`; raise InvalidOption that lists every problem, one a line."""
    problems = []
    if not 0 < len(backend) <= NAME_LENGTH:
        what = f"a backend name of 1 to {NAME_LENGTH} characters"
        problems.append(str(expected("TASKS", what, backend)))
    queues = params.get("QUEUES", [])
    is_list = isinstance(queues, list | tuple | set | frozenset)
    if not is_list or not all(map(is_queue_name, queues)):
        what = f"a list of queue names ({QUEUE_NAME})"
        problems.append(str(expected(f"TASKS[{backend!r}]['QUEUES']", what, queues)))
    try:
        path = f"TASKS[{backend!r}]['OPTIONS']"
        options: BackendOptions = read_section(BackendOptions, params.get("OPTIONS", {}), path)
    except InvalidOption as error:
        problems.append(str(error))
    if problems:
        raise InvalidOption("\n".join(problems))
    return options


def read_section(kind: type, raw: Any, path: str) -> Any:
    """Build the dataclass from a dict; raise InvalidOption with every problem, one a line."""
    if not isinstance(raw, Mapping):
        raise expected(path, "a dict", raw)
    known = {each.name: each for each in fields(kind)}
    values, problems = {}, []
    for name, value in raw.items():
        try:
            if name not in known:
                raise InvalidOption(
                    f"{path}[{name!r}]: expected one of {', '.join(known)}, got an unknown option"
                )
            values[name] = known[name].metadata["parser"](value, f"{path}[{name!r}]")
        except InvalidOption as error:
            problems.append(str(error))
    if problems:
        raise InvalidOption("\n".join(problems))
    return kind(**values)
