"""Sphinx settings; the version is read from the package without importing it."""

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "dj_queue" / "__init__.py"

project = "dj_queue"
author = "dj_queue contributors"
copyright = "dj_queue contributors"
version = release = re.findall(r'__version__ = "(.+)"', PACKAGE.read_text(encoding="utf-8"))[0]

extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"dj_queue {release}"
html_show_sourcelink = False
