"""The map of backend → connection alias, read once from settings.TASKS.

An immutable snapshot, replaced as a whole when settings change; reading it opens no connection.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import AppRegistryNotReady, ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import connections
from django.utils.module_loading import import_string

from dj_queue.conf import BackendOptions, read_options
from dj_queue.exceptions import InvalidOption, UnknownBackend
from dj_queue.quoting import text_of

BACKEND_PATH = "dj_queue.backend.DjQueueBackend"
APPLICATION_ALIAS = "default"
"""Where Django keeps an application's rows, unless a router says otherwise."""
LOCAL_HOSTS = ("", "localhost", "127.0.0.1", "::1")
ELSEWHERE = {
    "postgresql": ("service", "options"),
    "mysql": ("read_default_file", "read_default_group", "unix_socket"),
}
"""The keys of a database's OPTIONS that decide where it is, beside host, port and name."""
DEFAULT_PORTS = {"postgresql": "5432", "mysql": "3306"}


@dataclass(frozen=True)
class Route:
    """One backend of ours: its name, its database, its settings."""

    backend: str
    alias: str
    dedicated: bool | None
    params: Mapping[str, Any] = field(compare=False, repr=False)

    @cached_property
    def options(self) -> BackendOptions:
        """The checked OPTIONS; raise InvalidOption when they are wrong."""
        return read_options(self.backend, self.params)


@dataclass(frozen=True)
class PhysicalDatabase:
    """What an alias connects to; two aliases may be one server database.

    `given` is what OPTIONS has beside address and name that leads elsewhere: a service, an options
    file, a schema. Where it or `user` differs, only the server knows whether it is the same.
    """

    vendor: str
    host: str
    port: str
    name: str
    given: str = ""
    user: str = ""

    def __str__(self) -> str:
        place = f"{self.host}:{self.port}/" if self.host else ""
        given = f"({self.given})" if self.given else ""
        return " ".join(filter(None, [self.vendor, f"{place}{self.name}", given]))


Snapshot = Mapping[str, Route]

_lock = threading.Lock()
_generation = 0
_snapshot: Snapshot | None = None
_told: Mapping[str, Any] | None = None


def routes() -> Snapshot:
    """Return every backend of ours by name, in the order of TASKS."""
    global _snapshot
    while True:
        current, generation = _snapshot, _generation
        if current is not None:
            return current
        # Built outside the lock: it may import a backend class, and a thread that holds that
        # module's import lock may be waiting for us.
        built = _build(all_tasks())
        with _lock:
            if generation == _generation:
                _snapshot = built
                return built


def all_tasks() -> Mapping[str, Any]:
    """Return TASKS as it was last set, with the entries of other libraries."""
    tasks = _told
    return getattr(settings, "TASKS", {}) if tasks is None else tasks


def route(backend: str) -> Route:
    """Return a backend's route; raise UnknownBackend when TASKS has no such backend of ours."""
    known = routes()
    if backend not in known:
        names = ", ".join(map(repr, known)) or "none"
        raise UnknownBackend(f"expected a dj_queue backend of TASKS ({names}), got {backend!r}")
    return known[backend]


def database_for(backend: str) -> str:
    """Return the alias of a backend's queue database; raise InvalidOption when it has none."""
    alias = route(backend).alias
    if alias not in connections.databases:
        names = ", ".join(map(repr, connections.databases))
        raise InvalidOption(
            f"TASKS[{backend!r}]['OPTIONS']['database_alias']: "
            f"expected an alias of DATABASES ({names}), got {alias!r}"
        )
    return alias


def backends_on(alias: str) -> tuple[str, ...]:
    """Return the backends whose queue database is `alias`, in the order of TASKS."""
    return tuple(each.backend for each in routes().values() if each.alias == alias)


def databases() -> tuple[str, ...]:
    """Return the aliases of all queue databases, each once, in the order of TASKS."""
    return tuple(dict.fromkeys(each.alias for each in routes().values()))


def is_queue_database(alias: str | None) -> bool:
    """Tell whether any backend's jobs live on `alias`."""
    return alias in databases()


def is_dedicated(alias: str) -> bool:
    """Tell whether `alias` is for queue tables only.

    Where no backend says so it is, unless it is the application's database or no queue's.
    """
    said = said_dedicated(alias)
    return is_queue_database(alias) and alias != APPLICATION_ALIAS if said is None else said


def said_dedicated(alias: str) -> bool | None:
    """Return what the backends on `alias` say of it: True if any does, None if none says."""
    said = [each.dedicated for each in routes().values() if each.alias == alias]
    return True if True in said else False if False in said else None


def sole_database() -> str | None:
    """Return the only queue database there is, or None; raise InvalidOption when it is unknown."""
    aliases = databases()
    return database_for(backends_on(aliases[0])[0]) if len(aliases) == 1 else None


def physical(alias: str) -> PhysicalDatabase:
    """Return what `alias` connects to, from its settings alone."""
    connection = connections[alias]
    config, vendor = connection.settings_dict, connection.vendor
    name, options = str(config["NAME"] or ""), config.get("OPTIONS") or {}
    if vendor == "sqlite":
        in_memory = name == ":memory:" or name.startswith("file:")
        return PhysicalDatabase(
            vendor, "", "", f"{name} of {alias}" if in_memory else str(Path(name).resolve())
        )
    given = [f"{key}={options[key]}" for key in ELSEWHERE.get(vendor, ()) if options.get(key)]
    host = str(config["HOST"] or options.get("host") or "")
    port = str(config["PORT"] or options.get("port") or "")
    # A service or an options file may have what the settings lack.
    if not given:
        host = "localhost" if host in LOCAL_HOSTS else host
        port = port or DEFAULT_PORTS.get(vendor, "")
    elif host in LOCAL_HOSTS[1:]:
        host = "localhost"
    name = name or str(options.get("dbname") or options.get("database") or options.get("db") or "")
    # PostgreSQL's search_path may begin with the user's own schema, or be set for the user.
    user = str(config["USER"]) if vendor == "postgresql" else ""
    return PhysicalDatabase(vendor, host, port, name, ", ".join(given), user)


def require_installed() -> None:
    """Raise ImproperlyConfigured when dj_queue is used but is not in INSTALLED_APPS."""
    # While apps are being loaded it is too early to tell; whoever uses the models is told so.
    if apps.apps_ready and not apps.is_installed("dj_queue"):
        raise ImproperlyConfigured(
            "expected INSTALLED_APPS to have 'dj_queue', because TASKS or DATABASE_ROUTERS names "
            "it, got none of that name: add it"
        )


def import_problem(params: Any) -> str | None:
    """Say why an entry of TASKS has no class behind its BACKEND, or None when it has one."""
    try:
        _import_backend(params)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # It is another library's code: it may raise anything.
        return " ".join(f"{type(error).__name__}: {text_of(error)}".split())
    return None


def _build(tasks: Mapping[str, Any]) -> Snapshot:
    return {
        name: Route(name, *_placement(params), params)
        for name, params in tasks.items()
        if _is_ours(params)
    }


def _placement(params: Mapping[str, Any]) -> tuple[str, bool | None]:
    # Raw: a wrong option elsewhere in OPTIONS must not take the route away from the checks.
    options = params.get("OPTIONS")
    if not isinstance(options, Mapping):
        return "default", None
    dedicated = options.get("dedicated")
    is_dedicated = None if dedicated is None else dedicated is True
    return str(options.get("database_alias", "default")), is_dedicated


def _is_ours(params: Any) -> bool:
    path = params.get("BACKEND") if isinstance(params, Mapping) else None
    if path == BACKEND_PATH:
        return True
    module = str(path).rpartition(".")[0]
    if not apps.ready and module not in sys.modules:
        raise AppRegistryNotReady(f"cannot tell before apps are ready whether {path} is dj_queue's")
    try:
        ancestors = getattr(_import_backend(params), "__mro__", ())
        return any(f"{each.__module__}.{each.__qualname__}" == BACKEND_PATH for each in ancestors)
    except KeyboardInterrupt:
        raise
    except BaseException:
        # It must not stop the other backends; W008 reports it. But whoever is asked while the
        # module is being imported must not remember that it has no backend.
        if _is_being_imported(module):
            raise
        return False


def _is_being_imported(module: str) -> bool:
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def _import_backend(params: Any) -> Any:
    if not isinstance(params, Mapping):
        raise TypeError(f"expected a dict with BACKEND, got {params!r}")
    return import_string(params["BACKEND"])


def _forget(*, setting: str, value: Any = None, **_: Any) -> None:
    global _snapshot, _generation, _told
    if setting in {"TASKS", "DATABASES", "DATABASE_ROUTERS"}:
        with _lock:
            _generation += 1
            _snapshot = None
            if setting == "TASKS":
                # Not asked of the settings again: override_settings does not swap them atomically,
                # so that another thread may see no TASKS at all, or old ones from their cache.
                _told = value


setting_changed.connect(_forget, dispatch_uid="dj_queue.routers.registry")
