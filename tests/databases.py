"""The test databases: reads the DJ_QUEUE_TEST_* variables and gives Django's DATABASES.

DJ_QUEUE_TEST_DATABASES is one vendor for all aliases, or one for each like
`default=postgresql,queue=mariadb,bulk=sqlite`. DJ_QUEUE_TEST_USE_TZ is true or false.
"""

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

KEPT = Path(__file__).parents[1] / ".venvs" / "servers.json"
VENDORS = ("sqlite", "postgresql", "mariadb", "mysql")
NAMES = {"default": "dj_queue_app", "queue": "dj_queue_queue", "bulk": "dj_queue_bulk"}
SCHEMES = {"postgresql": "postgresql", "mariadb": "mysql", "mysql": "mysql"}


def databases(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Give the DATABASES setting that the environment asks for."""
    vendors = vendor_by_alias(environment.get("DJ_QUEUE_TEST_DATABASES") or "sqlite")
    return {alias: _database(vendor, alias, environment) for alias, vendor in vendors.items()}


def use_tz(environment: Mapping[str, str]) -> bool:
    """Give the USE_TZ setting that the environment asks for."""
    value = environment.get("DJ_QUEUE_TEST_USE_TZ") or "true"
    if value not in ("true", "false"):
        raise ImproperlyConfigured(
            f"expected DJ_QUEUE_TEST_USE_TZ to be true or false, got {value!r}"
        )
    return value == "true"


def vendor_by_alias(value: str) -> dict[str, str]:
    """Map each alias to the vendor that DJ_QUEUE_TEST_DATABASES names for it."""
    if value in VENDORS:
        return dict.fromkeys(NAMES, value)
    pairs = dict(part.strip().partition("=")[::2] for part in value.split(","))
    if set(pairs) != set(NAMES) or not set(pairs.values()) <= set(VENDORS):
        raise ImproperlyConfigured(
            f"expected DJ_QUEUE_TEST_DATABASES to be one of {', '.join(VENDORS)}, or a vendor for "
            f"each alias like default=postgresql,queue=mariadb,bulk=sqlite, got {value!r}"
        )
    return {alias: pairs[alias] for alias in NAMES}


def _database(vendor: str, alias: str, environment: Mapping[str, str]) -> dict[str, Any]:
    name = NAMES[alias]
    if suffix := environment.get("DJ_QUEUE_TEST_SUFFIX"):
        name = f"{name}_{suffix.replace('-', '_')}"
    test_name = f"test_{name}"
    # A process started by a test reads and writes the databases of that test.
    if environment.get("DJ_QUEUE_TEST_CHILD"):
        name = test_name
    if vendor == "sqlite":
        return _sqlite(name, test_name)
    server = _server(vendor, environment)
    if vendor == "postgresql":
        return {"ENGINE": "django.db.backends.postgresql", "NAME": name, **server}
    return {
        "ENGINE": "django.db.backends.mysql",
        "NAME": name,
        **server,
        "OPTIONS": {"charset": "utf8mb4", "isolation_level": "read committed"},
        "TEST": {"CHARSET": "utf8mb4"},
    }


def _sqlite(name: str, test_name: str) -> dict[str, Any]:
    directory = _directory(os.environ)
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": directory / f"{name}.sqlite3" if directory else ":memory:",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
        # A file, not memory: threads and processes share it.
        "TEST": {"NAME": directory / f"{test_name}.sqlite3" if directory else None},
    }


def _directory(environment: MutableMapping[str, str]) -> Path | None:
    """Give the directory of this test run; mypy and makemigrations need none."""
    if inherited := environment.get("DJ_QUEUE_TEST_DIRECTORY"):
        return Path(inherited)
    if "PYTEST_VERSION" not in environment:
        return None
    directory, owner = tempfile.mkdtemp(prefix="dj_queue_test_"), os.getpid()

    def remove() -> None:
        # A forked child inherits this function, but not the directory.
        if os.getpid() == owner:
            shutil.rmtree(directory, ignore_errors=True)

    atexit.register(remove)
    environment["DJ_QUEUE_TEST_DIRECTORY"] = directory
    return Path(directory)


def address_of(vendor: str, environment: Mapping[str, str]) -> str | None:
    """Give the address of a vendor's server: the one that is named, or that bin/servers keeps."""
    return environment.get(f"DJ_QUEUE_TEST_{vendor.upper()}") or _kept_server(vendor)


def _kept_server(vendor: str) -> str | None:
    """Give the address of the server that bin/servers keeps up."""
    if not KEPT.is_file():
        return None
    entries = json.loads(KEPT.read_text(encoding="utf-8"))
    return next((entry["url"] for entry in entries if entry["vendor"] == vendor), None)


def _server(vendor: str, environment: Mapping[str, str]) -> dict[str, Any]:
    variable, scheme = f"DJ_QUEUE_TEST_{vendor.upper()}", SCHEMES[vendor]
    example = f"{scheme}://user:password@127.0.0.1:port"
    address = address_of(vendor, environment)
    if not address:
        raise ImproperlyConfigured(
            f"expected {variable} to be the address of a {vendor} server like {example}, got "
            f"nothing; set it, or start a server with: bin/servers up {vendor}"
        )
    try:
        url = urlsplit(address)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme != scheme or not url.hostname or not url.username:
        raise ImproperlyConfigured(f"expected {variable} to be like {example}, got {address!r}")
    return {
        "HOST": url.hostname,
        "PORT": port or "",
        "USER": unquote(url.username),
        "PASSWORD": unquote(url.password or ""),
    }
