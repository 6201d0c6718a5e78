"""The survey in the admin."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from survey.models import SourceFile


@admin.register(SourceFile)
class SourceFileAdmin(admin.ModelAdmin):
    """Read only: the jobs write these rows."""

    list_display = (
        "path",
        "lines",
        "functions",
        "classes",
        "longest_function_lines",
        "longest_function",
        "done_at",
    )
    ordering = ("-longest_function_lines", "path")
    search_fields = ("path", "longest_function")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
