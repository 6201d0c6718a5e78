"""Signals of dj_queue's own, beside those of Django's Tasks."""

from __future__ import annotations

from django.dispatch import Signal

attempt_failed = Signal()
"""Sent when a failed attempt is recorded, whether another follows or not.

Arguments: `task_result`; `attempt`, its number from 1; `exception`; `retry_at`, when the next
attempt is due, or None when there is none.
"""
