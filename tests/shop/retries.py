"""Tasks that are attempted more than once."""

from typing import Any

from dj_queue.compat import TaskContext
from dj_queue.tasks import Retry, RetryPolicy, task


class Broken(RetryPolicy):
    """A policy that raises instead of answering."""

    def base_seconds(self, attempt: int) -> float:
        raise SystemExit("no idea")


class Hazy(RetryPolicy):
    """A policy that answers with what is no number."""

    def base_seconds(self, attempt: int) -> float:
        return float("nan")


@task(max_attempts=3, backoff=60)
def stumble(message: str) -> None:
    """Raise, three times at the most, a minute apart."""
    raise ValueError(message)


often = stumble.using(max_attempts=9)


@task(max_attempts=3, backoff=0)
def stumble_at_once() -> None:
    """Raise, three times at the most, without a pause."""
    raise ValueError("again")


@task(max_attempts=3, backoff=60, retry_on=ConnectionError, give_up_on=[BrokenPipeError])
def deliver(kind: str) -> None:
    """Raise the built-in exception of that name."""
    raise getattr(__import__("builtins"), kind)(kind)


@task(max_attempts=3, backoff=60, retry_on=())
def ask_again(**when: Any) -> None:
    """Ask for another attempt."""
    raise Retry("not there yet", **when)


@task(max_attempts=3, backoff=60)
def return_a_set() -> set[int]:
    """Return what is not JSON."""
    return {1}


@task(max_attempts=2, backoff=Broken())
def stumble_without_a_delay() -> None:
    """Raise, with a policy that raises too."""
    raise ValueError("no delay")


@task(max_attempts=3, backoff=0, takes_context=True)
def third_time_lucky(context: TaskContext) -> list[Any]:
    """Raise twice, then tell what the context knows."""
    errors = [each.exception_class_path for each in context.task_result.errors]
    if context.attempt < 3:
        raise LookupError(f"attempt {context.attempt}")
    return [context.attempt, errors, len(context.task_result.worker_ids)]
