"""OPTIONS of a backend as frozen dataclasses: the one place for names, defaults and bounds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from dj_queue.exceptions import InvalidOption
from dj_queue.parsers import (
    LONGEST_DURATION,
    MISFIRES,
    NAME_LENGTH,
    PATH_LENGTH,
    QUEUE_NAME,
    SCHEDULE_LENGTH,
    TIMEZONE_LENGTH,
    Parser,
    alias,
    alias_or_none,
    expected,
    flag,
    flag_or_none,
    is_queue_name,
    is_storable,
    named,
    one_of,
    or_none,
    positional,
    queue_name,
    seconds,
    seconds_or_none,
    selectors,
    text,
    whole,
)


def option(default: Any, parser: Parser) -> Any:
    """Declare one option of a section."""
    return field(default=default, metadata={"parser": parser})


def required(parser: Parser) -> Any:
    """Declare one option of a section that has no default."""
    return field(metadata={"parser": parser})


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


def keyed(kind: type) -> Parser:
    """Accept a dict of such dicts by key; keys are what queues may be called."""

    def parse(value: Any, path: str) -> tuple[tuple[str, Any], ...]:
        if not isinstance(value, Mapping):
            raise expected(path, "a dict of dicts", value)
        for key in value:
            if not is_queue_name(key):
                raise expected(path, f"keys of {QUEUE_NAME}", key)
        return tuple(
            (key, read_section(kind, each, f"{path}[{key!r}]")) for key, each in value.items()
        )

    return parse


@dataclass(frozen=True)
class WorkerOptions:
    """One entry of `workers`: threads and an event loop that claim from the same selectors."""

    queues: tuple[str, ...] = option(("*",), selectors)
    threads: int = option(3, whole(1, 1000))
    concurrency: int = option(0, whole(0, 10_000))
    processes: int = option(1, whole(1, 1000))
    polling_interval: float = option(0.1, seconds(0.001, 3600))


@dataclass(frozen=True)
class DispatcherOptions:
    """`dispatcher`: makes due jobs ready, up to `batch_size` at a time."""

    batch_size: int = option(500, whole(1, 10_000))
    polling_interval: float = option(1.0, seconds(0.001, 3600))


@dataclass(frozen=True)
class SchedulerOptions:
    """`scheduler`: fires recurring tasks.

    An instant is missed when it has not fired `misfire_after` seconds later; after `misfire_limit`
    seconds it never fires, whatever the task's policy is.
    """

    polling_interval: float = option(5.0, seconds(0.001, 3600))
    dynamic_tasks_enabled: bool = option(True, flag)
    misfire_after: float = option(60.0, seconds(1, 86_400))
    misfire_limit: float = option(86_400.0, seconds(0, 366 * 86_400))


@dataclass(frozen=True)
class RecurringOptions:
    """One entry of `recurring`: what to enqueue when.

    None stands for the task's own queue and priority, and for Django's TIME_ZONE.
    """

    task_path: str = required(text("the path of a task", PATH_LENGTH))
    schedule: str = required(text("a cron expression", SCHEDULE_LENGTH))
    args: tuple[Any, ...] = option((), positional)
    kwargs: Mapping[str, Any] = field(default_factory=dict, metadata={"parser": named})
    queue_name: str | None = option(None, or_none(queue_name))
    priority: int | None = option(None, or_none(whole(-100, 100)))
    timezone: str | None = option(None, or_none(text("a time zone", TIMEZONE_LENGTH)))
    misfire: str = option("latest", one_of(*MISFIRES))


@dataclass(frozen=True)
class BackendOptions:
    """OPTIONS of one backend."""

    database_alias: str = option("default", alias)
    read_database_alias: str | None = option(None, alias_or_none)
    listen_database_alias: str | None = option(None, alias_or_none)
    dedicated: bool | None = option(None, flag_or_none)
    workers: tuple[WorkerOptions, ...] = option((WorkerOptions(),), sections(WorkerOptions))
    dispatcher: DispatcherOptions = option(DispatcherOptions(), section(DispatcherOptions))
    scheduler: SchedulerOptions = option(SchedulerOptions(), section(SchedulerOptions))
    recurring: tuple[tuple[str, RecurringOptions], ...] = option((), keyed(RecurringOptions))
    preserve_finished_jobs: bool = option(True, flag)
    clear_finished_jobs_after: float | None = option(86_400.0, seconds_or_none(0, 3_155_760_000))
    clear_failed_jobs_after: float | None = option(None, seconds_or_none(0, 3_155_760_000))
    default_concurrency_duration: float = option(180.0, seconds(1, LONGEST_DURATION))
    use_skip_locked: bool = option(True, flag)
    listen_notify: bool = option(True, flag)
    process_heartbeat_interval: float = option(60.0, seconds(0.05, 86_400))
    process_alive_threshold: float = option(300.0, seconds(0.1, 604_800))
    shutdown_timeout: float = option(5.0, seconds(0, 86_400))


KEYS = ("BACKEND", "QUEUES", "OPTIONS")
"""What an entry of TASKS has."""


def read_options(backend: str, params: Mapping[str, Any]) -> BackendOptions:
    """Read `TASKS[backend]`; raise InvalidOption that lists every problem, one a line."""
    problems = [
        _unknown(name, f"TASKS[{backend!r}]", KEYS, "key") for name in params if name not in KEYS
    ]
    if not 0 < len(backend) <= NAME_LENGTH:
        what = f"a backend name of 1 to {NAME_LENGTH} characters"
        problems.append(str(expected("TASKS", what, backend)))
    elif not is_storable(backend):
        what = "backend names without NUL and lone surrogates"
        problems.append(str(expected("TASKS", what, backend)))
    queues = params.get("QUEUES", [])
    is_list = isinstance(queues, list | tuple | set | frozenset)
    if not is_list or not all(map(is_queue_name, queues)):
        what = f"a list of queue names ({QUEUE_NAME})"
        problems.append(str(expected(f"TASKS[{backend!r}]['QUEUES']", what, queues)))
    try:
        path = f"TASKS[{backend!r}]['OPTIONS']"
        options: BackendOptions = read_section(BackendOptions, params.get("OPTIONS", {}), path)
        least = 2 * options.process_heartbeat_interval
        if options.process_alive_threshold < least:
            what = f"at least twice process_heartbeat_interval ({least:g})"
            got = options.process_alive_threshold
            problems.append(str(expected(f"{path}['process_alive_threshold']", what, got)))
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
                raise InvalidOption(_unknown(name, path, known, "option"))
            values[name] = known[name].metadata["parser"](value, f"{path}[{name!r}]")
        except InvalidOption as error:
            problems.append(str(error))
    for name, each in known.items():
        is_required = each.default is MISSING and each.default_factory is MISSING
        if is_required and name not in raw:
            problems.append(str(expected(path, f"a dict with {name!r}", dict(raw))))
    if problems:
        raise InvalidOption("\n".join(problems))
    return kind(**values)


def _unknown(name: object, path: str, known: Collection[str], what: str) -> str:
    if str(name).upper() == "ENQUEUE_ON_COMMIT":
        return (
            f"{path}[{name!r}]: expected no such {what}, because enqueue() never waits for a "
            "commit by itself, got one: remove it, and where a job is to wait call "
            "transaction.on_commit(partial(task.enqueue, ...))"
        )
    meant = _suggest(str(name), path, known)
    question = f": did you mean {meant}?" if meant else ""
    return f"{path}[{name!r}]: expected one of {', '.join(known)}, got an unknown {what}{question}"


def _suggest(name: str, path: str, known: Collection[str]) -> str | None:
    """Return the path of the setting that was most likely meant, or None.

    The same name at another level goes before a similar one: database_alias beside OPTIONS.
    """
    paths = {f"{path}[{each!r}]": each.lower() for each in known}
    entry, found, _ = path.partition("]")
    for level, names in _levels():
        paths.update({f"{entry}{found}{level}[{each!r}]": each.lower() for each in names})
    for candidates in ([name.lower()], get_close_matches(name.lower(), paths.values(), 1, 0.8)):
        for each, spelling in paths.items():
            if spelling in candidates:
                return each
    return None


def _levels() -> Iterator[tuple[str, Collection[str]]]:
    yield "", KEYS
    yield "['OPTIONS']", [each.name for each in fields(BackendOptions)]
    for level, kind in (
        ("['workers'][0]", WorkerOptions),
        ("['dispatcher']", DispatcherOptions),
        ("['scheduler']", SchedulerOptions),
    ):
        yield f"['OPTIONS']{level}", [each.name for each in fields(kind)]
