"""Tasks that enqueue others, and one that asks the application's database."""

from dj_queue.compat import task
from tests.shop.models import Order


@task
def note(text: str) -> str:
    """Return the text."""
    return text


@task
def count_down(number: int) -> int:
    """Enqueue itself until zero."""
    if number:
        count_down.enqueue(number - 1)
    return number


@task
def go_on() -> None:
    """Enqueue itself for ever."""
    go_on.enqueue()


@task(backend="bulk")
def hand_over(text: str) -> None:
    """Enqueue on the other queue database."""
    note.enqueue(text)


@task
def count_orders() -> int:
    """Ask the application's database."""
    return Order.objects.count()
