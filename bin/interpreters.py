"""Finds the Pythons of this machine that dj_queue supports, by the names they answer to.

pyenv keeps its Pythons behind shims that answer only when PYENV_VERSION names them.
"""

from __future__ import annotations

import os
import re
import shutil
import sys

import environment
from environment import ROOT, Missing

TAG = re.compile(r"py(\d)(\d+)-")


def use(version: str | None = None) -> None:
    """Go on in the given Python (like 3.12), or else in the newest that answers by its name.

    Starts the running program again in that Python and does not return, unless it runs already.
    Raises Missing when the given one does not answer.
    """
    show()
    if version and not answers(version):
        raise Missing(
            f"expected python{version} to be on the PATH, got none; install Python {version}"
        )
    chosen = version or next(filter(answers, reversed(supported())), None)
    if chosen is None or chosen == running():
        return
    program = shutil.which(f"python{chosen}")
    os.execv(program, [program, *sys.argv])


def supported() -> list[str]:
    """List the versions that tox.ini has suites for, like 3.11, the oldest first."""
    found = TAG.findall((ROOT / "tox.ini").read_text(encoding="utf-8"))
    return [f"{major}.{minor}" for major, minor in dict.fromkeys(found)]


def running() -> str:
    """Name the version of the Python that runs this."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def answers(version: str) -> bool:
    """Tell whether python3.X answers by its name, or is the one that runs this."""
    if version == running():
        return True
    program = shutil.which(f"python{version}")
    return bool(program) and environment.run([program, "--version"])[0] == 0


def show() -> None:
    """Make every Python 3 that pyenv has answer by its name, after those chosen already."""
    if not shutil.which("pyenv"):
        return
    status, output = environment.run(["pyenv", "versions", "--bare"])
    newest: dict[str, int] = {}
    for line in output.splitlines() if status == 0 else ():
        if found := re.fullmatch(r"\s*(3\.\d+)\.(\d+)\s*", line):
            newest[found[1]] = max(int(found[2]), newest.get(found[1], 0))
    # pyenv's own python3 sets the variable to the version it runs.
    chosen = [each for each in os.environ.get("PYENV_VERSION", "").split(":") if each]
    added = [f"{minor}.{patch}" for minor, patch in newest.items()]
    if added:
        os.environ["PYENV_VERSION"] = ":".join(dict.fromkeys(chosen + added))
