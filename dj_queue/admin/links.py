"""Addresses of the dashboard: each of them keeps the backend in its path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme


@dataclass(frozen=True)
class Links:
    """The addresses of one backend's pages in an admin site."""

    site: str
    backend: str

    def to(self, name: str, **parts: Any) -> str:
        """Return the address of a page by the end of its name."""
        own = {"backend": self.backend, **parts}
        return reverse(f"{self.site}:dj_queue_dashboard_{name}", kwargs=own)

    def overview(self) -> str:
        """Return the address of the backend's page."""
        return self.to("backend")

    def of_backend(self, backend: str) -> str:
        """Return the address of another backend's page."""
        return Links(self.site, backend).overview()

    def root(self) -> str:
        """Return the address that leads to a backend's page."""
        return reverse(f"{self.site}:dj_queue_dashboard_changelist")

    def queue(self, queue: str, state: str = "ready") -> str:
        """Return the address of a queue's page."""
        return self.to("queue", queue=queue, state=state)

    def jobs(self, **filters: str) -> str:
        """Return the address of the list of jobs, filtered."""
        return f"{self.to('jobs')}?{urlencode(filters)}" if filters else self.to("jobs")

    def job(self, job_id: UUID) -> str:
        """Return the address of a job's page."""
        return f"{self._jobs}{job_id}/"

    @cached_property
    def _jobs(self) -> str:
        # Reversed once: a page links a hundred of them.
        return self.to("jobs")

    def back(self, request: HttpRequest) -> str:
        """Return where a form wants to return to, if that is a page of this backend."""
        address = request.POST.get("next", "")
        is_ours = address.startswith(self.overview()) and url_has_allowed_host_and_scheme(
            address, allowed_hosts={request.get_host()}
        )
        return address if is_ours else self.overview()
