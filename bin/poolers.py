"""A throwaway PgBouncer before a PostgreSQL server: transaction mode, free port, loopback only."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import unquote, urlsplit

import servers
from environment import Missing, install_packages
from servers import Server

# Idle connections to the server end soon: DROP DATABASE waits five seconds for them at most.
CONFIG = """\
[databases]
* = host={host} port={port} user={user}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
admin_users = pgbouncer
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
query_wait_timeout = 20
server_idle_timeout = {idle_seconds}
server_tls_sslmode = disable
client_tls_sslmode = disable
"""


def start_pgbouncer(
    url: str, python: Path, *, pool_size: int = 20, idle_seconds: int = 2
) -> Server:
    """Start PgBouncer before the PostgreSQL server at `url`; its own address has no password.

    `python` has psycopg. Raises Missing. Runs as another user when we are root.
    """
    if not servers.find("pgbouncer"):
        install_packages(["pgbouncer"], "a connection pooler for the tests")
    program = servers.find("pgbouncer")
    if not program:
        raise Missing("install pgbouncer")
    place = urlsplit(url)
    owner = servers.unprivileged_user()
    directory, port = servers.new_directory(owner), servers.free_port()
    config = directory / "pgbouncer.ini"
    password = unquote(place.password or "")
    config.write_text(
        CONFIG.format(
            host=socket.gethostbyname(place.hostname or "127.0.0.1"),
            port=place.port or 5432,
            user=unquote(place.username or "postgres"),
            password=f" password={password}" if password else "",
            own_port=port,
            pool_size=pool_size,
            idle_seconds=idle_seconds,
        )
    )
    config.chmod(0o644)
    own = f"postgresql://{place.username or 'postgres'}@127.0.0.1:{port}"
    command = [program, str(config)]
    return servers.launch("postgresql", [command], own, directory, python, owner)
