"""Throwaway database servers for the test suite: own data directory, free port, loopback only.

A server that is already running is never touched; one named by DJ_QUEUE_TEST_<VENDOR> is used
and left running.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from environment import Missing, install_packages, run, tail

START_SECONDS = 90
STOP_SECONDS = 20
DIRECTORIES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/local/mysql/bin")
# Prints the version; fails while the server does not answer.
PROBES = {
    "postgresql": "import psycopg, sys\n"
    "with psycopg.connect(sys.argv[1] + '/postgres', connect_timeout=5) as c:\n"
    "    print(c.execute('show server_version').fetchone()[0])",
    "mysql": "import MySQLdb, sys\n"
    "from urllib.parse import unquote, urlsplit\n"
    "u = urlsplit(sys.argv[1])\n"
    "user, password = unquote(u.username or 'root'), unquote(u.password or '')\n"
    "c = MySQLdb.connect(host=u.hostname, port=u.port or 3306, user=user, passwd=password,\n"
    "                    connect_timeout=5)\n"
    "q = c.cursor(); q.execute('select version()'); print(q.fetchone()[0])",
}


@dataclass(frozen=True)
class Server:
    """A server to test on; `process` and `directory` only where we started it."""

    vendor: str
    url: str
    version: str
    process: subprocess.Popen | None = None
    directory: Path | None = None

    def stop(self) -> None:
        """Stop the server and remove its data, if it is ours."""
        if self.process and self.directory:
            _end(self.process, self.directory, self.vendor)


def variable(vendor: str) -> str:
    """Name the environment variable that holds the address of a vendor's server."""
    return f"DJ_QUEUE_TEST_{vendor.upper()}"


def get(vendor: str, python: Path) -> Server:
    """Give the server that the environment names, or start one.

    `python` has the driver and is used to ask for the version. Raises Missing.
    """
    url = os.environ.get(variable(vendor))
    if not url:
        return START[vendor](python)
    status, output = probe(vendor, url, python)
    if status:
        raise Missing(f"no {vendor} answers at {variable(vendor)}={url}: {tail(output, 1)}")
    _check_vendor(vendor, output, f"{variable(vendor)}={url}")
    return Server(vendor, url, _short(output))


def probe(vendor: str, url: str, python: Path) -> tuple[int, str]:
    """Ask a server for its version; give the exit status and the answer or the error."""
    code = PROBES["postgresql" if vendor == "postgresql" else "mysql"]
    return run([str(python), "-c", code, url])


def start_postgresql(python: Path) -> Server:
    """Start PostgreSQL as another user when we are root, which it refuses to run as."""
    programs = _postgresql_programs()
    if not programs:
        install_packages(["postgresql"], "a PostgreSQL server for the tests")
        programs = _postgresql_programs()
    if not programs:
        raise Missing(_install_hint("postgresql", "initdb and postgres"))
    owner = unprivileged_user()
    directory, port = new_directory(owner), free_port()
    data = str(directory / "data")
    locale = ["--encoding=UTF8", "--locale=C", "--no-sync"]
    initdb = [str(programs / "initdb"), "-D", data, "-U", "postgres", "--auth=trust", *locale]
    postgres = [str(programs / "postgres"), "-D", data, "-p", str(port)]
    for setting in (
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
        "full_page_writes=off",
        # Statistics are those that a test takes: plans with and without them are asserted.
        "autovacuum=off",
        "max_connections=200",
    ):
        postgres += ["-c", setting]
    url = f"postgresql://postgres@127.0.0.1:{port}"
    return launch("postgresql", [initdb, postgres], url, directory, python, owner)


def start_mariadb(python: Path) -> Server:
    """Start MariaDB."""
    if not find("mariadbd") or not find("mariadb-install-db"):
        install_packages(["mariadb-server"], "a MariaDB server for the tests")
    server, initialise = find("mariadbd"), find("mariadb-install-db")
    if not server or not initialise:
        raise Missing(_install_hint("mariadb", "mariadbd and mariadb-install-db"))
    directory, port = new_directory(), free_port()
    options = ["--no-defaults", f"--datadir={directory / 'data'}", *_as_root()]
    first = [initialise, *options, "--auth-root-authentication-method=normal", "--skip-test-db"]
    command = [server, *options, *_mysql_options(directory, port)]
    return launch("mariadb", [first, command], f"mysql://root@127.0.0.1:{port}", directory, python)


def start_mysql(python: Path) -> Server:
    """Start MySQL, where `mysqld` is really MySQL: Debian's is MariaDB."""
    server = find("mysqld")
    if not server or "mariadb" in run([server, "--no-defaults", "--version"])[1].lower():
        raise Missing(_install_hint("mysql", "a mysqld that is not MariaDB's"))
    directory, port = new_directory(), free_port()
    options = ["--no-defaults", f"--datadir={directory / 'data'}", *_as_root()]
    first = [server, *options, "--initialize-insecure"]
    command = [server, *options, *_mysql_options(directory, port), "--mysqlx=0", "--skip-log-bin"]
    return launch("mysql", [first, command], f"mysql://root@127.0.0.1:{port}", directory, python)


START: dict[str, Callable[[Path], Server]] = {
    "postgresql": start_postgresql,
    "mariadb": start_mariadb,
    "mysql": start_mysql,
}


def launch(
    vendor: str,
    commands: list[list[str]],
    url: str,
    directory: Path,
    python: Path,
    owner: str | None = None,
) -> Server:
    """Run all commands but the last, start that one and wait until the server answers."""
    *first, serve = commands
    log = directory / "log"
    process = None
    try:
        with log.open("w") as output:
            shared = {
                "cwd": directory,
                "stdin": subprocess.DEVNULL,
                "stdout": output,
                "stderr": subprocess.STDOUT,
                # Ctrl-C reaches the tests first; the servers are stopped after them.
                "start_new_session": True,
                **(_identity(owner) if owner else {}),
            }
            for command in first:
                if subprocess.run(command, **shared).returncode:
                    raise Missing(f"{command[0]} failed:\n{tail(log.read_text(errors='replace'))}")
            process = subprocess.Popen(serve, **shared)
        version = _wait(vendor, url, python, process, log)
    except BaseException:
        if process:
            _end(process, directory, vendor)
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return Server(vendor, url, version, process, directory)


def _identity(owner: str) -> dict:
    return {"user": owner, "group": pwd.getpwnam(owner).pw_gid, "extra_groups": []}


def _wait(vendor: str, url: str, python: Path, process: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        status, output = probe(vendor, url, python)
        if status == 0:
            _check_vendor(vendor, output, process.args[0])
            return _short(output)
        time.sleep(0.2)
    raise Missing(f"{process.args[0]} did not start:\n{tail(log.read_text(errors='replace'))}")


def fast_shutdown(vendor: str) -> signal.Signals:
    """Give the signal that stops a server without waiting for its clients."""
    # INT is PostgreSQL's fast shutdown; TERM would wait for every client to leave.
    return signal.SIGINT if vendor == "postgresql" else signal.SIGTERM


def _end(process: subprocess.Popen, directory: Path, vendor: str) -> None:
    for sent in (fast_shutdown(vendor), signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(sent)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    shutil.rmtree(directory, ignore_errors=True)


def _mysql_options(directory: Path, port: int) -> list[str]:
    return [
        f"--port={port}",
        "--bind-address=127.0.0.1",
        f"--socket={directory / 'socket'}",
        f"--pid-file={directory / 'pid'}",
        "--max-connections=200",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=256M",
    ]


def _postgresql_programs() -> Path | None:
    config = shutil.which("pg_config")
    places = [Path(run([config, "--bindir"])[1].strip())] if config else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    places += sorted(debian, key=lambda place: int(place.parent.name.split(".")[0]), reverse=True)
    if initdb := shutil.which("initdb"):
        places.append(Path(initdb).parent)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    return None


def _check_vendor(vendor: str, version: str, place: str) -> None:
    if vendor != "postgresql" and ("mariadb" in version.lower()) != (vendor == "mariadb"):
        raise Missing(f"expected {place} to be {vendor}, got version {version.strip()}")


def _short(version: str) -> str:
    """Cut the distribution's additions: 10.11.6-MariaDB-1 is 10.11.6."""
    return version.strip().split()[0].split("-")[0]


def _install_hint(vendor: str, programs: str) -> str:
    scheme = "postgresql://postgres" if vendor == "postgresql" else "mysql://root"
    return (
        f"install {programs}, or set {variable(vendor)}={scheme}@127.0.0.1:PORT to the address "
        f"of a server (compose.yaml has one)"
    )


def find(program: str) -> str | None:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *DIRECTORIES])
    return shutil.which(program, path=path)


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


def unprivileged_user() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def new_directory(owner: str | None = None) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="dj_queue_server_"))
    if owner:
        shutil.chown(directory, owner)
    return directory


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
