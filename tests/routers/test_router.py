"""The guard rail: it follows, or it refuses."""

import pytest

from dj_queue.exceptions import AmbiguousRoute, InvalidOption, UnknownBackend, WrongDatabase
from dj_queue.models import Attempt, Job, Pause, ReadyExecution
from dj_queue.routers import DjQueueRouter, use_backend
from tests.routers.conftest import backend
from tests.shop.models import Order

router = DjQueueRouter()
both_ways = pytest.mark.parametrize("ask", [router.db_for_read, router.db_for_write])
NOT_SAID = (
    "expected to be told which queue database dj_queue.Job is meant on, got no hint; there are "
    "several candidates ('queue', 'bulk'). Name one with .using(alias) or save(using=alias), or "
    "wrap the code in `with dj_queue.routers.use_backend(name):`"
)


def row(model, alias, **columns):
    """Give a row as it looks after it was loaded from `alias`; unsaved when that is None."""
    instance = model(**columns)
    instance._state.db, instance._state.adding = alias, alias is None
    return instance


@both_ways
def test_first_another_apps_model_is_none_of_its_business(ask):
    assert ask(Order) is None
    assert ask(Order, instance=row(Order, "default")) is None
    with use_backend("bulk"):
        assert ask(Order, instance=row(Job, "queue", backend="default")) is None


@both_ways
@pytest.mark.parametrize("alias", ["queue", "bulk"])
def test_second_a_saved_row_decides_whatever_else_is_said(ask, alias):
    instance = row(Job, alias, backend="bulk")

    for active in ("default", "alerts", "bulk"):
        with use_backend(active):
            assert ask(Job, instance=instance) == alias
            assert ask(Attempt, instance=instance) == alias
    assert ask(Pause, instance=instance) == alias


@both_ways
def test_second_another_apps_row_decides_when_it_is_on_a_queue_database(ask):
    assert ask(Job, instance=row(Order, "bulk")) == "bulk"


@both_ways
@pytest.mark.parametrize("model", [Job, Order])
def test_second_a_row_of_another_database_is_an_error(ask, model):
    with use_backend("bulk"), pytest.raises(WrongDatabase) as caught:
        ask(Attempt, instance=row(model, "default"))

    assert str(caught.value) == (
        "expected a row of a queue database ('queue', 'bulk') to say where dj_queue.Attempt "
        f"lives, got a {model.__name__} of 'default'"
    )


@both_ways
@pytest.mark.parametrize("model", [Job, ReadyExecution])
def test_third_an_unsaved_row_goes_to_its_own_backend(ask, model):
    assert ask(model, instance=row(model, None, backend="bulk")) == "bulk"
    assert ask(model, instance=row(model, None, backend="alerts")) == "queue"
    with use_backend("default"):
        assert ask(model, instance=row(model, None, backend="alerts")) == "queue"


@both_ways
def test_third_an_unsaved_row_of_another_backend_than_the_active_one_is_an_error(ask):
    with use_backend("alerts"), pytest.raises(WrongDatabase) as caught:
        ask(Job, instance=row(Job, None, backend="bulk"))

    assert str(caught.value) == (
        "expected a row of a backend on 'queue' inside use_backend('alerts'), got a Job of "
        "backend 'bulk', which lives on 'bulk'"
    )


@both_ways
def test_third_an_unsaved_row_of_a_backend_that_does_not_exist_is_an_error(ask):
    with pytest.raises(UnknownBackend, match="got 'blk'"):
        ask(Job, instance=row(Job, None, backend="blk"))


@both_ways
def test_third_an_unsaved_row_of_another_app_says_nothing(ask):
    order = row(Order, None)
    order.backend = "bulk"

    with pytest.raises(AmbiguousRoute):
        ask(Job, instance=order)
    with use_backend("default"):
        assert ask(Job, instance=order) == "queue"


@both_ways
def test_fourth_the_active_backend_decides(ask):
    with use_backend("bulk"):
        assert ask(Job) == "bulk"
        assert ask(Pause, instance=row(Pause, None)) == "bulk"
        assert ask(Job, instance=row(Job, None, backend="")) == "bulk"


@both_ways
def test_fifth_the_only_queue_database_there_is(ask, tasks):
    tasks(one=backend("bulk"), two=backend("bulk"))

    assert ask(Job) == "bulk"
    assert ask(Pause, instance=row(Pause, None)) == "bulk"


@both_ways
def test_fifth_the_only_queue_database_must_exist(ask, tasks):
    tasks(one=backend("blk"))

    with pytest.raises(InvalidOption, match="got 'blk'"):
        ask(Job)


@both_ways
def test_sixth_it_refuses_and_names_model_candidates_and_both_remedies(ask):
    with pytest.raises(AmbiguousRoute) as caught:
        ask(Job)

    assert str(caught.value) == NOT_SAID
    with pytest.raises(AmbiguousRoute, match=r"dj_queue\.Attempt is meant on"):
        ask(Attempt, instance=row(Attempt, None))


@both_ways
def test_sixth_it_says_when_there_is_no_backend_at_all(ask, tasks):
    tasks()

    with pytest.raises(AmbiguousRoute, match="none: TASKS has no dj_queue backend"):
        ask(Job)


ALIASES = (None, "default", "queue", "bulk")


@pytest.mark.parametrize("first", ALIASES)
@pytest.mark.parametrize("second", ALIASES)
def test_queue_rows_are_related_on_one_database_only(first, second):
    job, attempt = row(Job, first), row(Attempt, second)

    assert router.allow_relation(job, attempt) is (first == second)


@pytest.mark.parametrize("ours", ALIASES)
@pytest.mark.parametrize("foreign", ALIASES)
def test_queue_rows_are_never_related_to_other_models(ours, foreign):
    job, order = row(Job, ours), row(Order, foreign)

    assert router.allow_relation(job, order) is False
    assert router.allow_relation(order, job) is False
    assert router.allow_relation(order, row(Order, ours)) is None


def test_a_row_of_another_database_cannot_be_assigned():
    with pytest.raises(ValueError, match="current database router prevents this relation"):
        row(Attempt, "queue").job = row(Job, "bulk")


def test_an_unsaved_row_joins_the_database_of_the_row_it_is_related_to():
    attempt = Attempt(job=row(Job, "bulk"))

    assert attempt._state.db == "bulk"
    assert Attempt(job=Job(backend="alerts"))._state.db == "queue"


HINTS = (
    {},
    {"model_name": "job"},
    {"model_name": "Job"},
    {"model_name": "order", "model": Order},
    {"model_name": "job", "model": Job, "anything": object()},
)


@pytest.mark.parametrize("hints", HINTS)
def test_our_tables_are_on_every_queue_database_and_nowhere_else(hints):
    assert router.allow_migrate("queue", "dj_queue", **hints) is True
    assert router.allow_migrate("bulk", "dj_queue", **hints) is True
    assert router.allow_migrate("default", "dj_queue", **hints) is False


@pytest.mark.parametrize("hints", HINTS)
def test_other_tables_are_kept_from_dedicated_databases_only(tasks, hints):
    tasks(shared=backend("queue", dedicated=False), alone=backend("bulk", dedicated=True))

    for label in ("shop", "auth", "contenttypes"):
        assert router.allow_migrate("default", label, **hints) is None
        assert router.allow_migrate("queue", label, **hints) is None
        assert router.allow_migrate("bulk", label, **hints) is False


def test_a_database_that_no_backend_uses_any_more_gets_no_tables(tasks):
    tasks(default=backend("bulk"))

    assert router.allow_migrate("queue", "dj_queue") is False
    assert router.allow_migrate("queue", "shop") is None


class Reports:
    """A project's router that puts one app on a database that has a queue too."""

    def allow_migrate(self, db, app_label, **hints):
        return db == "bulk" if app_label == "shop" else None


def test_a_database_that_nobody_calls_dedicated_takes_what_another_router_puts_there(
    tasks, settings
):
    settings.DATABASE_ROUTERS = [router, Reports()]

    tasks(plain=backend("bulk"))
    assert router.allow_migrate("bulk", "shop", model_name="order") is None
    assert router.allow_migrate("bulk", "auth") is False

    tasks(plain=backend("bulk", dedicated=True))
    assert router.allow_migrate("bulk", "shop", model_name="order") is False
