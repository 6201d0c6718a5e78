"""The operator's pages in Django admin."""

from django.contrib import admin

from dj_queue.admin.dashboard import DashboardAdmin
from dj_queue.models import Dashboard

__all__ = ["DashboardAdmin"]

admin.site.register(Dashboard, DashboardAdmin)
