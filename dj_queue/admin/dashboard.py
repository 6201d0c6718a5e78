"""The dashboard's addresses: who may see them, which backend they are about, what answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import update_wrapper
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from dj_queue import timezone
from dj_queue.admin import formats, names  # noqa: F401 - names registers the converter used below
from dj_queue.admin.actions import ActionRequest, act_on_jobs, act_on_queue
from dj_queue.admin.jobs import job_list, job_page, queue_page
from dj_queue.admin.links import Links
from dj_queue.admin.overview import look, overview
from dj_queue.admin.permissions import Operator
from dj_queue.admin.raw_rows import BY_NAME, RowsAdmin, changelist
from dj_queue.observability.databases import Outage, outage_of
from dj_queue.observability.snapshot import as_json
from dj_queue.routers import QueueDatabase, queue_database
from dj_queue.routers.registry import backends_on, routes

Page = Callable[..., HttpResponse]


class DashboardAdmin(admin.ModelAdmin):
    """Serves the dashboard where the admin would serve a changelist."""

    def get_urls(self) -> list[URLPattern]:
        own, queue = "<dj_queue_name:backend>/", "<dj_queue_name:queue>/<str:state>/"
        pages: list[tuple[str, Page, str]] = [
            ("", self.overview, "backend"),
            ("stats.json", self.stats, "stats"),
            (f"queues/{queue}", self.queue, "queue"),
            ("jobs/", self.jobs, "jobs"),
            ("jobs/<uuid:job_id>/", self.job, "job"),
            ("rows/<slug:rows>/", self.rows, "rows"),
            ("act/queue/", self.queue_action, "queue_action"),
            ("act/jobs/", self.jobs_action, "jobs_action"),
        ]
        first = self.admin_site.admin_view(self.first_backend)
        return [
            path("", first, name="dj_queue_dashboard_changelist"),
            *(
                path(own + below, self._page(view), name=f"dj_queue_dashboard_{name}")
                for below, view, name in pages
            ),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def first_backend(self, request: HttpRequest) -> HttpResponse:
        """Lead to the page of the backend asked for, of the default one, or of the first."""
        known = list(routes())
        if not known:
            raise Http404("TASKS has no dj_queue backend")
        first = "default" if "default" in known else known[0]
        name = request.GET.get("backend", first)
        if name not in known:
            raise Http404(f"TASKS has no dj_queue backend {name!r}")
        return HttpResponseRedirect(self._links(name).overview())

    def overview(self, request: HttpRequest, db: QueueDatabase, now: datetime) -> HttpResponse:
        """Show a backend's page."""
        context = overview(request, db, self._links(db.backend), now)
        return self._render(request, db, ("overview", "dj_queue dashboard"), context)

    def stats(self, request: HttpRequest, db: QueueDatabase, now: datetime) -> HttpResponse:
        """Give what the page shows as JSON."""
        seen, backends = look(db, now=now)
        return JsonResponse(as_json(seen, backends))

    def queue(
        self, request: HttpRequest, db: QueueDatabase, now: datetime, queue: str, state: str
    ) -> HttpResponse:
        """Show the jobs of a queue in one state."""
        return self._read(
            request,
            db,
            now,
            ("jobs", f"Queue {queue}"),
            lambda links: queue_page(request, db, links, now, (queue, state)),
        )

    def jobs(self, request: HttpRequest, db: QueueDatabase, now: datetime) -> HttpResponse:
        """Show the backend's jobs, filtered and searched."""
        return self._read(
            request, db, now, ("jobs", "Jobs"), lambda links: job_list(request, db, links, now)
        )

    def job(
        self, request: HttpRequest, db: QueueDatabase, now: datetime, job_id: UUID
    ) -> HttpResponse:
        """Show one job."""
        return self._read(
            request, db, now, ("job", "Job"), lambda links: job_page(request, db, links, job_id)
        )

    def rows(
        self, request: HttpRequest, db: QueueDatabase, now: datetime, rows: str
    ) -> HttpResponse:
        """Show the raw rows of a table."""
        if rows not in BY_NAME:
            raise Http404(f"no rows {rows!r}")
        shown = BY_NAME[rows]
        if not Operator.of(request).may_see(shown.model):
            raise PermissionDenied
        if outage := outage_of(db.reader, now=now):
            return self._away(request, db, shown.title, outage)
        scope = f"backend {db.backend}" if shown.of_backend else f"every backend on {db.alias}"
        context = {**self._context(request, db, shown.title), "about": f"Rows of {scope}."}
        return changelist(
            RowsAdmin(shown, self.admin_site, db.reader, self._links(db.backend)), request, context
        )

    def queue_action(self, request: HttpRequest, db: QueueDatabase, now: datetime) -> HttpResponse:
        """Act on a queue."""
        return self._act(request, db, now, act_on_queue)

    def jobs_action(self, request: HttpRequest, db: QueueDatabase, now: datetime) -> HttpResponse:
        """Act on jobs."""
        return self._act(request, db, now, act_on_jobs)

    def _page(self, view: Page) -> Page:
        """Make a view of one that is told the database and the time, for those who may look."""

        def page(request: HttpRequest, backend: str, **parts: Any) -> HttpResponse:
            if not self.has_view_permission(request):
                raise PermissionDenied
            if backend not in routes():
                raise Http404(f"TASKS has no dj_queue backend {backend!r}")
            is_action = view in (self.queue_action, self.jobs_action)
            if is_action is not (request.method == "POST"):
                return HttpResponse(status=405, headers={"Allow": "POST" if is_action else "GET"})
            return view(request, queue_database(backend), timezone.now(), **parts)

        return self.admin_site.admin_view(update_wrapper(page, view))

    def _links(self, backend: str) -> Links:
        return Links(self.admin_site.name, backend)

    def _read(
        self,
        request: HttpRequest,
        db: QueueDatabase,
        now: datetime,
        page: tuple[str, str],
        read: Callable[[Links], dict[str, Any]],
    ) -> HttpResponse:
        if outage := outage_of(db.reader, now=now):
            return self._away(request, db, page[1], outage)
        return self._render(request, db, page, read(self._links(db.backend)))

    def _away(
        self, request: HttpRequest, db: QueueDatabase, title: str, outage: Outage
    ) -> HttpResponse:
        shown = {"outage": outage, "since": formats.moment(outage.since)}
        response = self._render(request, db, ("away", title), shown)
        response.status_code = 503
        return response

    def _act(
        self,
        request: HttpRequest,
        db: QueueDatabase,
        now: datetime,
        act: Callable[[ActionRequest], dict[str, Any] | None],
    ) -> HttpResponse:
        links = self._links(db.backend)
        question = act(ActionRequest(request, db, links, now))
        if question is None:
            return HttpResponseRedirect(links.back(request))
        return self._render(request, db, ("confirm", "Are you sure?"), question)

    def _context(self, request: HttpRequest, db: QueueDatabase, title: str) -> dict[str, Any]:
        links = self._links(db.backend)
        return {
            **self.admin_site.each_context(request),
            # The tables need the width.
            "is_nav_sidebar_enabled": False,
            "title": title,
            "opts": self.opts,
            "is_refresh": "X-DjQueue-Live" in request.headers,
            "here": request.get_full_path(),
            "here_url": request.path,
            "db": db,
            "links": links,
            "overview_url": links.overview(),
            "root_url": links.root(),
            "jobs_url": links.jobs(),
            "queue_action_url": links.to("queue_action"),
            "jobs_action_url": links.to("jobs_action"),
            "backends": list(routes()),
            "backends_here": backends_on(db.alias),
        }

    def _render(
        self,
        request: HttpRequest,
        db: QueueDatabase,
        page: tuple[str, str],
        context: dict[str, Any],
    ) -> HttpResponse:
        template, title = page
        full = {**self._context(request, db, title), **context}
        return TemplateResponse(request, f"admin/dj_queue/{template}.html", full)
