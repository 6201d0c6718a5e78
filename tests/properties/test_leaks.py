"""No statement goes to another database than its row's, and the proof of it can fail."""

import pytest
from django.db.models import Model, QuerySet
from django.test import override_settings
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from dj_queue.exceptions import AmbiguousRoute
from dj_queue.models.base import QueueManager, QueueModel, QueueQuerySet
from dj_queue.routers import DjQueueRouter
from dj_queue.routers.context import active_alias
from tests.jobs import EVERY
from tests.properties.leak_machine import LeakMachine
from tests.properties.leak_watch import Leak

pytestmark = pytest.mark.django_db(**EVERY)

THOROUGH = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
# The first failure is enough, and it is the same in every run.
HASTY = settings(
    THOROUGH,
    max_examples=200,
    phases=[Phase.generate],
    derandomize=True,
    report_multiple_bugs=False,
)


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


FAULTY_ROUTERS = {
    "constant queue": ConstantRouter("queue"),
    "constant bulk": ConstantRouter("bulk"),
    "context first": ContextFirstRouter(),
    "guessing": GuessingRouter(),
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
    run_state_machine_as_test(LeakMachine, settings=THOROUGH)


@pytest.mark.parametrize("router", FAULTY_ROUTERS.values(), ids=FAULTY_ROUTERS)
def test_a_faulty_router_is_found_out(router):
    with override_settings(DATABASE_ROUTERS=[router]), pytest.raises(Leak):
        run_state_machine_as_test(LeakMachine, settings=HASTY)


@pytest.mark.parametrize(("owner", "name", "fault"), FAULTY_MODELS.values(), ids=FAULTY_MODELS)
def test_a_faulty_model_is_found_out(monkeypatch, owner, name, fault):
    monkeypatch.setattr(owner, name, fault)

    with pytest.raises(Leak):
        run_state_machine_as_test(LeakMachine, settings=HASTY)
