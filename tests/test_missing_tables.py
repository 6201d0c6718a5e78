"""A leak is a missing table: none of ours beside the application's, none of its beside ours.

The whole suite runs on this base, on every vendor and on mixed ones.
"""

import pytest
from django.apps import apps
from django.db import DatabaseError, connections, router, transaction

from dj_queue.models import Job
from dj_queue.routers.registry import databases, is_queue_database
from tests.jobs import EVERY
from tests.shop.models import Order

pytestmark = pytest.mark.django_db(**EVERY)

OURS = {
    model._meta.db_table
    for model in apps.get_app_config("dj_queue").get_models(include_auto_created=True)
    if model._meta.managed and not model._meta.proxy
}
# The table of migrations alone is on both sides.
THEIRS = {
    model._meta.db_table
    for config in apps.get_app_configs()
    if config.label != "dj_queue"
    for model in config.get_models(include_auto_created=True)
}


def tables(alias):
    with connections[alias].cursor() as cursor:
        return set(connections[alias].introspection.table_names(cursor))


def test_there_is_an_application_database_and_two_queue_databases():
    assert databases() == ("queue", "bulk")
    assert set(connections) == {"default", "queue", "bulk"}
    assert {"shop_order", "auth_user", "django_admin_log", "django_session"} <= THEIRS
    assert {"django_content_type", "auth_user_groups"} <= THEIRS
    assert {"dj_queue_job", "dj_queue_readyexecution", "dj_queue_pause"} <= OURS
    assert not OURS & THEIRS


def test_the_application_database_has_its_tables_and_none_of_ours():
    assert tables("default") - {"django_migrations"} == THEIRS


@pytest.mark.parametrize("alias", ["queue", "bulk"])
def test_a_queue_database_has_our_tables_and_none_of_the_applications(alias):
    assert tables(alias) - {"django_migrations"} == OURS


@pytest.mark.parametrize("alias", ["default", "queue", "bulk"])
def test_a_leak_is_an_error_of_the_database(alias):
    """What the suite relies on: a statement that goes astray finds no table."""
    astray = Order if is_queue_database(alias) else Job

    with pytest.raises(DatabaseError), transaction.atomic(using=alias):
        astray.objects.using(alias).count()


@pytest.mark.parametrize("alias", ["default", "queue", "bulk"])
def test_the_router_says_the_same_as_the_tables(alias):
    present = tables(alias)

    for config in apps.get_app_configs():
        for model in router.get_migratable_models(config, alias):
            assert model._meta.proxy or not model._meta.managed or model._meta.db_table in present
