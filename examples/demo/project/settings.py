"""Settings of the demo: an application database, two queue databases, three backends."""

import os
from pathlib import Path
from typing import Any

import django

BASE_DIR = Path(__file__).resolve().parent.parent
# The directory of the database files.
VAR = Path(os.environ.get("DJ_QUEUE_DEMO_VAR") or BASE_DIR / "var").resolve()

SECRET_KEY = "the demo is served to this machine only and keeps no secrets"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "project.urls"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "dj_queue",
    "survey",
]
if django.VERSION < (6, 0):
    INSTALLED_APPS.append("django_tasks")

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

if django.VERSION >= (6, 0):
    MIDDLEWARE.append("django.middleware.csp.ContentSecurityPolicyMiddleware")
# Nothing inline and nothing from elsewhere: the dashboard needs neither.
SECURE_CSP = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'"],
    "connect-src": ["'self'"],
    "form-action": ["'self'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
}

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def sqlite(name: str) -> dict[str, Any]:
    """Give the settings of a SQLite file that several processes write to."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": VAR / f"{name}.sqlite3",
        # A job is a request to Django: by default each would open its connections anew.
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            # Without IMMEDIATE a transaction that reads before it writes fails at once when
            # another writer is faster, whatever the timeout is.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }


DATABASES = {
    "default": sqlite("application"),
    "queue": sqlite("queue"),
    "bulk_queue": sqlite("bulk_queue"),
}
DATABASE_ROUTERS = ["dj_queue.routers.DjQueueRouter"]


def backend(database_alias: str) -> dict[str, Any]:
    """Give the settings of a backend whose jobs live on a queue database."""
    return {
        "BACKEND": "dj_queue.backend.DjQueueBackend",
        "OPTIONS": {
            "database_alias": database_alias,
            "dedicated": True,
            # Parsing keeps the processor busy: more threads would only take turns with it.
            "workers": [{"threads": 1}],
        },
    }


TASKS = {
    "default": backend("queue"),
    "alerts": backend("queue"),
    "bulk": backend("bulk_queue"),
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(process)d %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"dj_queue": {"handlers": ["stderr"], "level": "INFO"}},
}
