"""Concurrency: which jobs of a task, or of several, may not run at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from string import Formatter
from typing import Any, Literal, get_args

from dj_queue import parsers
from dj_queue.compat import InvalidTask, Task
from dj_queue.exceptions import InvalidOption
from dj_queue.quoting import quoted, quoted_error

LIMIT = parsers.whole(1, 32_767)
DURATION = parsers.seconds(1, parsers.LONGEST_DURATION)
KEY = f"1 to {parsers.KEY_LENGTH} characters, without NUL or space around them"

Conflict = Literal["block", "discard"]


@dataclass(frozen=True, kw_only=True)
class Concurrency:
    """How many jobs of one key may be ready or running at once.

    `key` is a format string over the task's arguments, `"account:{account_id}"`, or a function of
    them that returns text; tasks that give the same text share the key. Of jobs that find no slot
    "block" makes them wait for one, in order; "discard" drops them. After `duration` seconds the
    holders are counted again; None is the backend's default_concurrency_duration.
    """

    key: str | Callable[..., str]
    limit: int = 1
    duration: float | None = None
    on_conflict: Conflict = "block"

    def __post_init__(self) -> None:
        if not callable(self.key) and (not isinstance(self.key, str) or not self.key):
            what = "a format string or a function of the task's arguments"
            raise InvalidTask(f"concurrency.key: expected {what}, got {quoted(self.key)}")
        checked(LIMIT, self.limit, "concurrency.limit")
        if self.duration is not None:
            checked(DURATION, self.duration, "concurrency.duration")
        if self.on_conflict not in get_args(Conflict):
            kinds = " or ".join(map(repr, get_args(Conflict)))
            raise InvalidTask(
                f"concurrency.on_conflict: expected {kinds}, got {quoted(self.on_conflict)}"
            )

    def require_arguments(self, task: Task) -> None:
        """Raise InvalidTask when the format string names what is no argument of the task."""
        if callable(self.key):
            return
        parameters = _signature(task).parameters.values()
        known = [each.name for each in parameters if each.kind is not Parameter.VAR_KEYWORD]
        takes_any = len(known) < len(parameters)
        for name in _names(self.key):
            if name not in known and not (takes_any and name.isidentifier()):
                among = f"({', '.join(known)})" if known else "(it has none)"
                raise InvalidTask(
                    f"concurrency.key: expected arguments of {task.module_path} {among} in "
                    f"{self.key!r}, got {name!r}"
                )


def key_of(
    task: Task, rule: Concurrency, args: Sequence[Any], kwargs: Mapping[str, Any], path: str = ""
) -> str:
    """Return the key that the rule makes of a task's arguments; raise InvalidTask if it is none."""
    path += "concurrency.key"
    if callable(rule.key):
        try:
            key: Any = rule.key(*args, **kwargs)
        except Exception as error:  # It is the task's code, as the task is.
            what = f"a function that these arguments suit, got {quoted_error(error)}"
            raise InvalidTask(f"{path}: expected {what}") from error
    else:
        key = _formatted(rule.key, task, args, kwargs, path)
    if not _is_key(key):
        raise InvalidTask(f"{path}: expected {KEY}, got {quoted(key)}")
    return key


def checked(
    parse: parsers.Parser, value: Any, name: str, error: type[Exception] = InvalidTask
) -> Any:
    """Parse a value as an option is; raise `error` instead of InvalidOption."""
    try:
        return parse(value, name)
    except InvalidOption as refused:
        raise error(str(refused)) from None


def _formatted(
    template: str, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any], path: str
) -> str:
    try:
        bound = _signature(task).bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidTask(
            f"{path}: expected arguments that {task.module_path} takes, got: {error}"
        ) from None
    bound.apply_defaults()
    values = dict(bound.arguments)
    for each in bound.signature.parameters.values():
        if each.kind is Parameter.VAR_KEYWORD:
            values |= values.pop(each.name)
    try:
        return template.format_map(values)
    except (LookupError, AttributeError, ValueError, TypeError) as error:
        raise InvalidTask(
            f"{path}: expected arguments that fit {template!r}, got {quoted_error(error)}"
        ) from None


def _signature(task: Task) -> Signature:
    """Return the signature as `enqueue` has it: without the context."""
    whole = signature(task.func)
    parameters = list(whole.parameters.values())
    return whole.replace(parameters=parameters[1:] if task.takes_context else parameters)


def _names(template: str) -> list[str]:
    """Return the arguments that a format string names, nested ones included."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise InvalidTask(
            f"concurrency.key: expected a format string, got {template!r}: {error}"
        ) from None
    names = []
    for _, field, spec, _ in parts:
        if field is not None:
            names.append(field.partition(".")[0].partition("[")[0])
        if spec:
            names += _names(spec)
    return names


def _is_key(key: object) -> bool:
    # MySQL and MariaDB take no notice of space at the end.
    if not isinstance(key, str) or not 0 < len(key) <= parsers.KEY_LENGTH or key != key.strip():
        return False
    return parsers.is_storable(key)
