"""Values whose own code raises, waits or never ends, and tasks that return them."""

import datetime
from collections import UserDict, UserList
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from django.apps.registry import Apps
from django.db.models import QuerySet
from django.utils.functional import SimpleLazyObject, lazy

from dj_queue.tasks import task
from tests.shop.models import Order


class Hostile:
    """Raises wherever it is asked for text."""

    def __repr__(self) -> str:
        raise LookupError("asked for its repr()")

    __str__ = __format__ = __repr__  # type: ignore[assignment]


class Unlike(Hostile):
    """Raises even where it is asked what it is."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise LookupError("asked for its class")


class Tz(datetime.tzinfo):
    """A time zone without a name."""

    __repr__ = Hostile.__repr__


class Text(str):
    """Text with a repr() of its own."""

    __repr__ = __str__ = Hostile.__repr__


class Items(UserDict):  # type: ignore[type-arg]
    """A mapping that cannot be read."""

    def items(self) -> Any:
        raise KeyError("read")


class Listed(UserList):  # type: ignore[type-arg]
    """A sequence that cannot be read."""

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("x" * 1_000_000)


class OrderOfSomebody(Order):
    """A row whose text is another row's, as it is with foreign keys."""

    class Meta:
        proxy = True
        app_label = "shop"
        apps = Apps()  # of its own: no migration is to know this model

    def __str__(self) -> str:
        return str(Order.objects.get(reference="of somebody else"))


def rows() -> "QuerySet[Order]":
    """Give a queryset that must not be evaluated."""
    return Order.objects.filter(reference=str(Hostile)).order_by("pk")


def evaluated() -> Any:
    """Stand for what request.user does when it is looked at."""
    raise LookupError("evaluated")


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)

VALUES: dict[str, Any] = {
    "an object": lambda: Hostile(),
    "an object unlike any": lambda: Unlike(),
    "a model instance": lambda: OrderOfSomebody(reference="x"),
    "a queryset": rows,
    "a lazy object": lambda: SimpleLazyObject(evaluated),
    "a lazy text": lambda: lazy(evaluated, str)(),
    "a large set": lambda: set(range(200_000)),
    "a set of it": lambda: frozenset([(1, (2, (3, (4, (5,)))))]),
    "a set of models": lambda: {OrderOfSomebody(pk=1)},
    "large bytes": lambda: b"\xff" * 1_000_000,
    "a large bytearray": lambda: bytearray(1_000_000),
    "an item": lambda: [{"a" * 1_000_000: [Hostile()]}],
    "below text": lambda: {Text("key"): [Hostile()]},
    "a key": lambda: {1: Hostile()},
    "a large key": lambda: {10**5000: 1},
    "half a character": lambda: "\ud800" * 1_000_000,
    "half a character of its own": lambda: Text("\ud800"),
    "a moment": lambda: datetime.datetime(2026, 1, 1, tzinfo=Tz()),
    "a mapping": lambda: Items(a=1),
    "a sequence": lambda: Listed([1]),
    "a class": lambda: Hostile,
    "a coroutine function": lambda: evaluated,
    "an iterator": lambda: iter(range(10)),
    "a proxy": lambda: MappingProxyType({"a": Hostile()}),
    "itself": lambda: ENDLESS,
    "nan": lambda: float("nan"),
}

CALLS: list[str] = []


@task(max_attempts=3, backoff=0)
def give(name: str) -> Any:
    """Return one of the values."""
    CALLS.append(name)
    return VALUES[name]()


@task(max_attempts=3, backoff=0)
async def give_later(name: str) -> Any:
    """Return one of the values, as a coroutine."""
    CALLS.append(name)
    return VALUES[name]()


class Wordless(Exception):
    """Ends the process of who asks it for words."""

    def __str__(self) -> str:
        raise SystemExit("asked for words")


@task
def fail_without_words() -> None:
    """Raise what nobody can print."""
    raise Wordless
