"""The page of public names, docs/api.md, made from the code: `python -m tests.api` writes it."""

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from inspect import cleandoc
from itertools import pairwise
from pathlib import Path
from types import FunctionType
from typing import Any, get_overloads

from django.db.models import Model

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
INTRODUCTION = """\
# Public names

Your code may import the names on this page. Everything else may change without notice.

`python -m tests.api` writes this page from the code, and a test compares the two.
"""
PUBLIC: dict[str, tuple[str, tuple[str, ...]]] = {
    "dj_queue.tasks": ("tasks", ("task", "QueueTask", "Concurrency", "Retry", "RetryPolicy")),
    "dj_queue.backend": ("tasks", ("DjQueueBackend",)),
    "dj_queue.queues": ("workers", ("Queue",)),
    "dj_queue.recurring": (
        "recurring",
        ("schedule", "unschedule", "enable", "disable", "run_now"),
    ),
    "dj_queue.signals": ("tasks", ("attempt_failed",)),
    "dj_queue.routers": (
        "routing",
        ("DjQueueRouter", "Database", "QueueDatabase", "queue_database", "use_backend"),
    ),
    "dj_queue.routers.registry": ("routing", ("routes", "databases", "backends_on")),
    "dj_queue.models": (
        "databases",
        (
            "Job",
            "ReadyExecution",
            "ScheduledExecution",
            "BlockedExecution",
            "ClaimedExecution",
            "FailedExecution",
            "FinishedExecution",
            "Attempt",
        ),
    ),
    "dj_queue.operations.pauses": ("workers", ("pause", "resume")),
    "dj_queue.operations.retry": ("tasks", ("retry",)),
    "dj_queue.runtime.runner": ("embedding", ("Runner", "Leftovers")),
    "dj_queue.runtime.units": ("embedding", ("units_of",)),
    "dj_queue.testing": ("testing", ("assert_enqueued", "capture_enqueues", "drain")),
    "dj_queue.testing.leaks": ("testing", ("LeakMachine", "run_leak_machine")),
    "dj_queue.testing.spy": ("testing", ("statements_only_on", "no_statements")),
    "dj_queue.exceptions": ("errors", ()),
}
"""Of each module: the page that tells more, and its public names; none are all of its classes."""


def page() -> str:
    """Give the whole page."""
    sections = (_section(name, *entry) for name, entry in PUBLIC.items())
    return "\n".join([INTRODUCTION, *sections])


def names_of(module: str) -> tuple[str, ...]:
    """Give a module's public names."""
    loaded = import_module(module)
    own = (name for name, value in vars(loaded).items() if _is_own_class(value, module))
    return PUBLIC[module][1] or tuple(own)


def _section(module: str, guide: str, _: tuple[str, ...]) -> str:
    loaded = import_module(module)
    constants = _constants(loaded)
    entries = [
        f"`{name}`\n: {constants[name]}\n"
        if name in constants
        else _entry(name, getattr(loaded, name))
        for name in names_of(module)
    ]
    return "\n".join([f"## `{module}`", "", f"More in [{guide}]({guide}.md).", "", *entries])


def _entry(name: str, value: Any) -> str:
    lines = [f"`{name}{_signature(value)}`", f": {_sentence(value)}"]
    if isinstance(value, type) and not issubclass(value, BaseException | Model):
        lines += [f"  - {member}" for member in _members(value)]
    return "\n".join([*lines, ""])


def _members(owner: type) -> Iterator[str]:
    for name, value in vars(owner).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            yield f"`{name}`: {_sentence(value)}"
        elif isinstance(value, (FunctionType, classmethod)):
            function = value.__func__ if isinstance(value, classmethod) else value
            if function.__doc__:
                yield f"`{name}{_signature(function, skip_first=True)}`: {_sentence(function)}"


def _constants(module: Any) -> dict[str, str]:
    """Give the first sentence below each constant that has a docstring."""
    body = ast.parse(inspect.getsource(module)).body
    return {
        one.targets[0].id: cleandoc(two.value.value).split("\n\n")[0].replace("\n", " ")
        for one, two in pairwise(body)
        if isinstance(one, ast.Assign)
        and isinstance(one.targets[0], ast.Name)
        and isinstance(two, ast.Expr)
        and isinstance(two.value, ast.Constant)
    }


def _signature(value: Any, *, skip_first: bool = False) -> str:
    if isinstance(value, type) and issubclass(value, BaseException | Model):
        return ""
    parameters = inspect.signature([value, *get_overloads(value)][-1]).parameters.values()
    plain = [_plain(each) for each in list(parameters)[skip_first:]]
    return str(inspect.Signature(plain)).replace("Ellipsis", "...")


def _plain(parameter: inspect.Parameter) -> inspect.Parameter:
    """Leave out the annotation, and what a default is where it is no literal."""
    default = parameter.default
    try:
        ast.literal_eval(repr(default))
    except (SyntaxError, ValueError):
        if default is not parameter.empty:
            default = Ellipsis
    return parameter.replace(annotation=parameter.empty, default=default)


def _sentence(value: Any) -> str:
    return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())


def _is_own_class(value: Any, module: str) -> bool:
    return isinstance(value, type) and value.__module__ == module


if __name__ == "__main__":
    import django

    django.setup()
    PAGE.write_text(page(), encoding="utf-8")
