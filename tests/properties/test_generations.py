"""The registry under concurrent readers: each look at it is of one generation of TASKS.

It can be as good as Django's settings only, which override_settings does not swap atomically: for
an instant there is no TASKS at all, and a reader may keep the old one in the settings' own cache.
"""

import sys
from contextlib import ExitStack, suppress
from threading import Event, Thread

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dj_queue.exceptions import UnknownBackend
from dj_queue.routers import registry
from tests.routers.conftest import OURS

NAMES = ("default", "alerts", "bulk", "mail")
READERS = 3

placements = st.tuples(st.sampled_from(["default", "queue", "bulk"]), st.booleans())
generations = st.lists(
    st.dictionaries(st.sampled_from(NAMES), placements, min_size=1), min_size=4, max_size=20
)


@pytest.fixture(autouse=True, scope="module")
def hasty_switches():
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def tasks(number, generation):
    """Give TASKS; each backend says which generation it is of."""
    return {
        name: {
            "BACKEND": OURS,
            "QUEUES": [number],
            "OPTIONS": {"database_alias": alias, "dedicated": dedicated},
        }
        for name, (alias, dedicated) in generation.items()
    }


def seen(route):
    """Give what a route says: the generation's number and the placement."""
    return route.params["QUEUES"][0], (route.alias, route.dedicated)


class Reader(Thread):
    """Looks at the registry all the time, each time in one call."""

    def __init__(self, generations):
        super().__init__()
        self.generations, self.done, self.wrong, self.looks = generations, Event(), [], 0

    def run(self):
        while not self.done.is_set():
            for look in (self.look_at_routes, self.look_at_databases, self.look_at_one):
                try:
                    look()
                except Exception as error:
                    self.wrong.append(error)
            self.looks += 1

    def look_at_routes(self):
        found = {name: seen(route) for name, route in registry.routes().items()}
        number = next(iter(found.values()))[0]
        whole = {name: (number, placed) for name, placed in self.generations[number].items()}
        if found != whole:
            self.wrong.append(found)

    def look_at_databases(self):
        found = registry.databases()
        if found not in [aliases(generation) for generation in self.generations]:
            self.wrong.append(found)

    def look_at_one(self):
        name = NAMES[self.looks % len(NAMES)]
        with suppress(UnknownBackend):
            number, placed = seen(registry.route(name))
            if self.generations[number].get(name) != placed:
                self.wrong.append((name, number, placed))


def aliases(generation):
    """Give the databases of a generation, each once and in order."""
    return tuple(dict.fromkeys(alias for alias, _ in generation.values()))


def change_back_and_forth(generations):
    """Apply the generations one over the other and take them away; give what was seen wrong."""
    wrong = []
    readers = [Reader(generations) for _ in range(READERS)]
    with ExitStack() as first:
        first.enter_context(override_settings(TASKS=tasks(0, generations[0])))
        for reader in readers:
            reader.start()
        try:
            with ExitStack() as stack:
                for number, generation in enumerate(generations):
                    changed = tasks(number, generation)
                    stack.enter_context(override_settings(TASKS=changed))
                    found = registry.databases()
                    # Asked afterwards: whatever Django holds now, it held no older one before.
                    if found != aliases(generation):
                        wrong.append(found)
        finally:
            for reader in readers:
                reader.done.set()
            for reader in readers:
                reader.join()
    return wrong + [each for reader in readers for each in reader.wrong]


@given(generations=generations)
@settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_no_reader_ever_sees_a_mix_of_two_generations(generations):
    assert change_back_and_forth(generations) == []


FORTH_AND_BACK = [
    dict.fromkeys(NAMES, (alias, dedicated))
    for alias, dedicated in [("queue", True), ("bulk", False)] * 10
]


def build_in_place(tasks, build=registry._build, shared={}):  # noqa: B006 - that is the fault
    for name, route in build(tasks).items():
        shared[name] = route
    return shared


def ask_twice():
    return tuple(dict.fromkeys(registry.routes()[name].alias for name in registry.routes()))


@pytest.mark.parametrize(
    ("name", "fault"),
    [("_build", build_in_place), ("databases", ask_twice)],
    ids=["a map changed in place", "two reads for one answer"],
)
def test_a_registry_that_mixes_is_found_out(monkeypatch, name, fault):
    monkeypatch.setattr(registry, name, fault)

    assert any(change_back_and_forth(FORTH_AND_BACK) for _ in range(200))
