"""Raw rows: changelists of Django's that stay on one backend, and only show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dj_queue.admin.links import Links
from dj_queue.models import FailedExecution, Job, Pause, Process, RecurringTask, Semaphore
from dj_queue.models.fields import UTCDateTimeField
from dj_queue.routers import QueueDatabase, use_backend
from dj_queue.timezone import for_project

MOST_ROWS = 10_000


@dataclass(frozen=True)
class Rows:
    """Rows of a model: its name in the address, and how the changelist shows it."""

    name: str
    title: str
    model: type[Model]
    columns: Sequence[str]
    searched: Sequence[str] = ()
    filters: Sequence[str] = field(default=())
    of_backend: bool = False


JOBS = Rows(
    "jobs",
    "Jobs",
    Job,
    ["page_of", "queue_name", "task_path", "priority", "run_after", "enqueued_at"],
    ["=id"],
    of_backend=True,
)
FAILED = Rows(
    "failed",
    "Failed executions",
    FailedExecution,
    ["page_of", "queue_name", "attempt", "failed_at", "exception_path", "message"],
    ["=job__id"],
    of_backend=True,
)
PAUSES = Rows("pauses", "Pauses", Pause, ["queue_name", "paused_at"], ["queue_name"])
PROCESSES = Rows(
    "processes",
    "Processes",
    Process,
    ["name", "kind", "backend", "hostname", "pid", "started_at", "last_heartbeat_at", "metadata"],
    ["name", "hostname"],
    ["kind"],
)
RECURRING = Rows(
    "recurring",
    "Recurring tasks",
    RecurringTask,
    [
        "key",
        "backend",
        "task_path",
        "schedule",
        "timezone",
        "queue_name",
        "is_static",
        "is_enabled",
        "next_run_at",
        "last_run_at",
    ],
    ["key", "task_path"],
    ["is_static", "is_enabled"],
)
SEMAPHORES = Rows("semaphores", "Semaphores", Semaphore, ["key", "held", "expires_at"], ["key"])

RAW_ROWS: dict[str, list[Rows]] = {
    "queue data": [JOBS, FAILED, PAUSES],
    "runtime data": [PROCESSES, RECURRING, SEMAPHORES],
}
BY_NAME = {each.name: each for group in RAW_ROWS.values() for each in group}


class CappedPaginator(Paginator):
    """Counts no further than to 10,000: a changelist costs the same with a million rows."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return rows.order_by()[:MOST_ROWS].count()


class RowsAdmin(admin.ModelAdmin):
    """A changelist of one model on one queue database, for one request."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_display_links = None
    actions = None
    change_list_template = "admin/dj_queue/rows.html"

    def __init__(self, rows: Rows, site: admin.AdminSite, db: QueueDatabase, links: Links) -> None:
        self.rows, self.db, self.links = rows, db, links
        super().__init__(rows.model, site)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [*self.rows.columns]

    def get_search_fields(self, request: HttpRequest) -> list[Any]:
        return [*self.rows.searched]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        return [*self.rows.filters]

    def get_ordering(self, request: HttpRequest) -> list[Any]:
        return ["-pk"] if self.rows.of_backend else [self.rows.columns[0]]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = self.db.objects(self.model)
        return rows.filter(backend=self.db.backend) if self.rows.of_backend else rows

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Return the changelist; where USE_TZ is off Django shows its times as they are."""
        found = super().get_changelist_instance(request)
        found.result_list = list(found.result_list)
        fields = self.opts.concrete_fields
        names = [each.attname for each in fields if isinstance(each, UTCDateTimeField)]
        for row in found.result_list:
            for name in names:
                setattr(row, name, for_project(getattr(row, name)))
        return found

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="job")
    def page_of(self, row: Any) -> SafeString:
        """Link to the page of the row's job."""
        return format_html('<a href="{}">{}</a>', self.links.job(row.pk), row.pk)


def changelist(
    admin_of_rows: RowsAdmin, request: HttpRequest, context: dict[str, Any]
) -> HttpResponse:
    """Return the changelist, rendered while its backend is the active one."""
    with use_backend(admin_of_rows.db.backend):
        response = admin_of_rows.changelist_view(request, context)
        if hasattr(response, "render"):
            response.render()
        return response
