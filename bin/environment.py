"""What bin/test and bin/demo share: a virtual environment of their own, and system packages.

Standard library only. Everything made here lives under .venvs in the checkout.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".venvs"
MINIMUM = (3, 11)
# One driver per line: its module, and the Debian packages that building it takes.
DRIVER_MODULES = {"postgres": "psycopg", "mysql": "MySQLdb"}
DRIVER_PACKAGES = {"postgres": [], "mysql": ["libmariadb-dev", "pkg-config", "gcc"]}


class Missing(Exception):
    """Something this machine lacks; the message is the remedy."""


def make(name: str, requirements: list[str]) -> Path:
    """Make or re-use the virtual environment `.venvs/<name>` and return its python.

    `requirements` are arguments of `pip install`, run in the checkout, so "--editable=." is
    one. Raises Missing.
    """
    check_python()
    venv = VENVS / name
    stamp, wanted = venv / "stamp", _stamp(requirements)
    with _locked(name):
        if stamp.is_file() and stamp.read_text() == wanted and _python(venv).exists():
            return _python(venv)
        print(f"preparing {venv.relative_to(ROOT)}", flush=True)
        _create(venv)
        install(_python(venv), requirements)
        stamp.write_text(wanted)
    return _python(venv)


def check_python() -> None:
    """Raise Missing when the running Python is too old for dj_queue."""
    if sys.version_info < MINIMUM:
        raise Missing(
            f"expected Python {MINIMUM[0]}.{MINIMUM[1]} or later, got {platform.python_version()} "
            f"({sys.executable}); run this with a later one: python3.11 {sys.argv[0]}"
        )


def interpreter() -> str:
    """Give the Python that runs this; in an environment that is active, the one it was made of."""
    return os.path.realpath(sys.executable)


def install(python: Path, requirements: list[str]) -> None:
    """Install requirements with pip, quietly unless it fails. Raises Missing."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    status, output = run([*command, *requirements])
    if status:
        raise Missing(f"pip could not install {' '.join(requirements)}:\n{output}")


def install_driver(python: Path, extra: str) -> None:
    """Install the database driver of an extra unless it is there. Raises Missing."""
    module = DRIVER_MODULES[extra]
    importable = [str(python), "-c", f"import {module}"]
    if run(importable)[0] == 0:
        return
    try:
        install(python, optional(extra))
    except Missing:
        packages = DRIVER_PACKAGES[extra] + _headers()
        if not packages:
            raise
        install_packages(packages, f"building {module}")
        install(python, optional(extra))
    status, output = run(importable)
    if status:
        raise Missing(f"{module} is installed but cannot be imported:\n{output}")


BROWSER = {"chromium": "chromium", "chromedriver": "chromium-driver"}
"""The programs and the Debian packages they come with."""


def install_packages(packages: list[str], purpose: str) -> None:
    """Install Debian packages when we are root. Raises Missing with the command to run."""
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if not shutil.which("apt-get"):
        raise Missing(f"install what Debian calls {' '.join(packages)} ({purpose})")
    if os.geteuid() != 0:
        raise Missing(f"sudo {' '.join(command)}")
    print(f"apt-get install {' '.join(packages)} ({purpose})", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    status, output = run(command, environment)
    if status:
        run(["apt-get", "update"], environment)
        status, output = run(command, environment)
    if status:
        raise Missing(f"{' '.join(command)} failed:\n{tail(output)}")


def install_browser() -> None:
    """Install the browser of tests/browser unless it is there. Raises Missing."""
    if not all(map(shutil.which, BROWSER)):
        install_packages(list(BROWSER.values()), "a browser for the tests")


def group(name: str) -> list[str]:
    """Give the requirements of a dependency group of pyproject.toml."""
    return _pyproject()["dependency-groups"][name]


def optional(extra: str) -> list[str]:
    """Give the requirements of an extra of pyproject.toml."""
    return _pyproject()["project"]["optional-dependencies"][extra]


def run(command: list[str], environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command in the checkout; give its exit status and everything it printed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return done.returncode, done.stdout


def tail(text: str, lines: int = 15) -> str:
    """Give the last lines of a log."""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def _create(venv: Path) -> None:
    command = [interpreter(), "-m", "venv", "--clear", str(venv)]
    # Debian ships venv without ensurepip until its own package is installed.
    if run([sys.executable, "-c", "import ensurepip, venv"])[0]:
        major, minor = sys.version_info[:2]
        install_packages([f"python{major}.{minor}-venv"], "python -m venv")
    status, output = run(command)
    if status:
        raise Missing(f"{' '.join(command)} failed:\n{output}")


def _headers() -> list[str]:
    import sysconfig

    include = Path(sysconfig.get_path("include")) / "Python.h"
    return [] if include.exists() else [f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"]


def _stamp(requirements: list[str]) -> str:
    parts = [sys.version, interpreter(), str(ROOT), *requirements]
    parts.append((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _pyproject() -> dict:
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _python(venv: Path) -> Path:
    return venv / "bin" / "python"


@contextmanager
def _locked(name: str):
    VENVS.mkdir(exist_ok=True)
    with (VENVS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
