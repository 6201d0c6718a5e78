"""Which files are surveyed, and which backend surveys each."""

import os
from pathlib import Path

SKIPPED = {"site-packages", "dist-packages", "__pycache__"}
SMALL_BYTES = 2 * 1024
LARGE_BYTES = 48 * 1024


def source_files(root: Path) -> list[str]:
    """Give the Python files below `root`, without installed packages, in order of path."""
    found = []
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if name not in SKIPPED]
        paths = (Path(directory, name) for name in files if name.endswith(".py"))
        found += [path.relative_to(root).as_posix() for path in paths if path.is_file()]
    return sorted(found)


def backend_for(root: Path, path: str) -> str:
    """Choose by size: quick jobs must not wait behind long ones."""
    size = Path(root, path).stat().st_size
    if size < SMALL_BYTES:
        return "alerts"
    return "bulk" if size >= LARGE_BYTES else "default"
