"""Permissions that two hosts create at once."""

import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet

from dj_queue.operations.permissions import create_permissions
from tests.jobs import EVERY

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


@pytest.mark.parametrize("model", [ContentType, Permission])
def test_what_another_host_creates_first_is_left_to_it(monkeypatch, model):
    """The other host commits between our look and our insert."""
    ours = Permission.objects.filter(content_type__app_label="dj_queue")
    expected = sorted(ours.values_list("codename", flat=True))
    ContentType.objects.filter(app_label="dj_queue").delete()
    insert = QuerySet.bulk_create

    def overtaken(self, *args, **kwargs):
        if self.model is model:
            monkeypatch.undo()
            create_permissions("default", verbosity=0)
        return insert(self, *args, **kwargs)

    monkeypatch.setattr(QuerySet, "bulk_create", overtaken)
    create_permissions("default", verbosity=0)

    assert sorted(ours.values_list("codename", flat=True)) == expected
