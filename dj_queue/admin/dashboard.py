"""The dashboard: one page per backend."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from dj_queue.observability.snapshot import snapshot
from dj_queue.routers import queue_database
from dj_queue.routers.registry import routes


class DashboardAdmin(admin.ModelAdmin):
    """Serves the dashboard where the admin would serve a changelist; reads only."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("", view(self.first_backend), name="dj_queue_dashboard_changelist"),
            path("<str:backend>/", view(self.backend), name="dj_queue_dashboard_backend"),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def first_backend(self, request: HttpRequest) -> HttpResponse:
        """Lead to the page of the default backend, or of the first one there is."""
        names = list(routes())
        if not names:
            raise Http404("TASKS has no dj_queue backend")
        name = "default" if "default" in names else names[0]
        return redirect(f"{self.admin_site.name}:dj_queue_dashboard_backend", backend=name)

    def backend(self, request: HttpRequest, backend: str) -> HttpResponse:
        """Show a backend's queues."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if backend not in routes():
            raise Http404(f"TASKS has no dj_queue backend {backend!r}")
        context = {
            **self.admin_site.each_context(request),
            "title": "dj_queue dashboard",
            "opts": self.opts,
            "backends": list(routes()),
            "snapshot": snapshot(queue_database(backend)),
        }
        return TemplateResponse(request, "admin/dj_queue/dashboard.html", context)
