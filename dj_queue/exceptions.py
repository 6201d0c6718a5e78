"""Every error the library raises itself, under one base class."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured


class DjQueueError(Exception):
    """Base class of every error that dj_queue raises."""


class InvalidOption(DjQueueError, ImproperlyConfigured):
    """A setting is unknown, of the wrong type or out of range; the message has its full path."""


class UnknownBackend(DjQueueError, ImproperlyConfigured):
    """No dj_queue backend of that name is in TASKS."""


class RoutingError(DjQueueError):
    """A row would have gone to, or come from, the wrong database."""


class AmbiguousRoute(RoutingError):
    """Several queue databases are possible and nothing says which one is meant."""


class WrongDatabase(RoutingError):
    """A row lives on, or names, another database than the one it is used with."""


class CrossDatabaseRelation(RoutingError):
    """A row refers to a row of another database, where no foreign key can reach."""


class NotSerializable(DjQueueError, TypeError, ValueError):
    """A value does not survive JSON; the message has its path inside the arguments."""


class InvalidTaskPath(DjQueueError):
    """A stored task path does not import, or names something that is not a Task."""


class InvalidArguments(DjQueueError):
    """The stored arguments of a job are not the JSON list and dict that enqueue wrote."""


class InvalidReturnValue(DjQueueError):
    """A task ran to its end, but what it returned cannot be stored."""


class InvalidSchedule(DjQueueError, ValueError):
    """A recurring task cannot be kept as asked: its key, schedule, time zone or misfire policy."""


class RecurringRefused(DjQueueError):
    """A recurring task of the settings, or a backend without dynamic ones, is not for the API."""


class UnknownRecurringTask(DjQueueError, LookupError):
    """No recurring task of that key and backend is on the queue database."""


class TransactionLeftOpen(DjQueueError):
    """A task ended inside a transaction that it had begun, which was rolled back."""


class JobDiscarded(DjQueueError):
    """A job was not stored: no slot of its concurrency key was free and its task says so."""


class ProcessExited(DjQueueError):
    """The worker process ended before the job did."""


class ProcessPruned(DjQueueError):
    """The worker process stopped beating and was given up."""


class ResultLost(DjQueueError):
    """A task ended, and its process died before what came of it was recorded."""


class RepairRefused(DjQueueError):
    """Migrations are not forgotten where any of dj_queue's tables exists."""


class MigrationInProgress(DjQueueError):
    """Another `manage.py dj_queue_migrate` has been busy on the database for too long."""


class NotMigrated(DjQueueError):
    """A queue database lacks tables or migrations; `manage.py dj_queue_migrate` brings them."""
