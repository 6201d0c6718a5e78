"""The leak machine: does a project's stack of routers keep every row on its database?

The only part of dj_queue that needs Hypothesis.
"""

from __future__ import annotations

from collections.abc import Sequence

try:
    from hypothesis import HealthCheck, settings
    from hypothesis.stateful import run_state_machine_as_test
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "expected the package hypothesis, on which dj_queue.testing.leaks runs, got none: "
        "pip install hypothesis",
        name=error.name,
    ) from error

from dj_queue.testing.leaks.machine import LeakMachine
from dj_queue.testing.leaks.watch import Leak

__all__ = ["SETTINGS", "Leak", "LeakMachine", "run_leak_machine"]

SETTINGS = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def run_leak_machine(
    machine: type[LeakMachine] = LeakMachine,
    *,
    application_alias: str | None = None,
    backends: Sequence[str] = (),
    settings: settings = SETTINGS,
) -> None:
    """Raise Leak when a statement, a row or a refusal turns up where another's was expected.

    Works on the databases of `backends` of TASKS, on all if none is named, and needs access to
    them and to `application_alias`, "default" if None. What it writes is rolled back.
    """
    chosen = {"application_alias": application_alias, "backends": tuple(backends)}
    changes = {name: value for name, value in chosen.items() if value}
    kind = type(machine.__name__, (machine,), changes)
    run_state_machine_as_test(kind, settings=settings)
