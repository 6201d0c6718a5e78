"""No statement goes to another database than its row's, and the proof of it can fail."""

import pytest
from django.apps import apps
from django.db.models import Model, QuerySet
from django.test import override_settings
from hypothesis import Phase, settings
from hypothesis.stateful import rule

from dj_queue.exceptions import AmbiguousRoute
from dj_queue.models import Job
from dj_queue.models.base import QueueManager, QueueModel, QueueQuerySet
from dj_queue.routers import DjQueueRouter, queue_database
from dj_queue.routers.context import active_alias
from dj_queue.testing.leaks import SETTINGS, Leak, LeakMachine, run_leak_machine
from tests.shop.models import Order

pytestmark = pytest.mark.dj_queue

# The first failure is enough, and it is the same in every run.
HASTY = settings(
    SETTINGS,
    max_examples=1000,
    phases=[Phase.generate],
    derandomize=True,
    report_multiple_bugs=False,
)
BRIEF = settings(SETTINGS, max_examples=10)


class ConstantRouter(DjQueueRouter):
    """Always answers with one alias, as the best known library of this kind does."""

    def __init__(self, alias):
        self.alias = alias

    def db_for_read(self, model, **hints):
        return self.alias if model._meta.app_label == "dj_queue" else None

    db_for_write = db_for_read


class ContextFirstRouter(DjQueueRouter):
    """Prefers the active context to the row's own database."""

    def db_for_read(self, model, **hints):
        ours = model._meta.app_label == "dj_queue"
        return (active_alias() if ours else None) or super().db_for_read(model, **hints)

    db_for_write = db_for_read


class GuessingRouter(DjQueueRouter):
    """Takes the first queue database instead of refusing."""

    def db_for_read(self, model, **hints):
        try:
            return super().db_for_read(model, **hints)
        except AmbiguousRoute:
            return "queue"

    db_for_write = db_for_read


class DraggingRouter(DjQueueRouter):
    """Draws every model into the active context's database."""

    def db_for_read(self, model, **hints):
        return active_alias() or super().db_for_read(model, **hints)

    db_for_write = db_for_read


class ReadingRouter(DjQueueRouter):
    """Lets the application read from a queue database, as if that were its replica."""

    def db_for_read(self, model, **hints):
        ours = model._meta.app_label == "dj_queue"
        return super().db_for_read(model, **hints) if ours else "bulk"


class GreedyRouter(DjQueueRouter):
    """Keeps everything on a queue database."""

    def db_for_write(self, model, **hints):
        return super().db_for_write(model, **hints) or "queue"


FAULTY_ROUTERS = {
    "constant queue": ConstantRouter("queue"),
    "constant bulk": ConstantRouter("bulk"),
    "context first": ContextFirstRouter(),
    "guessing": GuessingRouter(),
    "dragging the application along": DraggingRouter(),
    "reading the application's rows": ReadingRouter(),
    "greedy": GreedyRouter(),
}


def unpinned(self):
    return super(QueueManager, self).get_queryset()


def pinned_for_good(self, **hints):
    QuerySet._add_hints(self, **hints)


FAULTY_MODELS = {
    "querysets that are not pinned": (QueueManager, "get_queryset", unpinned),
    "pins that hide the row": (QueueQuerySet, "_add_hints", pinned_for_good),
    "pins that a clone loses": (QueueQuerySet, "_clone", QuerySet._clone),
    "rows that may stray": (QueueModel, "refuse_strangers", lambda row, using: None),
    "bulk_create as Django's": (QueueQuerySet, "bulk_create", QuerySet.bulk_create),
    "bulk_update as Django's": (QueueQuerySet, "bulk_update", QuerySet.bulk_update),
    "refresh_from_db as Django's": (QueueModel, "refresh_from_db", Model.refresh_from_db),
    "validate_unique as Django's": (QueueModel, "validate_unique", Model.validate_unique),
}


def test_every_statement_lands_on_the_database_of_its_row():
    run_leak_machine()


@pytest.mark.parametrize("router", FAULTY_ROUTERS.values(), ids=FAULTY_ROUTERS)
def test_a_faulty_router_is_found_out(router):
    with override_settings(DATABASE_ROUTERS=[router]), pytest.raises(Leak):
        run_leak_machine(settings=HASTY)


@pytest.mark.parametrize(("owner", "name", "fault"), FAULTY_MODELS.values(), ids=FAULTY_MODELS)
def test_a_faulty_model_is_found_out(monkeypatch, owner, name, fault):
    monkeypatch.setattr(owner, name, fault)

    with pytest.raises(Leak):
        run_leak_machine(settings=HASTY)


def test_some_of_the_backends_may_be_chosen():
    run_leak_machine(backends=["alerts"], settings=BRIEF)


def test_a_project_with_one_queue_database_is_no_leak(settings):
    settings.TASKS = {"bulk": settings.TASKS["bulk"]}

    run_leak_machine(settings=BRIEF)


def test_another_database_may_be_the_applications(settings):
    class OtherwayRouter(DjQueueRouter):
        def db_for_read(self, model, **hints):
            return super().db_for_read(model, **hints) or "bulk"

        db_for_write = db_for_read

    settings.DATABASE_ROUTERS = [OtherwayRouter()]

    run_leak_machine(application_alias="bulk", settings=BRIEF)
    with pytest.raises(Leak, match="expected rows of other apps on default, got none of any: "):
        run_leak_machine(settings=BRIEF)


class OrderMachine(LeakMachine):
    """A project's own rule."""

    asked = 0

    @rule()
    def count_orders(self):
        self.at(self.application_alias, Order.objects.count)
        type(self).asked += 1


def test_a_subclass_adds_rules_of_its_own():
    run_leak_machine(OrderMachine, settings=BRIEF)

    class Astray(OrderMachine):
        @rule()
        def count_orders_elsewhere(self):
            self.at("bulk", Order.objects.count)

    with pytest.raises(Leak, match="expected bulk, got a statement on default: SELECT COUNT"):
        run_leak_machine(Astray, settings=HASTY)


def test_what_the_machine_writes_is_rolled_back():
    run_leak_machine(settings=BRIEF)

    left = [queue_database(name).objects(Job).exists() for name in ("default", "bulk")]
    assert left == [False, False]


def test_every_model_of_the_application_is_asked():
    others = {model for model in apps.get_models() if model._meta.app_label != "dj_queue"}

    machine = LeakMachine()
    machine.teardown()

    assert set(machine.application_models) == others
